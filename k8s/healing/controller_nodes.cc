// What concerns nodes that pods leave: fencing, volumes that stay behind, snapshots in time.
#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/healing/controller_look.h"
#include "k8s/healing/records.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

// One for each volume that is attached; of a cluster that has more the rest is not looked at.
constexpr int attachments_max = 5'000;

}  // namespace

// Written before the eviction is sent: from then on nothing that the old pod still writes counts.
void HealingController::fence(const LookPtr& look, const EvictPod& action) {
  ++look->under_way;
  agents_.fence(
      look->namespace_name, action.incident.spec.pod().uid(),
      [this, look, action](const Result<std::string>& fenced) {
        EvictPod next = action;
        if (!fenced) {
          act(look, after_step(action.incident, StepOutcome::kHeld,
                               "the pod's identity could not be fenced: " + fenced.error().message,
                               loop_.clock().wall_now()));
        } else {
          if (!fenced->empty()) {
            next.incident.status.add_evidence("its identity is fenced first: " + *fenced);
          }
          evict(look, next);
        }
        end(look);
      });
}

// A claim, and where its volume is attached if only one node may have it.
void HealingController::act(const LookPtr& look, const ReadClaims& action) {
  for (const std::string& name : action.names) {
    const ApiRequest request{.path = "/api/v1/namespaces/" + look->namespace_name +
                                     "/persistentvolumeclaims/" + name};
    send(look, request, [this, look, name, request](const Result<ApiReply>& reply) {
      if (reply && reply->ok()) {
        const Json body = Json::parse(reply->body, nullptr, false);
        ClaimFacts facts = read_claim(body.is_discarded() ? Json::object() : body);
        if (facts.is_shared() || facts.volume.empty()) {
          return keep_claim(look, name, std::move(facts));
        }
        return read_attachments(look, name, std::move(facts));
      }
      const bool for_good = reply && (reply->status == 403 || reply->status == 404);
      if (!for_good) return judge(look, request, reply, false);
      keep_claim(look, name, {.trouble = api_error(request, *reply).message});
    });
  }
}

void HealingController::read_attachments(const LookPtr& look, const std::string& claim,
                                         ClaimFacts facts) {
  const ApiRequest request{.path = "/apis/storage.k8s.io/v1/volumeattachments?limit=" +
                                   std::to_string(attachments_max)};
  send(look, request,
       [this, look, claim, facts = std::move(facts), request](const Result<ApiReply>& reply) {
         ClaimFacts known = facts;
         if (reply && reply->ok()) {
           const Json body = Json::parse(reply->body, nullptr, false);
           known.attached = attached_to(known.volume, body.is_discarded() ? Json::object() : body);
           return keep_claim(look, claim, std::move(known));
         }
         if (!reply || reply->status != 403) return judge(look, request, reply, false);
         known.trouble = api_error(request, *reply).message;
         keep_claim(look, claim, std::move(known));
       });
}

void HealingController::keep_claim(const LookPtr& look, const std::string& claim,
                                   ClaimFacts facts) {
  facts.read_at = loop_.clock().wall_now();
  places_[look->namespace_name].claims[claim] = std::move(facts);
  look->outcome.again_after = std::chrono::milliseconds(heal_gather_ms);
}

void HealingController::act(const LookPtr& look, const AskAgent& action) {
  if (!agents_.ask) return;
  ++look->under_way;
  agents_.ask(look->namespace_name, action, [this, look, action](const Result<void>& asked) {
    if (!asked) {
      // Somebody else has just asked for something, or the lead is over: the next look decides.
      look->outcome.failed = true;
      log_info("agent_not_asked", {{"namespace", look->namespace_name},
                                   {"pod", action.pod},
                                   {"action", action.action},
                                   {"error", asked.error().message}});
      return end(look);
    }
    metrics_.count_asked(action.action);
    log_info("agent_asked", {{"namespace", look->namespace_name},
                             {"pod", action.pod},
                             {"agent", action.agent},
                             {"action", action.action},
                             {"request", action.id},
                             {"why", action.why}});
    // Of a step its Incident tells.
    if (action.action == "Snapshot") tell_leaving(look, action);
    end(look);
  });
}

void HealingController::tell_leaving(const LookPtr& look, const AskAgent& action) {
  ApiRequest request;
  request.method = "POST";
  request.path = "/api/v1/namespaces/" + look->namespace_name + "/events";
  request.body =
      leaving_event(look->namespace_name, action, options_.instance, loop_.clock().wall_now());
  send(look, request, [request](const Result<ApiReply>& reply) {
    if (reply && (reply->ok() || reply->status == 409)) return;
    if (reply) log_warn("event_refused", {{"error", api_error(request, *reply).message}});
  });
}

}  // namespace remora::k8s
