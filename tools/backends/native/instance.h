// An instance of a model: executes each batch in one call of `forward`.
#pragma once

#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/passes/tensorexpr_fuser.h>

#include <algorithm>
#include <chrono>

#include "module.h"
#include "outputs.h"

// Nanoseconds of the clock that Triton's statistics use.
inline uint64_t now() { return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The moments of an execution that Triton's statistics are made of.
struct Times {
  uint64_t start = now(), compute_start = 0, compute_end = 0;
};

class Instance {
 public:
  Instance(TRITONBACKEND_ModelInstance* instance, Model& model) : instance_(instance), model_(model) {
    TRITONSERVER_InstanceGroupKind kind;
    int32_t id;
    check(TRITONBACKEND_ModelInstanceKind(instance, &kind));
    check(TRITONBACKEND_ModelInstanceDeviceId(instance, &id));
    if (kind == KIND_GPU) use_gpu(id);
    use_threads();
    // A model of KIND_MODEL chooses its devices itself, and gets its inputs on the CPU.
    module_ = model.load(kind == KIND_MODEL ? std::nullopt : std::optional(device_));
    auto method = module_->find_method("forward");
    if (!method) throw invalid("model '" + model.config.name + "' has no method forward");
    forward_ = &method->function();
    binding_ = bind(model.config, forward_->getSchema());
    for (const WarmUp& sample : model.config.warm_ups) with_settings([&] { rehearse(sample); });
  }

  // Answers and releases all requests. Throws only before it touches the first of them.
  void execute(std::span<TRITONBACKEND_Request*> requests) {
    std::vector<Call> calls;
    calls.reserve(requests.size());
    for (TRITONBACKEND_Request* request : requests) calls.push_back({request});
    size_t together = batched_ ? calls.size() : 1;
    for (size_t i = 0; i < calls.size(); i += together) execute_batch(std::span(calls).subspan(i, together));
  }

 private:
  // Runs a warm-up sample, as zeros, before Triton does, where failing is an answer. When Triton's own warm-up fails, it
  // destroys the instance at once, while the thread of that instance may still be on its way back to its queue: the
  // server ends. (Core: TritonBackendThread::StopBackendThread takes the last of a deque that is empty then.)
  void rehearse(const WarmUp& sample) const {
    torch::jit::Stack stack{module_->_ivalue()};
    std::optional<int64_t> rows;
    for (const TensorConfig& tensor : binding_.inputs) {
      auto shape = sample.inputs.find(tensor.name);
      if (shape == sample.inputs.end() || binding_.as_dict || !tensor.type || tensor.type->is_string()) return;
      stack.push_back(at::zeros(shape->second, at::TensorOptions().dtype(tensor.type->scalar).device(device_)));
      if (batched_) rows = shape->second.at(0);
    }
    try {
      forward(stack);
      for (const OutputBinding& output : binding_.outputs) BatchOutput(stack.back(), output, rows);
    } catch (const std::exception& error) {
      throw invalid("failed to run warmup sample '" + sample.name + "': " + message_of(error));
    }
  }

  void use_gpu(int32_t id) {
    if (!at::hasCUDA())
      throw Failure(UNSUPPORTED, "model '" + model_.config.name +
                    "' has kind KIND_GPU but this torch sees no CUDA device; "
                    "install torch's CUDA build, or serve with --model-config-name=cpu");
    device_ = c10::Device(c10::kCUDA, id);
    stream_ = c10::impl::VirtualGuardImpl(c10::kCUDA).getStreamFromGlobalPool(device_);
  }

  // OpenMP keeps the number of threads per thread, and Triton initializes an instance in another thread than the one
  // that executes; without this the executing thread would start a team on all cores, whose threads spin.
  void use_threads() const {
    static const int usual = at::get_num_threads();  // Asked before any model sets it, which is for the whole process.
    static thread_local int current = 0;
    int wanted = model_.threads.value_or(usual);
    if (current == wanted) return;
    at::get_num_threads();  // Initializes lazily, which would undo what follows.
    at::set_num_threads(wanted);
    current = wanted;
  }

  void execute_batch(std::span<Call> calls) noexcept {
    Times times;
    for (Call& call : calls) ignore(TRITONBACKEND_ResponseNew(&call.response, call.request));
    Error* error = guarded([&] { run(calls, times); }, "PyTorch execute failure: ");
    if (!times.compute_start) times.compute_start = now();
    if (!times.compute_end) times.compute_end = now();
    finish(calls, error, times);
    if (model_.clean_cache && !device_.is_cpu())  // This throws where the device has failed.
      ignore(guarded([] { c10::getDeviceAllocator(c10::kCUDA)->emptyCache(); }));
  }

  void run(std::span<Call> calls, Times& times) const {
    with_settings([&] {
      torch::jit::Stack stack = arguments(calls);
      times.compute_start = now();
      forward(stack);
      times.compute_end = now();
      respond(calls, stack.back());
    });
  }

  // Replaces the arguments by what `forward` returns.
  void forward(torch::jit::Stack& stack) const {
    forward_->run(stack);
    if (stream_) stream_->synchronize();
  }

  // With what torch keeps by thread or for the whole process, as this model wants it.
  template <class Body>
  void with_settings(Body body) const {
    use_threads();
    c10::InferenceMode inference(model_.inference_mode);
    at::NoGradGuard no_gradients;
    c10::OptionalDeviceGuard device(device_.is_cpu() ? std::nullopt : std::optional(device_));
    c10::OptionalStreamGuard stream(stream_);
    torch::jit::GraphOptimizerEnabledGuard optimizer(model_.optimize);
    if (model_.profiling) torch::jit::getProfilingMode() = *model_.profiling;
    if (model_.executor) torch::jit::getExecutorMode() = *model_.executor;
    if (model_.fuser) torch::jit::setTensorExprFuserEnabled(*model_.fuser);
    body();
  }

  torch::jit::Stack arguments(std::span<Call> calls) const {
    torch::jit::Stack stack;
    stack.reserve(binding_.inputs.size() + 1);
    stack.emplace_back(module_->_ivalue());
    if (!binding_.as_dict) {
      for (const TensorConfig& tensor : binding_.inputs) stack.push_back(argument(calls, tensor));
      return stack;
    }
    c10::Dict<std::string, at::Tensor> named;
    for (const TensorConfig& tensor : binding_.inputs) named.insert(tensor.name, argument(calls, tensor).toTensor());
    stack.emplace_back(std::move(named));
    return stack;
  }

  c10::IValue argument(std::span<Call> calls, const TensorConfig& tensor) const {
    if (tensor.type && tensor.type->is_string()) return gathered_strings(calls, tensor, batched_);
    at::Tensor values = gathered(calls, tensor, batched_, !device_.is_cpu());
    return device_.is_cpu() ? values : values.to(device_, /*non_blocking=*/true);
  }

  void respond(std::span<Call> calls, const c10::IValue& returned) const {
    int64_t total = 0;
    for (Call& call : calls) call.first = std::exchange(total, total + call.rows);
    std::optional<int64_t> rows = batched_ ? std::optional(total) : std::nullopt;
    for (const OutputBinding& binding : binding_.outputs) {
      // A model with one output is asked for nothing else.
      auto is_asked = [&](const Call& call) {
        return call.response && (binding_.outputs.size() == 1 || asks_for(call.request, binding.name));
      };
      if (std::ranges::none_of(calls, is_asked)) continue;
      BatchOutput output(returned, binding, rows);
      for (const Call& call : calls)
        if (is_asked(call)) output.add_to_response(call);
    }
    for (const OutputBinding& binding : binding_.states) {
      BatchOutput output(returned, binding, rows);
      for (const Call& call : calls) output.update_state(call);
    }
  }

  // Sends the responses, or the error instead of each, and counts what succeeded.
  void finish(std::span<const Call> calls, Error* error, const Times& times) const {
    uint64_t rows = 0;
    for (const Call& call : calls) {
      if (call.response) ignore(TRITONBACKEND_ResponseSend(call.response, RESPONSE_COMPLETE_FINAL, error));
      rows += call.rows;
    }
    uint64_t end = now();
    for (const Call& call : calls) {
      ignore(TRITONBACKEND_ModelInstanceReportStatistics(
          instance_, call.request, call.response && !error, times.start, times.compute_start, times.compute_end, end));
      ignore(TRITONBACKEND_RequestRelease(call.request, REQUEST_RELEASE_ALL));
    }
    if (!error) {
      ignore(TRITONBACKEND_ModelInstanceReportBatchStatistics(
          instance_, rows, times.start, times.compute_start, times.compute_end, end));
      model_.compute_seconds.observe((times.compute_end - times.compute_start) * 1e-9);
      model_.batch_size.observe(rows);
    }
    ignore(error);
  }

  TRITONBACKEND_ModelInstance* instance_;
  const Model& model_;
  const bool batched_ = model_.config.max_batch_size > 0;
  c10::Device device_ = c10::kCPU;
  std::optional<c10::Stream> stream_;
  std::shared_ptr<Module> module_;
  torch::jit::Function* forward_ = nullptr;
  Binding binding_;
};
