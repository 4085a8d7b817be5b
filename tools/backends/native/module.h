// One version of a model: its configuration and its TorchScript file, loaded once for each instance or shared.
#pragma once

#include <ATen/Context.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>

#include "config.h"
#include "metrics.h"

using Module = torch::jit::Module;

class Model {
 public:
  explicit Model(TRITONBACKEND_Model* model)
      : config(read_config(model)), version(version_of(model)), path_(folder_of(model) / version / config.filename) {
    if (config.flag("DISABLE_CUDNN").value_or(false)) at::globalContext().setUserEnabledCuDNN(false);
    if (auto count = config.count("INTER_OP_THREAD_COUNT")) set_interop_threads(*count);
  }

  // Loads the file onto a device, or as it was saved where there is none; one Module for all instances on a device
  // with ENABLE_WEIGHT_SHARING.
  std::shared_ptr<Module> load(std::optional<c10::Device> device) {
    if (!share_) return read(device);
    std::lock_guard lock(mutex_);
    auto& module = shared_[device ? device->str() : ""];
    if (!module) module = read(device);
    return module;
  }

  const Config config;
  const std::string version;
  const bool inference_mode = config.flag("INFERENCE_MODE").value_or(true);
  const bool optimize = !config.flag("DISABLE_OPTIMIZED_EXECUTION").value_or(false);
  const bool clean_cache = config.flag("ENABLE_CACHE_CLEANING").value_or(false);
  const std::optional<int> threads = config.count("INTRA_OP_THREAD_COUNT");
  const std::optional<bool> profiling = config.flag("ENABLE_JIT_PROFILING");
  const std::optional<bool> executor = config.flag("ENABLE_JIT_EXECUTOR");
  const std::optional<bool> fuser = config.flag("ENABLE_TENSOR_FUSER");
  const Histogram compute_seconds{compute_times(), config.name, version, SECONDS};
  const Histogram batch_size{config.max_batch_size > 0 ? batch_sizes() : nullptr, config.name, version, BATCH_SIZES};

 private:
  static Config read_config(TRITONBACKEND_Model* model) {
    TRITONSERVER_Message* message;
    const char* base;
    size_t size;
    check(TRITONBACKEND_ModelConfig(model, 1, &message));
    auto free = [](TRITONSERVER_Message* owned) { ignore(TRITONSERVER_MessageDelete(owned)); };
    std::unique_ptr<TRITONSERVER_Message, decltype(free)> owner(message);
    check(TRITONSERVER_MessageSerializeToJson(message, &base, &size));
    return Config(Json::parse({base, size}));
  }

  static std::filesystem::path folder_of(TRITONBACKEND_Model* model) {
    int artifact_type;
    const char* location;
    check(TRITONBACKEND_ModelRepository(model, &artifact_type, &location));
    return location;
  }

  static std::string version_of(TRITONBACKEND_Model* model) {
    uint64_t version;
    check(TRITONBACKEND_ModelVersion(model, &version));
    return std::to_string(version);
  }

  // Torch allows this once in a process: the first model wins, as with NVIDIA's backend.
  static void set_interop_threads(int count) {
    try {
      at::set_num_interop_threads(count);
    } catch (const c10::Error&) {
    }
  }

  std::shared_ptr<Module> read(std::optional<c10::Device> device) const {
    if (!std::filesystem::exists(path_))
      throw Failure(NOT_FOUND, "unable to find '" + path_.string() + "' for model instance '" + config.name + "'");
    c10::InferenceMode guard(inference_mode);
    try {
      return std::make_shared<Module>(torch::jit::load(path_.string(), device));
    } catch (const std::exception& error) {
      throw Failure(INTERNAL, "failed to load model '" + config.name + "' (" + path_.string() + "): " + message_of(error));
    }
  }

  const std::filesystem::path path_;
  const bool share_ = config.flag("ENABLE_WEIGHT_SHARING").value_or(false);
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Module>> shared_;
};
