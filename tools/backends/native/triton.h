// The part of Triton's backend C API (version 1) that this backend calls, declared from its documented ABI:
// https://github.com/triton-inference-server/core/blob/main/include/triton/core/tritonbackend.h
// The functions are exported by the tritonserver that loads the backend, so nothing is linked against.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct TRITONSERVER_Error;
struct TRITONSERVER_Message;
struct TRITONSERVER_Metric;
struct TRITONSERVER_MetricArgs;
struct TRITONSERVER_MetricFamily;
struct TRITONSERVER_Parameter;
struct TRITONBACKEND_Backend;
struct TRITONBACKEND_BackendAttribute;
struct TRITONBACKEND_Model;
struct TRITONBACKEND_ModelInstance;
struct TRITONBACKEND_Request;
struct TRITONBACKEND_Response;
struct TRITONBACKEND_Input;
struct TRITONBACKEND_Output;
struct TRITONBACKEND_State;

enum TRITONSERVER_Error_Code : int { UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED };
enum TRITONSERVER_InstanceGroupKind : int { KIND_AUTO, KIND_CPU, KIND_GPU, KIND_MODEL };
enum TRITONSERVER_MemoryType : int { MEMORY_CPU, MEMORY_CPU_PINNED, MEMORY_GPU };
enum TRITONSERVER_MetricKind : int { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM };
enum TRITONSERVER_ParameterType : int { PARAMETER_STRING };
enum TRITONSERVER_DataType : int {
  TYPE_INVALID, TYPE_BOOL, TYPE_UINT8, TYPE_UINT16, TYPE_UINT32, TYPE_UINT64, TYPE_INT8, TYPE_INT16, TYPE_INT32,
  TYPE_INT64, TYPE_FP16, TYPE_FP32, TYPE_FP64, TYPE_BYTES, TYPE_BF16
};
constexpr uint32_t RESPONSE_COMPLETE_FINAL = 1;
constexpr uint32_t REQUEST_RELEASE_ALL = 1;

using Error = TRITONSERVER_Error;

Error* TRITONSERVER_ErrorNew(TRITONSERVER_Error_Code code, const char* message);
void TRITONSERVER_ErrorDelete(Error* error);
const char* TRITONSERVER_ErrorMessage(Error* error);
Error* TRITONSERVER_MessageSerializeToJson(TRITONSERVER_Message* message, const char** base, size_t* size);
Error* TRITONSERVER_MessageDelete(TRITONSERVER_Message* message);

TRITONSERVER_Parameter* TRITONSERVER_ParameterNew(
    const char* name, TRITONSERVER_ParameterType type, const void* value);
void TRITONSERVER_ParameterDelete(TRITONSERVER_Parameter* parameter);
Error* TRITONSERVER_MetricFamilyNew(
    TRITONSERVER_MetricFamily** family, TRITONSERVER_MetricKind kind, const char* name, const char* description);
Error* TRITONSERVER_MetricArgsNew(TRITONSERVER_MetricArgs** args);
Error* TRITONSERVER_MetricArgsSetHistogram(TRITONSERVER_MetricArgs* args, const double* buckets, uint64_t count);
Error* TRITONSERVER_MetricArgsDelete(TRITONSERVER_MetricArgs* args);
Error* TRITONSERVER_MetricNewWithArgs(
    TRITONSERVER_Metric** metric, TRITONSERVER_MetricFamily* family, const TRITONSERVER_Parameter** labels,
    uint64_t label_count, const TRITONSERVER_MetricArgs* args);
Error* TRITONSERVER_MetricObserve(TRITONSERVER_Metric* metric, double value);
Error* TRITONSERVER_MetricDelete(TRITONSERVER_Metric* metric);

Error* TRITONBACKEND_ApiVersion(uint32_t* major, uint32_t* minor);
Error* TRITONBACKEND_BackendAttributeSetParallelModelInstanceLoading(TRITONBACKEND_BackendAttribute*, bool enabled);

Error* TRITONBACKEND_ModelConfig(TRITONBACKEND_Model*, uint32_t config_version, TRITONSERVER_Message** config);
Error* TRITONBACKEND_ModelRepository(TRITONBACKEND_Model*, int* artifact_type, const char** location);
Error* TRITONBACKEND_ModelVersion(TRITONBACKEND_Model*, uint64_t* version);
Error* TRITONBACKEND_ModelState(TRITONBACKEND_Model*, void** state);
Error* TRITONBACKEND_ModelSetState(TRITONBACKEND_Model*, void* state);

Error* TRITONBACKEND_ModelInstanceModel(TRITONBACKEND_ModelInstance*, TRITONBACKEND_Model** model);
Error* TRITONBACKEND_ModelInstanceKind(TRITONBACKEND_ModelInstance*, TRITONSERVER_InstanceGroupKind* kind);
Error* TRITONBACKEND_ModelInstanceDeviceId(TRITONBACKEND_ModelInstance*, int32_t* device_id);
Error* TRITONBACKEND_ModelInstanceState(TRITONBACKEND_ModelInstance*, void** state);
Error* TRITONBACKEND_ModelInstanceSetState(TRITONBACKEND_ModelInstance*, void* state);
Error* TRITONBACKEND_ModelInstanceReportStatistics(
    TRITONBACKEND_ModelInstance*, TRITONBACKEND_Request*, bool success, uint64_t execution_start_ns,
    uint64_t compute_start_ns, uint64_t compute_end_ns, uint64_t execution_end_ns);
Error* TRITONBACKEND_ModelInstanceReportBatchStatistics(
    TRITONBACKEND_ModelInstance*, uint64_t batch_size, uint64_t execution_start_ns, uint64_t compute_start_ns,
    uint64_t compute_end_ns, uint64_t execution_end_ns);

Error* TRITONBACKEND_RequestInput(TRITONBACKEND_Request*, const char* name, TRITONBACKEND_Input** input);
Error* TRITONBACKEND_RequestOutputCount(TRITONBACKEND_Request*, uint32_t* count);
Error* TRITONBACKEND_RequestOutputName(TRITONBACKEND_Request*, uint32_t index, const char** name);
Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request*, uint32_t flags);
Error* TRITONBACKEND_InputProperties(
    TRITONBACKEND_Input*, const char** name, TRITONSERVER_DataType* type, const int64_t** shape, uint32_t* dims_count,
    uint64_t* byte_size, uint32_t* buffer_count);
Error* TRITONBACKEND_InputBuffer(
    TRITONBACKEND_Input*, uint32_t index, const void** buffer, uint64_t* byte_size, TRITONSERVER_MemoryType* memory,
    int64_t* memory_id);

Error* TRITONBACKEND_ResponseNew(TRITONBACKEND_Response** response, TRITONBACKEND_Request*);
Error* TRITONBACKEND_ResponseOutput(
    TRITONBACKEND_Response*, TRITONBACKEND_Output** output, const char* name, TRITONSERVER_DataType type,
    const int64_t* shape, uint32_t dims_count);
Error* TRITONBACKEND_OutputBuffer(
    TRITONBACKEND_Output*, void** buffer, uint64_t byte_size, TRITONSERVER_MemoryType* memory, int64_t* memory_id);
Error* TRITONBACKEND_ResponseSend(TRITONBACKEND_Response*, uint32_t flags, Error* error);

Error* TRITONBACKEND_StateNew(
    TRITONBACKEND_State** state, TRITONBACKEND_Request*, const char* name, TRITONSERVER_DataType type,
    const int64_t* shape, uint32_t dims_count);
Error* TRITONBACKEND_StateBuffer(
    TRITONBACKEND_State*, void** buffer, uint64_t byte_size, TRITONSERVER_MemoryType* memory, int64_t* memory_id);
Error* TRITONBACKEND_StateUpdate(TRITONBACKEND_State*);

}  // extern "C"
