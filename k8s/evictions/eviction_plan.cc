#include "k8s/evictions/eviction_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "k8s/inject/json_view.h"

namespace remora::k8s {
namespace {

constexpr std::chrono::milliseconds heartbeat{eviction_heartbeat_ms};
constexpr std::chrono::milliseconds look_again{eviction_look_again_ms};
constexpr std::chrono::milliseconds wait_max{eviction_wait_ms_max};

const Json* our_entry(const Json* status, std::string_view list) {
  if (status == nullptr) return nullptr;
  return find_named(find_array(*status, list), "name", eviction_responder);
}

// The same for every look at this Eviction, so that the agent is asked once.
std::string request_id(const EvictionRecord& record) { return "eviction-" + record.uid; }

// Our entry as it is to be; Kubernetes has made it, and set startTime. An apply that leaves out
// what an earlier one has set takes it away, and no time may be taken away.
std::string status_text(const EvictionRecord& record, std::optional<WallTime> heartbeat_at,
                        std::optional<WallTime> completed_at, const std::string& message) {
  Json entry{{"name", eviction_responder}, {"message", message}};
  if (heartbeat_at) entry["heartbeatTime"] = format_time(*heartbeat_at);
  if (completed_at) entry["completionTime"] = format_time(*completed_at);
  return Json{{"apiVersion", "lifecycle.k8s.io/v1alpha1"},
              {"kind", "Eviction"},
              {"metadata", {{"name", record.name}, {"namespace", record.namespace_name}}},
              {"status", {{"responders", Json::array({std::move(entry)})}}}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

EvictionPlan complete(const EvictionRecord& record, const std::string& message, WallTime now) {
  return {.ask = {}, .status = status_text(record, record.heartbeat_at, now, message)};
}

}  // namespace

std::optional<EvictionRecord> read_eviction(const Object& eviction) {
  const Json* spec = find_object(eviction.body, "spec");
  const Json* target = spec == nullptr ? nullptr : find_object(*spec, "target");
  const Json* pod = target == nullptr ? nullptr : find_object(*target, "pod");
  const Json* status = find_object(eviction.body, "status");
  const Json* turn = our_entry(status, "targetResponders");
  if (pod == nullptr || turn == nullptr) return std::nullopt;
  EvictionRecord record{.namespace_name = eviction.namespace_name,
                        .name = eviction.name,
                        .uid = eviction.uid,
                        .pod = text_of(*pod, "name"),
                        .pod_uid = text_of(*pod, "uid")};
  record.is_our_turn = text_of(*turn, "state") == "Active";
  if (const Json* said = our_entry(status, "responders")) {
    if (!text_of(*said, "completionTime").empty()) record.is_our_turn = false;
    record.started_at = parse_time(text_of(*said, "startTime"));
    record.heartbeat_at = parse_time(text_of(*said, "heartbeatTime"));
  }
  return record;
}

void trim_eviction(Json& eviction) {
  const auto status = eviction.find("status");
  if (status == eviction.end() || !status->is_object()) return;
  for (const char* key : {"conditions", "requesters"}) status->erase(key);
}

EvictionPlan plan_eviction(const EvictionRecord& record, const std::vector<AgentFacts>& agents,
                           WallTime now) {
  // Times of an entry that Kubernetes has not begun would be refused.
  if (!record.is_our_turn || !record.started_at) return {};
  const std::string id = request_id(record);
  const bool is_late = now - *record.started_at >= wait_max;
  EvictionPlan plan;
  size_t taking = 0;
  size_t over = 0;
  for (const AgentFacts& agent : agents) {
    if (agent.pod_uid != record.pod_uid || !agent.takes_snapshots) continue;
    if (agent.last_request == id && !agent.is_busy) {
      ++over;
      continue;
    }
    ++taking;
    // What somebody else has asked for is carried out first.
    if (agent.is_busy || is_late) continue;
    plan.ask.push_back({.agent = agent.name,
                        .pod = record.pod,
                        .pod_uid = record.pod_uid,
                        .id = id,
                        .action = "Snapshot",
                        .why = "the pod is about to be evicted: Eviction " + record.name});
  }
  if (taking == 0) {
    return complete(record,
                    over == 0 ? "no agent of this pod keeps snapshots and is connected"
                              : "asked for a last snapshot: the AgentSnapshot has its outcome",
                    now);
  }
  if (is_late) {
    return complete(record, "gave up waiting for the last snapshot", now);
  }
  if (!record.heartbeat_at || now - *record.heartbeat_at >= heartbeat) {
    plan.status = status_text(record, now, std::nullopt, "waiting for a last snapshot");
  }
  plan.look_again = look_again;
  return plan;
}

}  // namespace remora::k8s
