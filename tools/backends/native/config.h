// A model's configuration: what this backend reads of config.pbtxt.
#pragma once

#include <algorithm>
#include <cctype>
#include <optional>
#include <string>
#include <vector>

#include "datatype.h"
#include "json.h"

// An input or output tensor of the configuration.
struct TensorConfig {
  std::string name;
  const DataType* type;
};

// A tensor of a sequence's implicit state: read from one input, written to one output.
struct StateConfig {
  TensorConfig input;
  TensorConfig output;
};

class Config {
 public:
  explicit Config(Json json) : json_(std::move(json)) {
    name = json_["name"].text;
    max_batch_size = json_["max_batch_size"].number();
    filename = json_["default_model_filename"].text.empty() ? "model.pt" : json_["default_model_filename"].text;
    inputs = tensors("input");
    outputs = tensors("output");
    if (outputs.empty()) throw invalid("model configuration must contain at least one output, none were specified.");
    read_sequence(json_["sequence_batching"]);
  }

  std::string name, filename;
  int64_t max_batch_size;
  std::vector<TensorConfig> inputs, outputs;
  std::vector<std::string> controls;
  std::vector<StateConfig> states;

  // A boolean parameter; nothing where the configuration does not set it.
  std::optional<bool> flag(const std::string& key) const {
    auto text = parameter(key);
    if (!text) return std::nullopt;
    std::string lower = *text;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
    if (lower == "true" || lower == "on" || lower == "1") return true;
    if (lower == "false" || lower == "off" || lower == "0") return false;
    throw invalid("parameter " + key + " is '" + *text + "'; expected one of true, on, 1, false, off, 0");
  }

  // A positive whole number among the parameters; nothing where the configuration does not set it.
  std::optional<int> count(const std::string& key) const {
    auto text = parameter(key);
    if (!text) return std::nullopt;
    bool digits = !text->empty() && text->size() < 7 && std::all_of(text->begin(), text->end(), ::isdigit);
    if (!digits || std::stoi(*text) < 1)
      throw invalid("parameter " + key + " is '" + *text + "'; expected a whole number of at least 1");
    return std::stoi(*text);
  }

 private:
  std::optional<std::string> parameter(const std::string& key) const {
    const Json& parameters = json_["parameters"];
    if (!parameters.has(key)) return std::nullopt;
    return parameters[key]["string_value"].text;
  }

  std::vector<TensorConfig> tensors(const std::string& role) const {
    std::vector<TensorConfig> read;
    for (const Json& tensor : json_[role].items) read.push_back({tensor["name"].text, type_of(tensor, role)});
    return read;
  }

  const DataType* type_of(const Json& tensor, const std::string& role) const {
    const std::string& name_of_type = tensor["data_type"].text;
    const DataType* type = find_type(name_of_type);
    if (!type)
      throw invalid("unsupported datatype " + name_of_type + " for " + role + " '" + tensor["name"].text +
                    "' for model '" + name + "'; supported: " + supported_types());
    const Json& reshape = tensor["reshape"];
    size_t dims = (reshape ? reshape["shape"] : tensor["dims"]).items.size() + (max_batch_size > 0);
    if (type->triton == TYPE_BYTES && dims > 1)
      throw invalid("Triton only supports 1 dimensional List of String as " + role + " for '" + tensor["name"].text +
                    "' for model '" + name + "'; set max_batch_size to 0");
    if (tensor["allow_ragged_batch"].text == "true" && max_batch_size > 0)
      throw invalid("input '" + tensor["name"].text + "' of model '" + name +
                    "' allows ragged batches, which TorchScript cannot take; remove allow_ragged_batch");
    return type;
  }

  void read_sequence(const Json& batching) {
    for (const Json& control : batching["control_input"].items) controls.push_back(control["name"].text);
    for (const Json& state : batching["state"].items) {
      const DataType* type = find_type(state["data_type"].text);
      if (!type || type->triton == TYPE_BYTES)
        throw invalid("unsupported datatype " + state["data_type"].text + " for state '" + state["input_name"].text +
                      "' for model '" + name + "'");
      states.push_back({{state["input_name"].text, type}, {state["output_name"].text, type}});
    }
  }

  Json json_;
};
