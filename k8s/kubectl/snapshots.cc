#include "k8s/kubectl/snapshots.h"

#include <algorithm>
#include <utility>

#include "k8s/api/writes.h"
#include "k8s/healing/facts.h"
#include "k8s/kubectl/table.h"
#include "k8s/resources/crds.h"
#include "k8s/resources/message_json.h"
#include "k8s/resources/resources.pb.h"
#include "sidecar/base/exit_codes.h"

namespace remora::k8s {
namespace {

struct Agent {
  std::string namespace_name;
  std::string name;
  v1alpha1::AgentSnapshotSpec spec;
  v1alpha1::AgentSnapshotStatus status;
};

const Json& member(const Json& object, std::string_view key) {
  static const Json empty = Json::object();
  const Json* found = find_object(object, key);
  return found == nullptr ? empty : *found;
}

// What a later version wrote, and can't be read, is left out.
Agent read_agent(const Json& object) {
  Agent agent;
  agent.namespace_name = text_of(member(object, "metadata"), "namespace");
  agent.name = text_of(member(object, "metadata"), "name");
  if (!read_message(member(object, "spec"), agent.spec)) agent.spec.Clear();
  if (!read_message(member(object, "status"), agent.status)) agent.status.Clear();
  return agent;
}

std::string size_text(int64_t bytes) {
  constexpr int64_t kib = 1024;
  if (bytes < 10 * kib) return std::to_string(bytes) + " B";
  if (bytes < 10 * kib * kib) return std::to_string(bytes / kib) + " KiB";
  return std::to_string(bytes / kib / kib) + " MiB";
}

std::unexpected<Error> refuse(std::string message) {
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig, std::move(message));
}

bool has_snapshot(const Agent& agent, const std::string& id) {
  return std::ranges::any_of(agent.status.snapshots(), [&](const v1alpha1::StoredSnapshot& one) {
    return one.id() == id && one.intact();
  });
}

ObjectPath path_of(const Cluster& cluster, const std::string& name) {
  return {.group = std::string(resource_group),
          .version = std::string(resource_version),
          .plural = "agentsnapshots",
          .namespace_name = cluster.namespace_name(),
          .name = name};
}

// What has become of the request with this id; state empty: it was not taken up yet.
v1alpha1::AgentRequestStatus answer_to(const Json& object, const std::string& id) {
  const Agent agent = read_agent(object);
  return agent.status.request().id() == id ? agent.status.request()
                                           : v1alpha1::AgentRequestStatus();
}

Outcome outcome_of(const AgentOrder& order, const v1alpha1::AgentRequestStatus& answer) {
  std::string text = "agent of pod " + order.pod + ": " + order.action + ": " + answer.state();
  if (!answer.snapshot().empty()) text += ", snapshot " + answer.snapshot();
  if (!answer.message().empty()) text += ": " + answer.message();
  return {.text = printable(text) + "\n",
          .exit_code = answer.state() == "Done" ? exit_ok : exit_failed};
}

}  // namespace

std::string render_snapshots(const std::vector<Json>& objects, const std::string& pod, Form form,
                             bool all_namespaces, WallTime now) {
  std::vector<Row> rows;
  Json kept = Json::array();
  for (const Json& object : objects) {
    const Agent agent = read_agent(object);
    if (!pod.empty() && agent.status.pod().name() != pod) continue;
    kept.push_back(object);
    for (const v1alpha1::StoredSnapshot& snapshot : agent.status.snapshots()) {
      const auto taken = parse_time(snapshot.taken_at());
      Row row{agent.status.pod().name(),
              agent.spec.container(),
              snapshot.id(),
              taken ? short_age(now - *taken) : "",
              snapshot.reason(),
              size_text(snapshot.bytes()),
              std::to_string(snapshot.files()),
              snapshot.intact() ? "yes" : "no: " + snapshot.problem()};
      if (all_namespaces) row.insert(row.begin(), agent.namespace_name);
      if (form == Form::kWide) {
        row.insert(row.end(), {size_text(snapshot.added_bytes()), agent.spec.claim()});
      }
      rows.push_back(std::move(row));
    }
  }
  if (form == Form::kJson) {
    return kept.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  if (rows.empty()) return "no snapshots\n";
  Row heads{"POD", "AGENT", "SNAPSHOT", "AGE", "REASON", "SIZE", "FILES", "INTACT"};
  if (all_namespaces) heads.insert(heads.begin(), "NAMESPACE");
  if (form == Form::kWide) heads.insert(heads.end(), {"ADDED", "CLAIM"});
  return render_table(heads, rows);
}

Result<Json> find_agent(const std::vector<Json>& objects, const AgentOrder& order) {
  const Json* found = nullptr;
  std::string several;
  for (const Json& object : objects) {
    const Agent agent = read_agent(object);
    if (agent.status.pod().name() != order.pod) continue;
    if (!order.agent.empty() && agent.spec.container() != order.agent) continue;
    several.append(several.empty() ? "" : ", ").append(agent.spec.container());
    if (found != nullptr) continue;
    found = &object;
  }
  if (found == nullptr) {
    return refuse("no agent of pod " + order.pod + (order.agent.empty() ? "" : " " + order.agent) +
                  " is known: its sidecar has not told the operator of it (the operator's "
                  "--link-listen)");
  }
  if (several.find(',') != std::string::npos) {
    return refuse("pod " + order.pod + " has several agents: write --agent with one of " + several);
  }
  if (!order.snapshot.empty() && !has_snapshot(read_agent(*found), order.snapshot)) {
    return refuse("there is no intact snapshot " + order.snapshot + ": kubectl remora snapshots " +
                  order.pod + " lists them");
  }
  return *found;
}

Result<Outcome> order_agent(Cluster& cluster, const AgentOrder& order, Duration wait) {
  const Result<std::vector<Json>> objects =
      cluster.list_here("/apis/remora.dev/v1alpha1", "agentsnapshots");
  if (!objects) return std::unexpected(objects.error());
  const Result<Json> object = find_agent(*objects, order);
  if (!object) return std::unexpected(object.error());
  const Agent agent = read_agent(*object);
  const std::string id = "kubectl-" + std::to_string(to_unix_ns(cluster.now()));
  Json request{{"id", id}, {"action", order.action}, {"snapshot", nullptr}};
  if (!order.snapshot.empty()) request["snapshot"] = order.snapshot;
  const Json patch{{"spec", {{"request", std::move(request)}}}};
  Result<Json> now = cluster.ask(merge_patch_request(path_of(cluster, agent.name), patch.dump()));
  const WallTime end = cluster.now() + wait;
  while (now) {
    const v1alpha1::AgentRequestStatus answer = answer_to(*now, id);
    if (answer.state() == "Done" || answer.state() == "Failed") return outcome_of(order, answer);
    if (cluster.now() >= end) {
      const bool connected = read_agent(*now).status.connected();
      return Outcome{.text = "pod " + order.pod + ": the request " + id +
                             (connected ? " is not answered yet\n"
                                        : " waits: its sidecar is not connected to the operator\n"),
                     .exit_code = exit_not_good};
    }
    cluster.wait(std::chrono::milliseconds(request_poll_ms));
    now = cluster.get(path_of(cluster, agent.name).object());
  }
  return std::unexpected(now.error());
}

}  // namespace remora::k8s
