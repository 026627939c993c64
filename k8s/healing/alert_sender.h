// Tells people's own systems of Incidents that no step is left for, and of their end. Healing never
// waits for it: what can't be delivered is tried again, longer each time, and in the end let go,
// counted and logged.
//
// It is shown each Incident at each look and keeps in mind what it has said of it. A process that
// begins anew says again what is still so: receivers hear of everything at least once while it
// lasts, and of an end that falls between two leaders they may hear nothing (Alertmanager then ends
// the alert by itself).
//
// Neither addresses nor tokens are logged: both may be secrets. Loop thread only.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "k8s/api/client.h"
#include "k8s/healing/plan.h"
#include "k8s/watch/backoff.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

inline constexpr size_t alerts_waiting_max = 1'000;
inline constexpr size_t alerts_known_max = 10'000;
inline constexpr uint32_t alert_attempts_max = 10;
// Well within alert_life_ms.
inline constexpr int alert_again_ms = 60'000;
inline constexpr int alert_answer_ms_max = 10'000;
inline constexpr BackoffRules alert_backoff{std::chrono::seconds(1), std::chrono::seconds(60)};

struct AlertReceiver {
  std::string name;  // "alertmanager", "webhook"
  std::string path;  // where it is told, "/api/v2/alerts"
  std::unique_ptr<ApiClient> client;
};

class AlertSender {
 public:
  AlertSender(Loop& loop, std::vector<AlertReceiver> receivers, MetricRegistry& registry,
              uint32_t seed);
  AlertSender(const AlertSender&) = delete;
  AlertSender& operator=(const AlertSender&) = delete;
  ~AlertSender() = default;

  // alerts null: its policy is gone.
  void see(const std::string& namespace_name, const IncidentRecord& incident,
           const v1alpha1::Alerts* alerts);

 private:
  struct Letter {
    std::string key;
    std::string body;
  };
  struct Known {
    bool resolved = false;
    MonotonicTime said_at{};
  };
  struct Desk {  // of one receiver
    AlertReceiver receiver;
    Counter* sent;
    Counter* dropped;
    std::map<std::string, Known> known{};  // by UID
    std::deque<Letter> waiting{};
    uint32_t failures = 0;  // of the first one, in a row
    std::unique_ptr<ApiCall> call{};
    bool pauses = false;
    bool full = false;  // and that is logged
    Subscription later{};
  };

  void say(Desk& desk, const std::string& namespace_name, const IncidentRecord& incident,
           const std::map<std::string, std::string>& labels);
  void send(Desk& desk);
  void on_answer(Desk& desk, const Result<ApiReply>& reply);
  void drop(Desk& desk, const std::string& why);

  Loop& loop_;
  std::vector<std::unique_ptr<Desk>> desks_;
  std::minstd_rand random_;
};

}  // namespace remora::k8s
