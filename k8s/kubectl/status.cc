#include "k8s/kubectl/status.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "config/annotations.h"
#include "config/pod.h"
#include "k8s/healing/facts.h"
#include "k8s/healing/plan.h"
#include "k8s/healing/records.h"
#include "k8s/inject/gate.h"
#include "k8s/kubectl/table.h"
#include "k8s/resources/selector.h"
#include "k8s/watch/object.h"

namespace remora::k8s {
namespace {

struct Known {
  std::string namespace_name;
  PolicyRecord policy;
};

struct LastIncident {
  std::string namespace_name;
  IncidentRecord record;
};

std::string namespace_of(const Json& object) {
  const Json* metadata = find_object(object, "metadata");
  return metadata == nullptr ? std::string() : text_of(*metadata, "namespace");
}

// By name, as the operator takes the first that selects a pod.
std::vector<Known> read_policies(const std::vector<Json>& objects) {
  std::vector<Known> known;
  for (const Json& object : objects) {
    Result<PolicyRecord> policy = read_policy(object);
    if (policy) known.push_back({namespace_of(object), std::move(*policy)});
  }
  std::ranges::sort(known, {}, [](const Known& one) { return one.policy.name; });
  return known;
}

const PolicyRecord* policy_for(const PodFacts& pod, const std::vector<Known>& policies) {
  const auto found = std::ranges::find_if(policies, [&](const Known& known) {
    return known.namespace_name == pod.namespace_name &&
           selects(known.policy.spec.selector(), pod.labels);
  });
  return found == policies.end() ? nullptr : &found->policy;
}

std::vector<LastIncident> read_incidents(const std::vector<Json>& objects) {
  std::vector<LastIncident> incidents;
  for (const Json& object : objects) {
    Result<IncidentRecord> record = read_incident(object);
    if (record) incidents.push_back({namespace_of(object), std::move(*record)});
  }
  // RFC 3339 in UTC sorts as text.
  std::ranges::stable_sort(incidents, std::greater<>(),
                           [](const LastIncident& one) { return one.record.spec.detected_at(); });
  return incidents;
}

const IncidentRecord* last_of(const PodFacts& pod, const std::vector<LastIncident>& incidents) {
  const auto found = std::ranges::find_if(incidents, [&](const LastIncident& one) {
    return one.namespace_name == pod.namespace_name &&
           (one.record.spec.pod().uid() == pod.uid ||
            one.record.status.replacement_uid() == pod.uid);
  });
  return found == incidents.end() ? nullptr : &found->record;
}

std::string state_of(const PodFacts& pod) {
  if (pod.deleting) return "Terminating";
  for (const ContainerFacts& container : pod.containers) {
    if (!container.waiting_reason.empty()) return container.waiting_reason;
  }
  return pod.phase.empty() ? "Unknown" : pod.phase;
}

void count_agents(const config::Injected& injected, const PodFacts& pod, PodStatus& status) {
  std::set<std::string> agents;
  for (const config::InjectedAgent& agent : injected.agents()) agents.insert(agent.name());
  status.agents = static_cast<int>(agents.size());
  for (const ContainerFacts& container : pod.containers) {
    if (!agents.contains(container.name)) continue;
    status.ready_agents += container.ready ? 1 : 0;
    status.restarts += container.restarts;
  }
}

std::string hold_of(const PodFacts& pod, const PolicyRecord* policy) {
  if (pod.paused) return "pod paused";
  if (policy == nullptr) return {};
  if (policy->spec.paused()) return "policy paused";
  if (policy->spec.dry_run()) return "dry run";
  return policy->status.hold();
}

Json as_json(const PodStatus& pod) {
  Json fault;
  if (!pod.fault.empty()) {
    fault = Json{
        {"kind", pod.fault}, {"phase", pod.phase}, {"ageSeconds", to_ms(pod.fault_age) / 1000}};
  }
  return Json{{"namespace", pod.namespace_name},
              {"pod", pod.pod},
              {"node", pod.node},
              {"remoraVersion", pod.version},
              {"agents", pod.agents},
              {"readyAgents", pod.ready_agents},
              {"state", pod.state},
              {"restarts", pod.restarts},
              {"policy", pod.policy},
              {"hold", pod.hold},
              {"lastFault", fault}};
}

std::string as_json(const StatusReport& report) {
  Json out{{"pods", Json::array()}, {"withoutRemora", report.without}};
  for (const PodStatus& pod : report.pods) out["pods"].push_back(as_json(pod));
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string fault_text(const PodStatus& pod) {
  if (pod.fault.empty()) return {};
  return pod.fault + " " + pod.phase + " " + short_age(pod.fault_age) + " ago";
}

}  // namespace

StatusReport read_status(const StatusInput& input) {
  StatusReport report;
  const std::vector<Known> policies = read_policies(input.policies);
  const std::vector<LastIncident> incidents = read_incidents(input.incidents);
  for (const Json& body : input.pods) {
    const ObjectPtr object = make_object(body);
    if (object == nullptr) continue;
    const PodFacts pod = read_pod(*object);
    const config::Annotations annotations = metadata_map(body, "annotations");
    const auto mark = annotations.find(config::injected_annotation);
    if (mark == annotations.end()) {
      const auto wish = pod.labels.find(std::string(config::inject_label));
      const bool asks = wish != pod.labels.end() && wish->second == "true" && !pod.ended();
      if (asks) report.without.push_back(object->key());
      continue;
    }
    PodStatus status{.namespace_name = pod.namespace_name,
                     .pod = pod.name,
                     .node = pod.node,
                     .version = {},
                     .state = state_of(pod),
                     .policy = {},
                     .hold = {},
                     .fault = {},
                     .phase = {}};
    if (const Result<config::Injected> injected = config::parse_injected(mark->second)) {
      status.version = injected->version();
      count_agents(*injected, pod, status);
    }
    const PolicyRecord* policy = policy_for(pod, policies);
    if (policy != nullptr) status.policy = policy->name;
    status.hold = hold_of(pod, policy);
    if (const IncidentRecord* last = last_of(pod, incidents)) {
      status.fault = last->spec.fault();
      status.phase = last->status.phase().empty() ? "Open" : last->status.phase();
      if (const auto at = parse_time(last->spec.detected_at())) status.fault_age = input.now - *at;
    }
    report.pods.push_back(std::move(status));
  }
  return report;
}

std::string render_status(const StatusReport& report, Form form, bool all_namespaces) {
  if (form == Form::kJson) return as_json(report);
  const bool wide = form == Form::kWide;
  Row heads;
  if (all_namespaces) heads.emplace_back("NAMESPACE");
  heads.insert(heads.end(), {"POD", "AGENTS", "STATE", "RESTARTS", "POLICY", "HOLD", "LAST FAULT"});
  if (wide) heads.insert(heads.end(), {"NODE", "REMORA"});
  std::vector<Row> rows;
  for (const PodStatus& pod : report.pods) {
    Row row;
    if (all_namespaces) row.push_back(pod.namespace_name);
    row.insert(row.end(),
               {pod.pod, std::to_string(pod.ready_agents) + "/" + std::to_string(pod.agents),
                pod.state, std::to_string(pod.restarts), pod.policy, pod.hold, fault_text(pod)});
    if (wide) row.insert(row.end(), {pod.node, pod.version});
    rows.push_back(std::move(row));
  }
  std::string out = rows.empty() ? "no pod here has Remora\n" : render_table(heads, rows);
  for (const std::string& name : report.without) {
    out += "pod " + printable(name) + " asks for Remora and has none: delete it, and its owner's " +
           "next one gets it\n";
  }
  return out;
}

}  // namespace remora::k8s
