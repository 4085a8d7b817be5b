// From what `forward` returns to responses: each request gets its rows of the outputs that it asked for.
#pragma once

#include <ATen/core/ivalue.h>

#include <vector>

#include "inputs.h"

// One output of a whole batch, checked against the configuration, contiguous and on the CPU.
class BatchOutput {
 public:
  // `rows` is what the batch has; nothing for a model that takes no batches.
  BatchOutput(const c10::IValue& returned, const OutputBinding& binding, std::optional<int64_t> rows)
      : binding_(binding), batched_(rows) {
    size_t count = returned.isTuple() ? returned.toTupleRef().elements().size() : 1;
    if (binding.index >= count)
      throw invalid("The output " + binding.name + " in the model configuration refers to an output index which doesn't "
                    "exist. This model has " + std::to_string(count) + " outputs");
    const c10::IValue& value = returned.isTuple() ? returned.toTupleRef().elements()[binding.index] : returned;
    if (binding.type->is_string())
      read_strings(value);
    else
      read_tensor(value);
    if (rows && shape_[0] != *rows)
      throw invalid("output '" + binding.name + "' has " + std::to_string(shape_[0]) + " rows for a batch of " +
                    std::to_string(*rows) + "; the model must keep the batch dimension, or set max_batch_size to 0");
  }

  void add_to_response(const Call& call) const {
    TRITONBACKEND_Output* output;
    auto shape = shape_of(call);
    check(TRITONBACKEND_ResponseOutput(
        call.response, &output, binding_.name.c_str(), binding_.type->triton, shape.data(), shape.size()));
    fill<TRITONBACKEND_OutputBuffer>(output, call);
  }

  void update_state(const Call& call) const {
    TRITONBACKEND_State* state;
    auto shape = shape_of(call);
    check(TRITONBACKEND_StateNew(
        &state, call.request, binding_.name.c_str(), binding_.type->triton, shape.data(), shape.size()));
    fill<TRITONBACKEND_StateBuffer>(state, call);
    check(TRITONBACKEND_StateUpdate(state));
  }

 private:
  void read_tensor(const c10::IValue& value) {
    if (!value.isTensor()) refuse(value);
    at::Tensor tensor = value.toTensor();
    if (tensor.scalar_type() != binding_.type->scalar)
      throw invalid("configuration expects datatype " + std::string(binding_.type->torch_name) + " for output '" +
                    binding_.name + "', model provides " + torch_name(tensor.scalar_type()));
    if (!tensor.dim()) throw invalid("output '" + binding_.name + "' is a scalar; a tensor needs a dimension");
    // Torch may have left a change of sign, as of an imaginary part, to whoever reads the memory.
    tensor_ = tensor.cpu().contiguous().resolve_neg();
    shape_ = tensor_.sizes().vec();
    bytes_ = {static_cast<const char*>(tensor_.const_data_ptr()), tensor_.nbytes()};
  }

  void read_strings(const c10::IValue& value) {
    if (!value.isList() || (!value.toListRef().empty() && !value.toListRef()[0].isString())) refuse(value);
    for (const c10::IValue& text : value.toListRef()) {
      const std::string& content = text.toStringRef();
      uint32_t length = content.size();
      if (length != content.size()) throw invalid("output '" + binding_.name + "' has a string of 4 GiB or more");
      string_starts_.push_back(strings_.size());
      strings_.append(reinterpret_cast<const char*>(&length), sizeof length).append(content);
    }
    string_starts_.push_back(strings_.size());
    shape_ = {int64_t(value.toListRef().size())};
    bytes_ = strings_;
  }

  [[noreturn]] void refuse(const c10::IValue& value) const {
    throw invalid("output '" + binding_.name + "' must be of type Tensor, List[str] or Tuple containing one of these "
                  "two types, as configured; received " + value.tagKind());
  }

  // The rows of one call; everything for a model that takes no batches.
  std::vector<int64_t> shape_of(const Call& call) const {
    std::vector<int64_t> shape = shape_;
    if (batched_) shape[0] = call.rows;
    return shape;
  }

  std::string_view bytes_of(const Call& call) const {
    if (!batched_) return bytes_;
    auto start_of = [&](int64_t row) {
      return binding_.type->is_string() ? string_starts_.at(row) : shape_[0] ? bytes_.size() / shape_[0] * row : 0;
    };
    size_t start = start_of(call.first);
    return bytes_.substr(start, start_of(call.first + call.rows) - start);
  }

  // Buffers are asked for in CPU memory; Triton copies them on to wherever the client wants them.
  template <auto get_buffer, class Target>
  void fill(Target* target, const Call& call) const {
    void* buffer;
    TRITONSERVER_MemoryType memory = MEMORY_CPU;
    int64_t device = 0;
    auto bytes = bytes_of(call);
    check(get_buffer(target, &buffer, bytes.size(), &memory, &device));
    if (memory == MEMORY_GPU) throw Failure(UNSUPPORTED, "'" + binding_.name + "' was given a buffer on a GPU");
    std::copy(bytes.begin(), bytes.end(), static_cast<char*>(buffer));
  }

  const OutputBinding& binding_;
  const bool batched_;
  std::vector<int64_t> shape_;
  std::string_view bytes_;  // of tensor_ or strings_
  at::Tensor tensor_;
  std::string strings_;
  std::vector<size_t> string_starts_;  // and the end of the last
};

inline bool asks_for(TRITONBACKEND_Request* request, const std::string& output) {
  uint32_t count = 0;
  check(TRITONBACKEND_RequestOutputCount(request, &count));
  for (uint32_t i = 0; i < count; ++i) {
    const char* name;
    check(TRITONBACKEND_RequestOutputName(request, i, &name));
    if (output == name) return true;
  }
  return false;
}
