// What healing from outside exports, by name. Loop thread only.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "k8s/healing/plan.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

class HealingMetrics {
 public:
  explicit HealingMetrics(MetricRegistry& registry);

  // An Incident was made.
  void count_opened(const v1alpha1::IncidentSpec& spec);
  // Its time is counted when it is resolved.
  void count_ended(const IncidentRecord& incident);

  // A request was written into an AgentSnapshot.
  void count_asked(const std::string& action);

  // Before each render: begin, then one call for each thing that there is.
  void begin_picture();
  void add_to_picture(const IncidentRecord& incident);
  void add_to_picture(const std::string& namespace_name, const std::string& policy, int steps_left);

  // Series that come and go with their policies, which a registry doesn't have: to be written after
  // its own.
  std::string policy_series() const;

  Counter& looks;
  Counter& evicted;
  Counter& refused;
  Counter& rollbacks;
  Counter& resizes;
  Counter& failures;
  Counter& reports;
  Gauge& queue_depth;
  Gauge& queue_oldest;  // seconds

 private:
  Counter& opened_;
  Counter& resolved_;
  std::map<std::string, Counter*, std::less<>> faults_;
  std::map<std::string, Counter*, std::less<>> asked_;
  std::array<Histogram*, 5> recovery_{};  // detect, decide, act, ready, total
  std::map<std::string, Gauge*, std::less<>> open_;
  std::string steps_left_;  // lines of the exposition format
};

}  // namespace remora::k8s
