// From what `forward` returns to responses: each request gets its rows of the outputs that it asked for.
#pragma once

#include <ATen/core/ivalue.h>

#include <cstring>
#include <vector>

#include "inputs.h"

// One output of a whole batch, checked against the configuration, contiguous and on the CPU.
class BatchOutput {
 public:
  BatchOutput(const c10::IValue& returned, const OutputBinding& binding) : binding_(binding) {
    bool is_tuple = returned.isTuple();
    size_t count = is_tuple ? returned.toTupleRef().elements().size() : 1;
    if (binding.index >= count)
      throw invalid("The output " + binding.name + " in the model configuration refers to an output index which doesn't "
                    "exist. This model has " + std::to_string(count) + " outputs");
    const c10::IValue& value = is_tuple ? returned.toTupleRef().elements()[binding.index] : returned;
    binding.type->triton == TYPE_BYTES ? read_strings(value) : read_tensor(value);
  }

  void check_rows(int64_t total) const {
    if (shape_.at(0) != total)
      throw invalid("output '" + binding_.name + "' has " + std::to_string(shape_[0]) + " rows for a batch of " +
                    std::to_string(total) + "; the model must keep the batch dimension, or set max_batch_size to 0");
  }

  // Shape and bytes of some rows; all of them for a model that takes no batches.
  std::vector<int64_t> shape(int64_t rows, bool batched) const {
    std::vector<int64_t> part = shape_;
    if (batched) part[0] = rows;
    return part;
  }
  std::string_view bytes(int64_t first, int64_t rows, bool batched) const {
    std::string_view all = binding_.type->triton == TYPE_BYTES
        ? std::string_view(strings_)
        : std::string_view(static_cast<const char*>(tensor_.const_data_ptr()), tensor_.nbytes());
    if (!batched) return all;
    size_t row = shape_[0] ? all.size() / shape_[0] : 0;
    return all.substr(first * row, rows * row);
  }
  const OutputBinding& binding() const { return binding_; }

 private:
  void read_tensor(const c10::IValue& value) {
    if (!value.isTensor()) refuse(value);
    at::Tensor tensor = value.toTensor();
    if (tensor.scalar_type() != binding_.type->scalar)
      throw invalid("configuration expects datatype " + std::string(binding_.type->torch_name) + " for output '" +
                    binding_.name + "', model provides " + torch_name(tensor.scalar_type()));
    if (!tensor.dim()) throw invalid("output '" + binding_.name + "' is a scalar; a tensor needs a dimension");
    tensor_ = tensor.cpu().contiguous();
    shape_ = tensor_.sizes().vec();
  }

  void read_strings(const c10::IValue& value) {
    if (!value.isList() || !value.toListRef().empty() && !value.toListRef()[0].isString()) refuse(value);
    for (const c10::IValue& text : value.toListRef()) {
      const std::string& content = text.toStringRef();
      uint32_t length = content.size();
      strings_.append(reinterpret_cast<const char*>(&length), sizeof length).append(content);
    }
    shape_ = {int64_t(value.toListRef().size())};
  }

  [[noreturn]] void refuse(const c10::IValue& value) const {
    throw invalid("output '" + binding_.name + "' must be of type Tensor, List[str] or Tuple containing one of these "
                  "two types, as configured; received " + value.tagKind());
  }

  const OutputBinding& binding_;
  at::Tensor tensor_;
  std::string strings_;
  std::vector<int64_t> shape_;
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

// Buffers are asked for in CPU memory; Triton copies them on to wherever the client wants them.
inline void add_to_response(const Call& call, const BatchOutput& output, int64_t first, bool batched) {
  TRITONBACKEND_Output* added;
  void* buffer;
  TRITONSERVER_MemoryType memory = MEMORY_CPU;
  int64_t device = 0;
  auto shape = output.shape(call.rows, batched);
  auto bytes = output.bytes(first, call.rows, batched);
  const OutputBinding& binding = output.binding();
  check(TRITONBACKEND_ResponseOutput(
      call.response, &added, binding.name.c_str(), binding.type->triton, shape.data(), shape.size()));
  check(TRITONBACKEND_OutputBuffer(added, &buffer, bytes.size(), &memory, &device));
  if (memory == MEMORY_GPU) throw Failure(UNSUPPORTED, "output '" + binding.name + "' was given a buffer on a GPU");
  std::memcpy(buffer, bytes.data(), bytes.size());
}

inline void update_state(const Call& call, const BatchOutput& output, int64_t first, bool batched) {
  TRITONBACKEND_State* state;
  void* buffer;
  TRITONSERVER_MemoryType memory = MEMORY_CPU;
  int64_t device = 0;
  auto shape = output.shape(call.rows, batched);
  auto bytes = output.bytes(first, call.rows, batched);
  const OutputBinding& binding = output.binding();
  check(TRITONBACKEND_StateNew(
      &state, call.request, binding.name.c_str(), binding.type->triton, shape.data(), shape.size()));
  check(TRITONBACKEND_StateBuffer(state, &buffer, bytes.size(), &memory, &device));
  if (memory == MEMORY_GPU) throw Failure(UNSUPPORTED, "state '" + binding.name + "' was given a buffer on a GPU");
  std::memcpy(buffer, bytes.data(), bytes.size());
  check(TRITONBACKEND_StateUpdate(state));
}
