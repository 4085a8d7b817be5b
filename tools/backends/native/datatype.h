// Data types that a TorchScript model can take and return through Triton.
#pragma once

#include <c10/core/ScalarType.h>

#include <functional>
#include <string>

#include "failure.h"

struct DataType {
  const char* config_name;
  const char* torch_name;
  TRITONSERVER_DataType triton;
  c10::ScalarType scalar;

  bool is_string() const { return triton == TYPE_BYTES; }
};

// BF16 and unsigned types above 8 bits are not supported by NVIDIA's backend either.
inline constexpr DataType DATA_TYPES[] = {
    {"TYPE_BOOL", "torch.bool", TYPE_BOOL, c10::ScalarType::Bool},
    {"TYPE_UINT8", "torch.uint8", TYPE_UINT8, c10::ScalarType::Byte},
    {"TYPE_INT8", "torch.int8", TYPE_INT8, c10::ScalarType::Char},
    {"TYPE_INT16", "torch.int16", TYPE_INT16, c10::ScalarType::Short},
    {"TYPE_INT32", "torch.int32", TYPE_INT32, c10::ScalarType::Int},
    {"TYPE_INT64", "torch.int64", TYPE_INT64, c10::ScalarType::Long},
    {"TYPE_FP16", "torch.float16", TYPE_FP16, c10::ScalarType::Half},
    {"TYPE_FP32", "torch.float32", TYPE_FP32, c10::ScalarType::Float},
    {"TYPE_FP64", "torch.float64", TYPE_FP64, c10::ScalarType::Double},
    {"TYPE_STRING", "str", TYPE_BYTES, c10::ScalarType::Undefined},
};

// The first data type whose member has a value: `find_type(&DataType::triton, TYPE_FP32)`; nullptr for an unknown one.
template <class Member, class Value>
const DataType* find_type(Member member, const Value& value) {
  for (const DataType& type : DATA_TYPES)
    if (value == type.*member) return &type;
  return nullptr;
}

inline std::string torch_name(c10::ScalarType scalar) {
  const DataType* type = find_type(&DataType::scalar, scalar);
  return type ? type->torch_name : c10::toString(scalar);
}

// The names of items, separated by commas; `name` is a member, or a method without arguments.
template <class Items, class Name>
std::string joined(const Items& items, Name name) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : ", ") + std::string(std::invoke(name, item));
  return text;
}
