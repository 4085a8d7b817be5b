// From requests to the arguments of `forward`: one tensor for each input, with the rows of all requests.
#pragma once

#include <ATen/Functions.h>
#include <ATen/core/List.h>
#include <ATen/core/ivalue.h>

#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "binding.h"

// A request that is being executed, its response (nullptr if Triton has none for it), and which rows of the batch are
// its own.
struct Call {
  TRITONBACKEND_Request* request;
  TRITONBACKEND_Response* response = nullptr;
  int64_t first = 0, rows = 1;
};

// One input of one request, as Triton holds it.
class RequestInput {
 public:
  RequestInput(TRITONBACKEND_Request* request, const std::string& name) : name_(name) {
    const char* ignored;
    const int64_t* dims;
    uint32_t rank;
    check(TRITONBACKEND_RequestInput(request, name.c_str(), &input_));
    check(TRITONBACKEND_InputProperties(input_, &ignored, &type, &dims, &rank, &byte_size, &buffers_));
    shape = {dims, rank};
  }

  // Copies the content, which may lie in several buffers.
  void copy_to(char* target) const {
    uint64_t left = byte_size;
    for (uint32_t i = 0; i < buffers_; ++i) {
      const void* source;
      uint64_t size;
      TRITONSERVER_MemoryType memory = MEMORY_CPU;
      int64_t device = 0;
      check(TRITONBACKEND_InputBuffer(input_, i, &source, &size, &memory, &device));
      if (size > left) throw invalid("input '" + name_ + "' is larger than its shape");
      copy(target, source, size, memory, device);
      target += size;
      left -= size;
    }
    if (left) throw invalid("input '" + name_ + "' is " + std::to_string(left) + " bytes smaller than its shape");
  }

  TRITONSERVER_DataType type;
  c10::IntArrayRef shape;
  uint64_t byte_size;

 private:
  static void copy(char* target, const void* source, uint64_t size, TRITONSERVER_MemoryType memory, int64_t device) {
    at::Tensor copied;
    if (memory == MEMORY_GPU) {
      auto options = at::TensorOptions().dtype(at::kByte).device(c10::Device(c10::kCUDA, device));
      copied = at::from_blob(const_cast<void*>(source), {int64_t(size)}, options).cpu();
      source = copied.const_data_ptr();
    }
    std::copy_n(static_cast<const char*>(source), size, target);
  }

  const std::string& name_;  // of the binding, which lives longer than any request
  TRITONBACKEND_Input* input_;
  uint32_t buffers_;
};

// A tensor on the CPU with the rows of all calls; sets the rows of each call where the model takes batches.
inline at::Tensor gathered(std::span<Call> calls, const TensorConfig& config, bool batched, bool pinned) {
  std::vector<RequestInput> parts;
  parts.reserve(calls.size());
  uint64_t bytes = 0;
  int64_t rows = 0;
  for (Call& call : calls) {
    RequestInput& part = parts.emplace_back(call.request, config.name);
    if (batched) rows += call.rows = part.shape.at(0);
    bytes += part.byte_size;
    if (part.shape.slice(batched) != parts.front().shape.slice(batched))
      throw invalid("input '" + config.name + "' has different shapes in one batch");
  }
  std::vector<int64_t> shape = parts.front().shape.vec();
  if (batched) shape[0] = rows;
  const DataType* type = config.type ? config.type : find_type(&DataType::triton, parts.front().type);
  if (!type || type->is_string()) throw invalid("input '" + config.name + "' has a data type that torch does not know");
  // A fresh tensor for each batch, because a model may keep or overwrite its input.
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(type->scalar).pinned_memory(pinned));
  if (tensor.nbytes() != bytes) throw invalid("input '" + config.name + "' does not have the size of its shape");
  char* target = static_cast<char*>(tensor.mutable_data_ptr());
  for (const RequestInput& part : parts) {
    part.copy_to(target);
    target += part.byte_size;
  }
  return tensor;
}

inline bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    unsigned char lead = text[at];
    size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (!length || at + length > text.size() || lead == 0xC0 || lead == 0xC1 || lead > 0xF4) return false;
    for (size_t i = 1; i < length; ++i)
      if ((static_cast<unsigned char>(text[at + i]) & 0xC0) != 0x80) return false;
    at += length;
  }
  return true;
}

// The strings of all calls, each with a length of four bytes before it on the wire. A batch has one string in each row.
inline c10::List<std::string> gathered_strings(std::span<Call> calls, const TensorConfig& config, bool batched) {
  c10::List<std::string> texts;
  for (Call& call : calls) {
    RequestInput part(call.request, config.name);
    std::string content(part.byte_size, '\0');
    part.copy_to(content.data());
    size_t before = texts.size();
    for (size_t at = 0; at < content.size();) {
      uint32_t length = 0;
      size_t left = content.size() - at;
      if (left >= sizeof length) std::memcpy(&length, content.data() + at, sizeof length);
      if (left < sizeof length || left - sizeof length < length)
        throw invalid("input '" + config.name + "' ends within a string");
      std::string text = content.substr(at + sizeof length, length);
      if (!is_utf8(text)) throw Failure(INTERNAL, "PyTorch execute failure: input '" + config.name + "' is not utf-8");
      texts.push_back(std::move(text));
      at += sizeof length + length;
    }
    if (batched) call.rows = texts.size() - before;
  }
  return texts;
}
