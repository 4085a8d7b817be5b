// Histograms of a model among Triton's own metrics: Prometheus adds them up over replicas, which it cannot do with the
// quantiles of Triton's latency summaries.
#pragma once

#include <array>
#include <span>
#include <string>

#include "failure.h"

constexpr std::array BATCH_SIZES{1., 2., 4., 8., 16., 32., 64., 128., 256.};
constexpr std::array SECONDS{25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3,
                             50e-3, 0.1,   0.25,   0.5,    1.,     2.5,  5.,     10.};

using Family = TRITONSERVER_MetricFamily;

// A family of histograms; nothing where this server has no metrics. Those of one name are the same for Triton, and stay
// until its process ends.
inline Family* histograms(const char* name, const char* help) {
  Family* family = nullptr;
  ignore(TRITONSERVER_MetricFamilyNew(&family, KIND_HISTOGRAM, name, help));
  return family;
}

inline Family* batch_sizes() {
  static Family* const family = histograms("pytorch_batch_size", "Rows of each execution of a model that batches");
  return family;
}

inline Family* compute_times() {
  static Family* const family = histograms("pytorch_compute_seconds", "Duration of each execution of forward");
  return family;
}

// The histogram of one version of a model. An old and a new Model of the same version, in a reload, count together.
class Histogram {
 public:
  Histogram(Family* family, const std::string& model, const std::string& version, std::span<const double> bounds) {
    if (!family) return;
    TRITONSERVER_MetricArgs* args = nullptr;
    const TRITONSERVER_Parameter* labels[] = {TRITONSERVER_ParameterNew("model", PARAMETER_STRING, model.c_str()),
                                              TRITONSERVER_ParameterNew("version", PARAMETER_STRING, version.c_str())};
    ignore(guarded([&] {
      check(TRITONSERVER_MetricArgsNew(&args));
      check(TRITONSERVER_MetricArgsSetHistogram(args, bounds.data(), bounds.size()));
      check(TRITONSERVER_MetricNewWithArgs(&metric_, family, labels, std::size(labels), args));
    }));
    if (args) ignore(TRITONSERVER_MetricArgsDelete(args));
    for (auto* label : labels) TRITONSERVER_ParameterDelete(const_cast<TRITONSERVER_Parameter*>(label));
  }
  Histogram(const Histogram&) = delete;
  ~Histogram() {
    if (metric_) ignore(TRITONSERVER_MetricDelete(metric_));
  }

  void observe(double value) const {
    if (metric_) ignore(TRITONSERVER_MetricObserve(metric_, value));
  }

 private:
  TRITONSERVER_Metric* metric_ = nullptr;
};
