#include "k8s/agents/agent_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/agents/report.h"
#include "k8s/healing/facts.h"
#include "k8s/healing/plan.h"
#include "k8s/inject/json_view.h"
#include "k8s/resources/crds.h"
#include "k8s/resources/message_json.h"

namespace remora::k8s {
namespace {

using v1alpha1::AgentRequestStatus;
using v1alpha1::AgentSnapshotStatus;

constexpr size_t object_name_bytes_max = 253;

std::string api_version() {
  return std::string(resource_group) + "/" + std::string(resource_version);
}

bool is_sent(const AgentSnapshotStatus& status) { return status.request().state() == "Sent"; }

void set_catalogue(AgentSnapshotStatus& status, const ConnectedAgent& agent, WallTime now) {
  if (!agent.snapshots) return;
  AgentSnapshotStatus fresh;
  for (const v1alpha1::StoredSnapshot& one : *agent.snapshots) {
    *fresh.add_snapshots() = one;
    if (one.intact()) fresh.set_latest(one.id());
  }
  fresh.set_count(static_cast<int32_t>(std::clamp<int64_t>(agent.snapshot_count, 0, INT32_MAX)));
  const auto same = [](const v1alpha1::StoredSnapshot& a, const v1alpha1::StoredSnapshot& b) {
    return a.id() == b.id() && a.intact() == b.intact();
  };
  const bool changed = fresh.count() != status.count() || status.observed_at().empty() ||
                       !std::ranges::equal(fresh.snapshots(), status.snapshots(), same);
  if (!changed) return;
  *status.mutable_snapshots() = fresh.snapshots();
  status.set_latest(fresh.latest());
  status.set_count(fresh.count());
  status.set_observed_at(format_time(now));
}

void set_request(AgentSnapshotStatus& status, const v1alpha1::AgentSnapshotSpec& spec,
                 const ConnectedAgent& agent, WallTime now) {
  AgentRequestStatus& known = *status.mutable_request();
  if (is_sent(status)) {
    if (!agent.outcome || agent.outcome->id() != known.id()) return;
    known.set_state(agent.outcome->done() ? "Done" : "Failed");
    known.set_message(cut(agent.outcome->message(), report_line_bytes_max));
    if (!agent.outcome->snapshot().empty()) {
      known.set_snapshot(cut(agent.outcome->snapshot(), report_line_bytes_max));
    }
    known.set_ended_at(format_time(now));
    return;
  }
  const v1alpha1::AgentRequest& wanted = spec.request();
  if (wanted.id().empty() || wanted.id() == known.id()) return;
  known.Clear();
  known.set_id(wanted.id());
  known.set_action(wanted.action());
  known.set_snapshot(wanted.snapshot());
  known.set_state("Sent");
  known.set_started_at(format_time(now));
}

}  // namespace

std::string ConnectedAgent::object_name() const {
  const std::string& store = claim.empty() ? pod.pod : claim;
  std::string name = store + "." + container;
  return name.size() <= object_name_bytes_max ? name : name_with_hash(store, name);
}

Result<AgentRecord> read_agent(const Object& object) {
  AgentRecord record{.namespace_name = object.namespace_name,
                     .name = object.name,
                     .uid = object.uid,
                     .resource_version = object.resource_version,
                     .spec = {},
                     .status = {}};
  const Json* spec = find_object(object.body, "spec");
  if (Result<void> read = read_message(spec == nullptr ? Json::object() : *spec, record.spec);
      !read) {
    return std::unexpected(std::move(read.error()).with_context("spec"));
  }
  const Json* status = find_object(object.body, "status");
  // What we wrote ourselves; what can't be read is written anew.
  if (status != nullptr && !read_message(*status, record.status)) record.status.Clear();
  return record;
}

std::optional<AgentSnapshotStatus> next_status(const AgentRecord& record,
                                               const ConnectedAgent* agent, bool gone,
                                               WallTime now) {
  AgentSnapshotStatus status = record.status;
  if (agent != nullptr) {
    v1alpha1::PodReference& pod = *status.mutable_pod();
    pod.set_name(agent->pod.pod);
    pod.set_uid(agent->pod.uid);
    if (!agent->pod.node.empty()) pod.set_node(agent->pod.node);
    status.set_connected(true);
    if (agent->epoch != 0) status.set_epoch(static_cast<int64_t>(agent->epoch));
    set_catalogue(status, *agent, now);
    set_request(status, record.spec, *agent, now);
    if (status.request().id().empty()) status.clear_request();
  } else if (gone) {
    status.set_connected(false);
  }
  if (status.SerializeAsString() == record.status.SerializeAsString()) return std::nullopt;
  return status;
}

std::optional<link::v1::Command> next_command(const AgentRecord& record,
                                              const ConnectedAgent& agent) {
  const AgentRequestStatus& request = record.status.request();
  if (request.state() != "Sent" || agent.sent == request.id()) return std::nullopt;
  link::v1::Command command;
  command.set_id(request.id());
  command.set_container(agent.container);
  command.set_action(request.action());
  if (request.action() == "Restore") command.set_snapshot(request.snapshot());
  return command;
}

std::string agent_request_text(const AgentRecord& record, const v1alpha1::AgentRequest& request) {
  return Json{{"metadata", {{"resourceVersion", record.resource_version}}},
              {"spec", {{"request", write_message(request)}}}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool needs_claim(const ConnectedAgent& agent) { return !agent.claim.empty() && !agent.claim_uid; }

std::string claim_uid_of(std::string_view reply) {
  const Json claim = Json::parse(reply, nullptr, false);
  const Json* metadata = find_object(claim, "metadata");
  return metadata == nullptr ? std::string() : text_of(*metadata, "uid");
}

std::string new_agent_text(const ConnectedAgent& agent) {
  v1alpha1::AgentSnapshotSpec spec;
  spec.set_container(agent.container);
  spec.set_claim(agent.claim);
  Json metadata = {{"name", agent.object_name()},
                   {"namespace", agent.pod.namespace_name},
                   {"labels", {{"app.kubernetes.io/managed-by", "remora"}}}};
  // The cluster takes it away with what keeps the snapshots.
  const bool is_of_pod = agent.claim.empty();
  const std::string uid = is_of_pod ? agent.pod.uid : agent.claim_uid.value_or("");
  if (!uid.empty()) {
    metadata["ownerReferences"] =
        Json::array({{{"apiVersion", "v1"},
                      {"kind", is_of_pod ? "Pod" : "PersistentVolumeClaim"},
                      {"name", is_of_pod ? agent.pod.pod : agent.claim},
                      {"uid", uid}}});
  }
  return Json{{"apiVersion", api_version()},
              {"kind", "AgentSnapshot"},
              {"metadata", std::move(metadata)},
              {"spec", write_message(spec)}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string agent_status_text(const AgentRecord& record, const AgentSnapshotStatus& status) {
  Json written = write_message(status);
  written["connected"] = status.connected();
  written["count"] = status.count();
  return Json{{"apiVersion", api_version()},
              {"kind", "AgentSnapshot"},
              {"metadata",
               {{"name", record.name},
                {"namespace", record.namespace_name},
                {"resourceVersion", record.resource_version}}},
              {"status", std::move(written)}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace remora::k8s
