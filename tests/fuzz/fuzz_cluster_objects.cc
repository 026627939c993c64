// Any bytes as an object of the cluster: a pod, a node, a policy, an Incident, a Lease. Never a
// crash; what is read of a pod is the same after it was trimmed, and what is read of a resource
// comes back from what is written.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "k8s/evictions/eviction_plan.h"
#include "k8s/healing/claims.h"
#include "k8s/healing/facts.h"
#include "k8s/healing/records.h"
#include "k8s/healing/workload.h"
#include "k8s/lease/lease_record.h"
#include "k8s/resources/message_json.h"
#include "k8s/resources/settings.h"

using remora::k8s::Json;

namespace {

void check_pod(const Json& body) {
  const remora::k8s::ObjectPtr whole = remora::k8s::make_object(body);
  Json small = body;
  remora::k8s::trim_pod(small);
  const remora::k8s::ObjectPtr trimmed = remora::k8s::make_object(std::move(small));
  if ((whole == nullptr) != (trimmed == nullptr)) std::abort();
  if (whole == nullptr) return;
  const remora::k8s::PodFacts a = remora::k8s::read_pod(*whole);
  const remora::k8s::PodFacts b = remora::k8s::read_pod(*trimmed);
  if (a.phase != b.phase || a.ready != b.ready || a.paused != b.paused || a.owner() != b.owner() ||
      a.containers.size() != b.containers.size()) {
    std::abort();
  }
  static_cast<void>(remora::k8s::find_fault(b, nullptr, nullptr, {}, {}));
}

void check_node(const Json& body) {
  const remora::k8s::ObjectPtr whole = remora::k8s::make_object(body);
  Json small = body;
  remora::k8s::trim_node(small);
  const remora::k8s::ObjectPtr trimmed = remora::k8s::make_object(std::move(small));
  if (whole == nullptr || trimmed == nullptr) return;
  const remora::k8s::NodeFacts a = remora::k8s::read_node(*whole);
  const remora::k8s::NodeFacts b = remora::k8s::read_node(*trimmed);
  if (a.ready != b.ready || a.leaving != b.leaving) std::abort();
}

void check_eviction(const Json& body) {
  const remora::k8s::ObjectPtr whole = remora::k8s::make_object(body);
  Json small = body;
  remora::k8s::trim_eviction(small);
  const remora::k8s::ObjectPtr trimmed = remora::k8s::make_object(std::move(small));
  if (whole == nullptr || trimmed == nullptr) return;
  const auto a = remora::k8s::read_eviction(*whole);
  const auto b = remora::k8s::read_eviction(*trimmed);
  if (a.has_value() != b.has_value()) std::abort();
  if (!a) return;
  if (a->is_our_turn != b->is_our_turn || a->started_at != b->started_at) std::abort();
  const auto plan = remora::k8s::plan_eviction(*a, {}, a->started_at.value_or(remora::WallTime{}));
  if (!plan.status.empty() && Json::parse(plan.status, nullptr, false).is_discarded()) std::abort();
}

// A workload and its revisions at once, the Events of a pod, and its volumes.
void check_read_on_demand(const Json& body) {
  static_cast<void>(remora::k8s::read_pod_events(body));
  remora::k8s::ClaimFacts claim = remora::k8s::read_claim(body);
  claim.attached = remora::k8s::attached_to(claim.volume, body);
  if (remora::k8s::claim_words("c", claim, "n").empty()) std::abort();
  for (const auto& workload :
       {remora::k8s::read_deployment(body, body), remora::k8s::read_stateful_set(body, body)}) {
    for (const remora::k8s::Revision& revision : workload.revisions) {
      if (revision.pod_template.empty()) continue;  // nobody goes back to one
      const std::string patch = remora::k8s::rollback_patch(workload, revision, "a", "b");
      if (Json::parse(patch, nullptr, false).is_discarded()) std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static_cast<void>(remora::k8s::read_lease(text));
  Json body = Json::parse(text, nullptr, false);
  if (body.is_discarded()) return 0;
  check_pod(body);
  check_node(body);
  check_eviction(body);
  if (body.is_object() && body.contains("spec")) {
    static_cast<void>(remora::k8s::read_settings(body["spec"]));
  }
  check_read_on_demand(body);
  if (const auto policy = remora::k8s::read_policy(body)) {
    remora::k8s::v1alpha1::HealingPolicySpec again;
    if (!remora::k8s::read_message(remora::k8s::write_message(policy->spec), again)) std::abort();
  }
  if (const auto incident = remora::k8s::read_incident(body)) {
    if (remora::k8s::incident_status_text(*incident).empty()) std::abort();
  }
  return 0;
}
