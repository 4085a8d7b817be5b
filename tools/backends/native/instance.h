// An instance of a model: executes each batch in one call of `forward`.
#pragma once

#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/passes/tensorexpr_fuser.h>

#include <chrono>

#include "module.h"
#include "outputs.h"

inline uint64_t nanoseconds() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

// The moments of an execution that Triton's statistics are made of.
struct Times {
  uint64_t start = nanoseconds(), compute_start = 0, compute_end = 0;
};

class Instance {
 public:
  Instance(TRITONBACKEND_ModelInstance* instance, Model& model) : instance_(instance), model_(model) {
    TRITONSERVER_InstanceGroupKind kind;
    int32_t id;
    check(TRITONBACKEND_ModelInstanceKind(instance, &kind));
    check(TRITONBACKEND_ModelInstanceDeviceId(instance, &id));
    choose_device(kind, id);
    use_threads();
    module_ = model.load(kind == KIND_MODEL ? std::nullopt : std::optional(device_));
    auto method = module_->find_method("forward");
    if (!method) throw invalid("model '" + model.config.name + "' has no method forward");
    forward_ = &method->function();
    Binder binder(model.config, forward_->getSchema());
    inputs_ = binder.inputs();
    outputs_ = binder.outputs();
    states_ = binder.states();
  }

  void execute(TRITONBACKEND_Request** requests, uint32_t count) {
    use_threads();
    if (batched() || count == 1) return execute_batch(requests, count);
    for (uint32_t i = 0; i < count; ++i) execute_batch(requests + i, 1);
  }

 private:
  bool batched() const { return model_.config.max_batch_size > 0; }

  void choose_device(TRITONSERVER_InstanceGroupKind kind, int32_t id) {
    if (kind != KIND_GPU) return;
    if (!at::hasCUDA())
      throw Failure(UNSUPPORTED, "model '" + model_.config.name +
                    "' has kind KIND_GPU but this torch sees no CUDA device; "
                    "install torch's CUDA build, or serve with --model-config-name=cpu");
    device_ = c10::Device(c10::kCUDA, id);
    stream_ = c10::impl::VirtualGuardImpl(c10::kCUDA).getStreamFromGlobalPool(device_);
  }

  // OpenMP keeps the number of threads per thread, and Triton initializes an instance in another thread than the one
  // that executes; without this the executing thread would start a team on all cores, whose threads spin.
  void use_threads() {
    static thread_local int current = -1;
    int wanted = model_.threads.value_or(0);
    if (current == wanted) return;
    at::get_num_threads();  // Initializes lazily, which would undo what follows.
    wanted ? at::set_num_threads(wanted) : at::init_num_threads();
    current = wanted;
  }

  void execute_batch(TRITONBACKEND_Request** requests, uint32_t count) {
    Times times;
    std::vector<Call> calls = begin(requests, count);
    Error* error = guarded([&] {
      try {
        run(calls, times);
      } catch (const Failure&) {
        throw;
      } catch (const std::exception& thrown) {
        throw Failure(INTERNAL, std::string("PyTorch execute failure: ") + thrown.what());
      }
    });
    if (!times.compute_start) times.compute_start = nanoseconds();
    if (!times.compute_end) times.compute_end = nanoseconds();
    finish(calls, error, times);
    clean_cache();
  }

  static std::vector<Call> begin(TRITONBACKEND_Request** requests, uint32_t count) {
    std::vector<Call> calls;
    calls.reserve(count);
    for (uint32_t i = 0; i < count; ++i) {
      TRITONBACKEND_Response* response = nullptr;
      ignore(TRITONBACKEND_ResponseNew(&response, requests[i]));
      calls.push_back({requests[i], response});
    }
    return calls;
  }

  void run(std::vector<Call>& calls, Times& times) {
    c10::InferenceMode inference(model_.inference_mode);
    at::NoGradGuard no_gradients;
    c10::OptionalDeviceGuard device(device_.is_cpu() ? std::nullopt : std::optional(device_));
    c10::OptionalStreamGuard stream(stream_);
    torch::jit::GraphOptimizerEnabledGuard optimizer(model_.optimize);
    set_jit();
    torch::jit::Stack stack = arguments(calls);
    times.compute_start = nanoseconds();
    forward_->run(stack);
    if (stream_) stream_->synchronize();
    times.compute_end = nanoseconds();
    respond(calls, stack.back());
  }

  // These switches hold for the whole process, so a model that sets them does it before each execution.
  void set_jit() const {
    if (model_.profiling) torch::jit::getProfilingMode() = *model_.profiling;
    if (model_.executor) torch::jit::getExecutorMode() = *model_.executor;
    if (model_.fuser) torch::jit::setTensorExprFuserEnabled(*model_.fuser);
  }

  torch::jit::Stack arguments(std::vector<Call>& calls) const {
    torch::jit::Stack stack;
    stack.reserve(inputs_.tensors.size() + 1);
    stack.emplace_back(module_->_ivalue());
    if (!inputs_.as_dict) {
      for (const TensorConfig& tensor : inputs_.tensors) stack.push_back(argument(calls, tensor));
      return stack;
    }
    c10::Dict<std::string, at::Tensor> named;
    for (const TensorConfig& tensor : inputs_.tensors) named.insert(tensor.name, argument(calls, tensor).toTensor());
    stack.emplace_back(std::move(named));
    return stack;
  }

  c10::IValue argument(std::vector<Call>& calls, const TensorConfig& tensor) const {
    if (tensor.type && tensor.type->triton == TYPE_BYTES) return gathered_strings(calls, tensor);
    at::Tensor values = gathered(calls, tensor, batched(), !device_.is_cpu());
    return device_.is_cpu() ? values : values.to(device_, /*non_blocking=*/true);
  }

  void respond(const std::vector<Call>& calls, const c10::IValue& returned) const {
    int64_t total = 0;
    for (const Call& call : calls) total += call.rows;
    for (const OutputBinding& binding : outputs_) {
      std::vector<bool> asked = asking(calls, binding.name);
      if (std::find(asked.begin(), asked.end(), true) == asked.end()) continue;
      BatchOutput output(returned, binding);
      if (batched()) output.check_rows(total);
      int64_t first = 0;
      for (size_t i = 0; i < calls.size(); first += calls[i++].rows)
        if (asked[i]) add_to_response(calls[i], output, first, batched());
    }
    for (const OutputBinding& binding : states_) {
      BatchOutput output(returned, binding);
      if (batched()) output.check_rows(total);
      int64_t first = 0;
      for (const Call& call : calls) update_state(call, output, first, batched()), first += call.rows;
    }
  }

  // A model with one output is asked for nothing else.
  std::vector<bool> asking(const std::vector<Call>& calls, const std::string& output) const {
    std::vector<bool> asked;
    for (const Call& call : calls)
      asked.push_back(call.response && (outputs_.size() == 1 || asks_for(call.request, output)));
    return asked;
  }

  void finish(const std::vector<Call>& calls, Error* error, const Times& times) const {
    uint64_t rows = 0;
    for (const Call& call : calls) {
      if (call.response) ignore(TRITONBACKEND_ResponseSend(call.response, RESPONSE_COMPLETE_FINAL, error));
      rows += call.rows;
    }
    uint64_t end = nanoseconds();
    for (const Call& call : calls) {
      ignore(TRITONBACKEND_ModelInstanceReportStatistics(
          instance_, call.request, !error, times.start, times.compute_start, times.compute_end, end));
      ignore(TRITONBACKEND_RequestRelease(call.request, REQUEST_RELEASE_ALL));
    }
    ignore(TRITONBACKEND_ModelInstanceReportBatchStatistics(
        instance_, rows, times.start, times.compute_start, times.compute_end, end));
    ignore(error);
  }

  void clean_cache() const {
    if (model_.clean_cache && !device_.is_cpu()) c10::getDeviceAllocator(c10::kCUDA)->emptyCache();
  }

  TRITONBACKEND_ModelInstance* instance_;
  Model& model_;
  c10::Device device_ = c10::kCPU;
  std::optional<c10::Stream> stream_;
  std::shared_ptr<Module> module_;
  torch::jit::Function* forward_ = nullptr;
  InputBinding inputs_;
  std::vector<OutputBinding> outputs_, states_;
};
