#include "k8s/healing/alert_sender.h"

#include <algorithm>
#include <utility>

#include "k8s/healing/alert_text.h"
#include "sidecar/base/log.h"

namespace remora::k8s {

AlertSender::AlertSender(Loop& loop, std::vector<AlertReceiver> receivers, MetricRegistry& registry,
                         uint32_t seed)
    : loop_(loop), random_(seed) {
  for (AlertReceiver& receiver : receivers) {
    const auto count = [&](const char* outcome) {
      return &registry.counter("remora_operator_alerts_total",
                               "Alerts by receiver and what became of them.",
                               {{"receiver", receiver.name}, {"outcome", outcome}});
    };
    Counter* const sent = count("sent");
    Counter* const dropped = count("dropped");
    desks_.push_back(std::make_unique<Desk>(
        Desk{.receiver = std::move(receiver), .sent = sent, .dropped = dropped}));
  }
}

void AlertSender::see(const std::string& namespace_name, const IncidentRecord& incident,
                      const v1alpha1::Alerts* alerts) {
  if (desks_.empty() || !is_alert(incident)) return;
  std::map<std::string, std::string> labels;
  if (alerts != nullptr) labels.insert(alerts->labels().begin(), alerts->labels().end());
  for (const auto& desk : desks_) {
    const bool wanted =
        alerts == nullptr || alerts->receivers().empty() ||
        std::ranges::find(alerts->receivers(), desk->receiver.name) != alerts->receivers().end();
    if (wanted) say(*desk, namespace_name, incident, labels);
  }
}

void AlertSender::say(Desk& desk, const std::string& namespace_name, const IncidentRecord& incident,
                      const std::map<std::string, std::string>& labels) {
  const MonotonicTime now = loop_.now();
  const bool repeats = desk.receiver.name == "alertmanager";
  const bool resolved = !incident.status.ended_at().empty();
  const auto known = desk.known.find(incident.uid);
  if (known == desk.known.end()) {
    // Nobody has heard that it began, as far as is known; and room is limited.
    if (resolved || desk.known.size() >= alerts_known_max) return;
  } else if (known->second.resolved) {
    return;
  } else if (!resolved) {
    const bool is_due = now - known->second.said_at >= std::chrono::milliseconds(alert_again_ms);
    if (!repeats || !is_due) return;
  }
  desk.known[incident.uid] = {.resolved = resolved, .said_at = now};
  std::erase_if(desk.known, [now](const auto& each) {
    return each.second.resolved && now - each.second.said_at > std::chrono::hours(1);
  });
  Letter letter{.key = incident.uid,
                .body = repeats ? alertmanager_text(namespace_name, incident, labels,
                                                    loop_.clock().wall_now())
                                : webhook_text(namespace_name, incident, labels)};
  const auto same = std::ranges::find_if(desk.waiting, [&](const Letter& each) {
    return each.key == letter.key && &each != &desk.waiting.front();
  });
  // To Alertmanager the newer one says everything; a webhook hears of beginning and end.
  if (repeats && same != desk.waiting.end()) {
    *same = std::move(letter);
  } else {
    desk.waiting.push_back(std::move(letter));
  }
  const bool full = desk.waiting.size() > alerts_waiting_max;
  if (full) drop(desk, std::exchange(desk.full, true) ? "" : "too many wait");
  if (desk.waiting.size() < alerts_waiting_max / 2) desk.full = false;
  send(desk);
}

void AlertSender::send(Desk& desk) {
  if (desk.waiting.empty() || desk.call || desk.pauses) return;
  ApiRequest request;
  request.method = "POST";
  request.path = desk.receiver.path;
  request.body = desk.waiting.front().body;
  request.answer_ms_max = alert_answer_ms_max;
  request.retry_throttled = false;
  desk.call = desk.receiver.client->call(
      std::move(request), [this, &desk](const Result<ApiReply>& reply) { on_answer(desk, reply); });
}

void AlertSender::on_answer(Desk& desk, const Result<ApiReply>& reply) {
  desk.call.reset();
  if (reply && reply->ok()) {
    desk.sent->add();
    desk.waiting.pop_front();
    desk.failures = 0;
    return send(desk);
  }
  const bool refused = reply && reply->status / 100 == 4 && reply->status != 429;
  const std::string why =
      reply ? "status " + std::to_string(reply->status) : "it could not be reached";
  if (refused || ++desk.failures >= alert_attempts_max) {
    drop(desk, why);
    return send(desk);
  }
  if (desk.failures == 1) {
    log_warn("alert_delayed", {{"receiver", desk.receiver.name}, {"why", why}});
  }
  Duration pause = backoff_pause(alert_backoff, desk.failures - 1, random_);
  if (reply && reply->retry_after) pause = std::max(pause, *reply->retry_after);
  desk.pauses = true;
  desk.later = loop_.add_timer(pause, [this, &desk] {
    desk.pauses = false;
    send(desk);
  });
}

// The oldest one. why: logged; empty: it has been said.
void AlertSender::drop(Desk& desk, const std::string& why) {
  if (!why.empty()) log_error("alert_dropped", {{"receiver", desk.receiver.name}, {"why", why}});
  desk.dropped->add();
  desk.call.reset();
  desk.waiting.pop_front();
  desk.failures = 0;
}

}  // namespace remora::k8s
