// Which tensor of a request becomes which argument of `forward`, and which element of its result an output is.
// The rules are those of NVIDIA's backend ("naming convention" in its documentation); binding.py has the same in Python.
#pragma once

#include <ATen/core/function_schema.h>

#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "config.h"

// Inputs in the order in which `forward` takes them, or the entries of its one Dict(str, Tensor) argument.
struct InputBinding {
  std::vector<TensorConfig> tensors;
  bool as_dict = false;
};

struct OutputBinding {
  std::string name;
  const DataType* type;
  size_t index;  // in what `forward` returns
};

// The number after the last "__" of a name.
inline std::optional<size_t> index_of(const std::string& name) {
  size_t at = name.rfind("__");
  if (at == std::string::npos || at + 2 == name.size() || name.size() - at > 9) return std::nullopt;
  if (!std::all_of(name.begin() + at + 2, name.end(), ::isdigit)) return std::nullopt;
  return std::stoul(name.substr(at + 2));
}

// The index of every name, or nothing where one has none.
inline std::optional<std::vector<size_t>> indices_of(const std::vector<TensorConfig>& tensors) {
  std::vector<size_t> indices;
  for (const TensorConfig& tensor : tensors) {
    auto index = index_of(tensor.name);
    if (!index) return std::nullopt;
    indices.push_back(*index);
  }
  return indices;
}

inline size_t required_index(const std::string& name, const std::string& role) {
  auto index = index_of(name);
  if (!index) throw invalid(role + " '" + name + "' does not follow <name>__<index> naming convention.");
  return *index;
}

inline std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

class Binder {
 public:
  // Throws Failure where the configuration and the signature of `forward` do not fit together.
  Binder(const Config& config, const c10::FunctionSchema& schema) : config_(config) {
    for (size_t i = 1; i < schema.arguments().size(); ++i) {  // 0 is self.
      names_.push_back(schema.arguments()[i].name());
      kinds_.push_back(schema.arguments()[i].type()->kind());
    }
  }

  InputBinding inputs() const {
    std::vector<TensorConfig> tensors = requested();
    if (kinds_ == std::vector{c10::TypeKind::DictType}) return {tensors, true};
    check_arguments(tensors.size());
    return {ordered(tensors)};
  }

  std::vector<OutputBinding> outputs() const { return bound(config_.outputs, indices_of(config_.outputs)); }

  std::vector<OutputBinding> states() const {
    std::vector<OutputBinding> bound;
    for (const StateConfig& state : config_.states)
      bound.push_back({state.output.name, state.output.type, required_index(state.output.name, "state")});
    return bound;
  }

 private:
  // The configuration's inputs, the control tensors of sequences and their states.
  std::vector<TensorConfig> requested() const {
    std::vector<TensorConfig> tensors = config_.inputs;
    for (const std::string& control : config_.controls) {
      required_index(control, "input");
      tensors.push_back({control, nullptr});  // The request says which type it has.
    }
    for (const StateConfig& state : config_.states) {
      required_index(state.input.name, "state");
      tensors.push_back(state.input);
    }
    return tensors;
  }

  void check_arguments(size_t expected) const {
    for (size_t i = 0; i < kinds_.size(); ++i)
      if (kinds_[i] != c10::TypeKind::TensorType && kinds_[i] != c10::TypeKind::ListType)
        throw invalid("An input of type '" + std::string(c10::typeKindToString(kinds_[i])) +
                      "' was detected in the model (argument '" + names_[i] +
                      "'). Only a single input of type Dict(str, Tensor) or input(s) of type Tensor are supported.");
    if (kinds_.size() != expected)
      throw invalid("unable to load model '" + config_.name + "', configuration expects " + std::to_string(expected) +
                    " inputs, model provides " + std::to_string(kinds_.size()));
  }

  // By argument if all names are arguments, else by index if all have one, else as the configuration lists them.
  std::vector<TensorConfig> ordered(const std::vector<TensorConfig>& tensors) const {
    if (auto positions = argument_positions(tensors)) return sorted(tensors, *positions);
    auto indices = indices_of(tensors);
    if (!indices) return tensors;
    std::set<size_t> unique(indices->begin(), indices->end());
    if (unique.size() != tensors.size() || *unique.rbegin() != tensors.size() - 1) refuse_indices(tensors);
    return sorted(tensors, *indices);
  }

  std::optional<std::vector<size_t>> argument_positions(const std::vector<TensorConfig>& tensors) const {
    std::vector<size_t> positions;
    for (const TensorConfig& tensor : tensors) {
      auto argument = std::find(names_.begin(), names_.end(), tensor.name);
      if (argument == names_.end()) return std::nullopt;
      positions.push_back(argument - names_.begin());
    }
    return positions;
  }

  static std::vector<TensorConfig> sorted(const std::vector<TensorConfig>& tensors, const std::vector<size_t>& keys) {
    std::vector<size_t> order(tensors.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return keys[a] < keys[b]; });
    std::vector<TensorConfig> sorted;
    for (size_t number : order) sorted.push_back(tensors[number]);
    return sorted;
  }

  [[noreturn]] void refuse_indices(const std::vector<TensorConfig>& tensors) const {
    std::vector<std::string> listed;
    for (const TensorConfig& tensor : tensors) listed.push_back(tensor.name);
    throw invalid("inputs " + joined(listed) + ": expected the indices 0 to " + std::to_string(tensors.size() - 1) +
                  " after '__', each once; forward takes (" + joined(names_) + ")");
  }

  static std::vector<OutputBinding> bound(
      const std::vector<TensorConfig>& tensors, const std::optional<std::vector<size_t>>& indices) {
    std::vector<OutputBinding> outputs;
    for (size_t i = 0; i < tensors.size(); ++i)
      outputs.push_back({tensors[i].name, tensors[i].type, indices ? (*indices)[i] : i});
    return outputs;
  }

  const Config& config_;
  std::vector<std::string> names_;
  std::vector<c10::TypeKind> kinds_;
};
