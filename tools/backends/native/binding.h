// Which tensor of a request becomes which argument of `forward`, and which element of its result an output is.
// The rules are those of NVIDIA's backend ("naming convention" in its documentation); binding.py has the same in Python.
#pragma once

#include <ATen/core/function_schema.h>

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "config.h"

struct OutputBinding {
  std::string name;
  const DataType* type;
  size_t index;  // in what `forward` returns
};

struct Binding {
  std::vector<TensorConfig> inputs;  // in the order in which `forward` takes them
  bool as_dict = false;              // or the entries of its one Dict(str, Tensor) argument
  std::vector<OutputBinding> outputs, states;
};

using Arguments = std::span<const c10::Argument>;

// The number after the last "__" of a name.
inline std::optional<size_t> index_of(const std::string& name) {
  size_t at = name.rfind("__");
  return at == std::string::npos ? std::nullopt : std::optional<size_t>(whole_number(name.substr(at + 2)));
}

inline size_t required_index(const std::string& name, const std::string& role) {
  auto index = index_of(name);
  if (!index) throw invalid(role + " '" + name + "' does not follow <name>__<index> naming convention.");
  return *index;
}

// The place that a function finds for every name, or nothing where it finds none for one.
template <class Find>
std::optional<std::vector<size_t>> places_of(const std::vector<TensorConfig>& tensors, Find find) {
  std::vector<size_t> places;
  for (const TensorConfig& tensor : tensors) {
    std::optional<size_t> place = find(tensor.name);
    if (!place) return std::nullopt;
    places.push_back(*place);
  }
  return places;
}

// The configuration's inputs, the control tensors of sequences and their states.
inline std::vector<TensorConfig> requested_tensors(const Config& config) {
  std::vector<TensorConfig> tensors = config.inputs;
  for (const TensorConfig& control : config.controls) {
    required_index(control.name, "input");
    tensors.push_back(control);
  }
  for (const StateConfig& state : config.states) {
    required_index(state.input.name, "state");
    tensors.push_back(state.input);
  }
  return tensors;
}

inline void check_arguments(const std::string& model, Arguments arguments, size_t expected) {
  for (const c10::Argument& argument : arguments) {
    c10::TypeKind kind = argument.type()->kind();
    if (kind != c10::TypeKind::TensorType && kind != c10::TypeKind::ListType)
      throw invalid("An input of type '" + std::string(c10::typeKindToString(kind)) +
                    "' was detected in the model (argument '" + argument.name() +
                    "'). Only a single input of type Dict(str, Tensor) or input(s) of type Tensor are supported.");
  }
  if (arguments.size() != expected)
    throw invalid("unable to load model '" + model + "', configuration expects " + std::to_string(expected) +
                  " inputs, model provides " + std::to_string(arguments.size()));
}

// By argument if all names are arguments, else by index if all have one, else as the configuration lists them.
inline std::vector<TensorConfig> ordered(const std::vector<TensorConfig>& tensors, Arguments arguments) {
  auto places = places_of(tensors, [&](const std::string& name) -> std::optional<size_t> {
    for (size_t i = 0; i < arguments.size(); ++i)
      if (arguments[i].name() == name) return i;
    return std::nullopt;
  });
  if (!places) {
    places = places_of(tensors, index_of);
    if (!places) return tensors;
    std::set<size_t> unique(places->begin(), places->end());
    if (unique.size() != tensors.size() || *unique.rbegin() != tensors.size() - 1)
      throw invalid("inputs " + joined(tensors, &TensorConfig::name) + ": expected the indices 0 to " +
                    std::to_string(tensors.size() - 1) + " after '__', each once; forward takes (" +
                    joined(arguments, &c10::Argument::name) + ")");
  }
  std::multimap<size_t, TensorConfig> by_place;
  for (size_t i = 0; i < tensors.size(); ++i) by_place.emplace((*places)[i], tensors[i]);
  std::vector<TensorConfig> sorted;
  for (const auto& [place, tensor] : by_place) sorted.push_back(tensor);
  return sorted;
}

// Throws Failure where the configuration and the signature of `forward` do not fit together.
inline Binding bind(const Config& config, const c10::FunctionSchema& schema) {
  Binding binding;
  Arguments arguments = Arguments(schema.arguments()).subspan(1);  // The first is self.
  binding.inputs = requested_tensors(config);
  binding.as_dict = arguments.size() == 1 && arguments[0].type()->kind() == c10::TypeKind::DictType;
  if (!binding.as_dict) {
    check_arguments(config.name, arguments, binding.inputs.size());
    binding.inputs = ordered(binding.inputs, arguments);
  }
  auto indices = places_of(config.outputs, index_of);
  for (size_t i = 0; i < config.outputs.size(); ++i)
    binding.outputs.push_back({config.outputs[i].name, config.outputs[i].type, indices ? (*indices)[i] : i});
  for (const auto& [input, output] : config.states)
    binding.states.push_back({output.name, output.type, required_index(output.name, "state")});
  return binding;
}
