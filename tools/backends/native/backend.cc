// A native pytorch backend for Triton: serves TorchScript in the server's process, as NVIDIA's libtorch backend does in
// its container. This file holds the C entry points; the subjects are in the headers.
#include "instance.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Triton's functions are template arguments here and not pointers: they must be bound when they are called.
template <class State, auto get, class Handle>
static State* state_of(Handle* handle) {
  void* state = nullptr;
  check(get(handle, &state));
  return static_cast<State*>(state);
}

EXPORTED Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend*) {
  return guarded([] {
    uint32_t major, minor;
    check(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != 1 || minor < 19)
      throw Failure(UNSUPPORTED, "expected Triton's backend API 1.19 or a later 1.x, this server has " +
                    std::to_string(major) + "." + std::to_string(minor));
  });
}

EXPORTED Error* TRITONBACKEND_GetBackendAttribute(
    TRITONBACKEND_Backend*, TRITONBACKEND_BackendAttribute* attributes) {
  return TRITONBACKEND_BackendAttributeSetParallelModelInstanceLoading(attributes, true);
}

EXPORTED Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  return guarded([&] {
    auto state = std::make_unique<Model>(model);
    check(TRITONBACKEND_ModelSetState(model, state.get()));
    state.release();
  });
}

EXPORTED Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  return guarded([&] { delete state_of<Model, TRITONBACKEND_ModelState>(model); });
}

EXPORTED Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] {
    TRITONBACKEND_Model* model;
    check(TRITONBACKEND_ModelInstanceModel(instance, &model));
    auto state = std::make_unique<Instance>(instance, *state_of<Model, TRITONBACKEND_ModelState>(model));
    check(TRITONBACKEND_ModelInstanceSetState(instance, state.get()));
    state.release();
  });
}

EXPORTED Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] { delete state_of<Instance, TRITONBACKEND_ModelInstanceState>(instance); });
}

EXPORTED Error* TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, const uint32_t count) {
  return guarded([&] {
    state_of<Instance, TRITONBACKEND_ModelInstanceState>(instance)->execute({requests, count});
  });
}
