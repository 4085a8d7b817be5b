// A model's configuration: what this backend reads of config.pbtxt.
#pragma once

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "datatype.h"
#include "json.h"

// An input or output tensor of the configuration.
struct TensorConfig {
  std::string name;
  const DataType* type;  // nullptr for a control tensor: the request says which type it has.
};

// A tensor of a sequence's implicit state: read from one input, written to one output.
struct StateConfig {
  TensorConfig input, output;
};

// A warm-up sample whose inputs are zeros or random: the shape of each by name, with the batch.
struct WarmUp {
  std::string name;
  std::map<std::string, std::vector<int64_t>> inputs;
};

// The whole number that a text is; nothing where it is anything else, or too large.
inline std::optional<uint32_t> whole_number(std::string_view text) {
  uint32_t number;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

class Config {
 public:
  explicit Config(const Json& json) : parameters_(json["parameters"]) {
    name = json["name"].text;
    max_batch_size = json["max_batch_size"].number();
    filename = json["default_model_filename"].text.empty() ? "model.pt" : json["default_model_filename"].text;
    for (const Json& tensor : json["input"].items) inputs.push_back(read_tensor(tensor, "input"));
    for (const Json& tensor : json["output"].items) outputs.push_back(read_tensor(tensor, "output"));
    if (outputs.empty()) throw invalid("model configuration must contain at least one output, none were specified.");
    const Json& sequences = json["sequence_batching"];
    for (const Json& control : sequences["control_input"].items) controls.push_back({control["name"].text, nullptr});
    for (const Json& state : sequences["state"].items) states.push_back(read_state(state));
    for (const Json& sample : json["model_warmup"].items) warm_ups.push_back(read_warm_up(sample));
  }

  std::string name, filename;
  int64_t max_batch_size;
  std::vector<TensorConfig> inputs, outputs, controls;
  std::vector<StateConfig> states;
  std::vector<WarmUp> warm_ups;

  // A boolean parameter; nothing where the configuration does not set it.
  std::optional<bool> flag(const std::string& key) const {
    if (!parameters_.has(key)) return std::nullopt;
    const std::string& text = parameters_[key]["string_value"].text;
    std::string lower = text;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
    if (lower == "true" || lower == "on" || lower == "1") return true;
    if (lower == "false" || lower == "off" || lower == "0") return false;
    throw invalid("parameter " + key + " is '" + text + "'; expected one of true, on, 1, false, off, 0");
  }

  // A positive whole number among the parameters; nothing where the configuration does not set it.
  std::optional<int> count(const std::string& key) const {
    if (!parameters_.has(key)) return std::nullopt;
    const std::string& text = parameters_[key]["string_value"].text;
    auto number = whole_number(text);
    if (!number || *number < 1 || *number > 999999)
      throw invalid("parameter " + key + " is '" + text + "'; expected a whole number of at least 1");
    return *number;
  }

 private:
  TensorConfig read_tensor(const Json& tensor, const std::string& role) const {
    const std::string &tensor_name = tensor["name"].text, &type_name = tensor["data_type"].text;
    const DataType* type = find_type(&DataType::config_name, type_name);
    if (!type)
      throw invalid("unsupported datatype " + type_name + " for " + role + " '" + tensor_name + "' for model '" + name +
                    "'; supported: " + joined(DATA_TYPES, &DataType::config_name));
    const Json& dims = tensor.has("reshape") ? tensor["reshape"]["shape"] : tensor["dims"];
    if (type->is_string() && dims.items.size() + (max_batch_size > 0) > 1)
      throw invalid("Triton only supports 1 dimensional List of String as " + role + " for '" + tensor_name +
                    "' for model '" + name + "'; set max_batch_size to 0");
    if (tensor["allow_ragged_batch"].text == "true" && max_batch_size > 0)
      throw invalid("input '" + tensor_name + "' of model '" + name +
                    "' allows ragged batches, which TorchScript cannot take; remove allow_ragged_batch");
    return {tensor_name, type};
  }

  WarmUp read_warm_up(const Json& sample) const {
    WarmUp read{sample["name"].text, {}};
    for (const auto& [input, content] : sample["inputs"].members) {
      if (content.has("input_data_file")) continue;
      std::vector<int64_t>& shape = read.inputs[input];
      if (max_batch_size > 0) shape.push_back(std::max<int64_t>(sample["batch_size"].number(), 1));
      for (const Json& size : content["dims"].items) shape.push_back(size.number());
    }
    return read;
  }

  StateConfig read_state(const Json& state) const {
    const DataType* type = find_type(&DataType::config_name, state["data_type"].text);
    if (!type || type->is_string())
      throw invalid("unsupported datatype " + state["data_type"].text + " for state '" + state["input_name"].text +
                    "' for model '" + name + "'");
    return {{state["input_name"].text, type}, {state["output_name"].text, type}};
  }

  Json parameters_;
};
