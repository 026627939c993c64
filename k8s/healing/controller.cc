#include "k8s/healing/controller.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/healing/controller_look.h"
#include "k8s/healing/incident_trace.h"
#include "k8s/healing/records.h"
#include "k8s/healing/sidecar_reports.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr std::chrono::milliseconds gather{heal_gather_ms};
constexpr std::chrono::milliseconds picture_age_max{heal_picture_age_ms_max};
constexpr std::chrono::milliseconds workload_age_max{workload_age_ms_max};
// Of a pod that has a fault they say what it is until the next ones are read.
constexpr std::chrono::minutes events_kept{5};
constexpr std::chrono::minutes claims_kept{5};
constexpr const char* incidents_path = "/apis/remora.dev/v1alpha1/incidents";

const Object& any(const ObjectPtr& before, const ObjectPtr& after) {
  return after != nullptr ? *after : *before;
}

bool intends_step(const HealAction& action) {
  const auto* update = std::get_if<UpdateIncident>(&action);
  if (update == nullptr || update->incident.status.steps_size() == 0) return false;
  const auto& steps = update->incident.status.steps();
  return steps[steps.size() - 1].state() == "intended";
}

}  // namespace

HealingController::HealingController(Loop& loop, ApiClient& client, ObjectCache& policies,
                                     HealingOptions options, MetricRegistry& registry)
    : loop_(loop),
      client_(client),
      options_(std::move(options)),
      metrics_(registry),
      pods_(loop, client, {.path = "/api/v1/pods", .trim = trim_pod, .seed = options_.seed}),
      node_cache_(loop, client,
                  {.path = "/api/v1/nodes", .trim = trim_node, .seed = options_.seed + 1}),
      policies_(policies),
      incidents_(loop, client, {.path = incidents_path, .seed = options_.seed + 3}),
      queue_(loop, {.workers_max = 4, .seed = options_.seed},
             [this](const std::string& key, WorkQueue::Done done) { look(key, std::move(done)); }) {
  listen(pods_, &HealingController::on_pod);
  listen(node_cache_, &HealingController::on_node);
  listen(incidents_, &HealingController::on_incident);
  registry.on_collect([this] { picture(); });
}

void HealingController::listen(ObjectCache& cache, Member member) {
  cache.on_change([this, member](const ObjectPtr& before, const ObjectPtr& after) {
    (this->*member)(before, after);
  });
}

int HealingController::steps_left(const PolicyRecord& policy,
                                  const std::map<std::string, IncidentRecord>& incidents) const {
  std::map<std::string, IncidentRecord> own;
  for (const auto& [name, incident] : incidents) {
    if (incident.spec.policy() == policy.name) own.emplace(name, incident);
  }
  const WallTime now = loop_.clock().wall_now();
  const v1alpha1::Budgets& budgets = policy.spec.budgets();
  const Duration window = std::chrono::seconds(budgets.window().seconds());
  const auto used = std::ranges::count_if(
      steps_taken(own, now), [&](const WallTime& taken) { return now - taken < window; });
  return std::max(0, budgets.steps_max() - static_cast<int>(used));
}

// Of what is known at this moment, for the metrics.
void HealingController::picture() {
  metrics_.queue_depth.set(static_cast<double>(queue_.waiting()));
  metrics_.queue_oldest.set(static_cast<double>(to_ms(queue_.oldest_wait())) / 1000);
  metrics_.begin_picture();
  for (const auto& [namespace_name, place] : places_) {
    for (const auto& [name, incident] : place.incidents) metrics_.add_to_picture(incident);
    for (const auto& [name, policy] : place.policies) {
      metrics_.add_to_picture(namespace_name, name, steps_left(policy, place.incidents));
    }
  }
}

HealingController::~HealingController() = default;

void HealingController::start() {
  // Others have followed the policies since before.
  listen(policies_, &HealingController::on_policy);
  for (const auto& [key, policy] : policies_.objects()) on_policy(nullptr, policy);
  for (ObjectCache* cache : {&pods_, &node_cache_, &incidents_}) cache->start();
}

void HealingController::on_pod(const ObjectPtr& before, const ObjectPtr& after) {
  const Object& object = any(before, after);
  Place& place = places_[object.namespace_name];
  if (after == nullptr) {
    place.pods.erase(object.name);
    place.told.erase(object.uid);
  } else {
    place.pods[object.name] = read_pod(*after);
  }
  look_soon(object.namespace_name);
}

void HealingController::on_node(const ObjectPtr& before, const ObjectPtr& after) {
  const Object& object = any(before, after);
  const auto known = nodes_.find(object.name);
  NodeFacts was{.name = object.name};
  if (known != nodes_.end()) was = known->second;
  NodeFacts is{.name = object.name};
  if (after == nullptr) {
    nodes_.erase(object.name);
  } else {
    is = read_node(*after);
    is.last_open = was.last_open;
    if (is.leaving.empty()) is.last_open = loop_.clock().wall_now();
    nodes_[object.name] = is;
  }
  if (was.ready == is.ready && was.leaving == is.leaving) return;  // a heartbeat
  for (const auto& [name, place] : places_) look_soon(name);
}

void HealingController::on_policy(const ObjectPtr& before, const ObjectPtr& after) {
  const Object& object = any(before, after);
  Place& place = places_[object.namespace_name];
  place.policies.erase(object.name);
  if (after == nullptr) return look_soon(object.namespace_name);
  Result<PolicyRecord> policy = read_policy(after->body);
  if (policy) {
    place.policies[object.name] = std::move(*policy);
  } else {
    // The API server's schema keeps such a one out; one of a later version may still come.
    metrics_.failures.add();
    log_warn("policy_unreadable", {{"policy", object.key()}, {"error", policy.error().message}});
  }
  look_soon(object.namespace_name);
}

void HealingController::on_incident(const ObjectPtr& before, const ObjectPtr& after) {
  const Object& object = any(before, after);
  Place& place = places_[object.namespace_name];
  const auto known = place.incidents.find(object.name);
  if (after != nullptr) {
    keep(object.namespace_name, after->body);
  } else if (known != place.incidents.end() && known->second.uid == object.uid) {
    fleet_.remove(object.key());
    place.incidents.erase(known);
  }
  look_soon(object.namespace_name);
}

// From a watch or from the answer to a write of ours, whichever is newer.
void HealingController::keep(const std::string& namespace_name, const Json& object) {
  Result<IncidentRecord> incident = read_incident(object);
  if (!incident) {
    metrics_.failures.add();
    log_warn("incident_unreadable", {{"error", incident.error().message}});
    return;
  }
  IncidentRecord& place = places_[namespace_name].incidents[incident->name];
  if (place.uid == incident->uid && !is_newer(incident->resource_version, place.resource_version)) {
    return;
  }
  place = std::move(*incident);
  fleet_.put(namespace_name + "/" + place.name, place);
}

bool HealingController::has_pod(const std::string& namespace_name, const std::string& uid) const {
  if (!pods_.synced()) return true;
  const auto place = places_.find(namespace_name);
  return place != places_.end() && std::ranges::any_of(place->second.pods, [&](const auto& pod) {
           return pod.second.uid == uid;
         });
}

IncidentRecord* HealingController::find_incident(const std::string& namespace_name,
                                                 const std::string& name) {
  auto& incidents = places_[namespace_name].incidents;
  const auto found = incidents.find(name);
  return found == incidents.end() ? nullptr : &found->second;
}

void HealingController::report(const std::string& namespace_name, SidecarReport report, Kept kept) {
  Place& place = places_[namespace_name];
  const std::string key = report_key(report);
  if (place.reports.size() >= heal_reports_waiting_max && !place.reports.contains(key)) return;
  metrics_.reports.add();
  place.reports[key] = std::move(report);
  place.kept[key] = std::move(kept);
  look_soon(namespace_name);
}

void HealingController::settings_told(const std::string& namespace_name, const std::string& uid,
                                      ToldSettings told) {
  Place& place = places_[namespace_name];
  if (place.told.size() >= heal_reports_waiting_max && !place.told.contains(uid)) return;
  place.told[uid] = std::move(told);
  look_soon(namespace_name);
}

const PodFacts* HealingController::find_pod(const std::string& namespace_name,
                                            const std::string& name, const std::string& uid) const {
  const auto place = places_.find(namespace_name);
  if (place == places_.end()) return nullptr;
  const auto pod = place->second.pods.find(name);
  return pod == place->second.pods.end() || pod->second.uid != uid ? nullptr : &pod->second;
}

std::set<std::string> HealingController::namespaces_with_sidecars() const {
  std::set<std::string> names;
  for (const auto& [name, place] : places_) {
    const bool has =
        std::ranges::any_of(place.pods, [](const auto& pod) { return pod.second.has_sidecar; });
    if (has) names.insert(name);
  }
  return names;
}

void HealingController::acknowledge(Place& place, const std::vector<std::string>& kept) {
  for (const std::string& key : kept) {
    const auto report = place.reports.extract(key);
    const auto tell = place.kept.extract(key);
    tell.mapped()(report.mapped());
  }
}

void HealingController::look_soon(const std::string& namespace_name) {
  queue_.add_after(namespace_name, gather);
}

std::string HealingController::out_of_date() const {
  const ObjectCache& policies = policies_;
  for (const ObjectCache* cache : {&pods_, &node_cache_, &policies, &incidents_}) {
    if (cache->is_fresh(picture_age_max)) continue;
    return "what is known of the cluster may be out of date" +
           (cache->trouble().empty() ? std::string() : ": " + cache->trouble());
  }
  return {};
}

NamespaceView HealingController::view_of(const std::string& namespace_name,
                                         const Place& place) const {
  NamespaceView view;
  view.name = namespace_name;
  view.pods = &place.pods;
  view.nodes = &nodes_;
  for (const auto& [name, policy] : place.policies) view.policies.push_back(policy);
  view.incidents = &place.incidents;
  view.workloads = &place.workloads;
  view.events = &place.events;
  view.claims = &place.claims;
  if (agents_.agents) view.agents = agents_.agents(namespace_name);
  view.namespace_budget = options_.namespace_budget;
  view.fleet_budget = options_.fleet_budget;
  view.reports = &place.reports;
  view.told = &place.told;
  view.out_of_date = out_of_date();
  view.now = loop_.clock().wall_now();
  view.fleet_steps = fleet_.taken(options_.fleet_budget, view.now);
  view.fleet_steps.insert(view.fleet_steps.end(), static_cast<size_t>(steps_under_way_), view.now);
  return view;
}

void HealingController::forget_old(Place& place) const {
  const WallTime now = loop_.clock().wall_now();
  std::erase_if(place.workloads,
                [&](const auto& each) { return now - each.second.read_at > workload_age_max; });
  std::erase_if(place.claims,
                [&](const auto& each) { return now - each.second.read_at > claims_kept; });
  std::erase_if(place.events,
                [&](const auto& each) { return now - each.second.read_at > events_kept; });
}

void HealingController::tell_people(const std::string& namespace_name, const Place& place) const {
  if (options_.alerts == nullptr) return;
  for (const auto& [name, incident] : place.incidents) {
    const auto policy = place.policies.find(incident.spec.policy());
    options_.alerts->see(namespace_name, incident,
                         policy == place.policies.end() ? nullptr : &policy->second.spec.alerts());
  }
}

void HealingController::end(const LookPtr& look) {
  if (--look->under_way > 0) return;
  steps_under_way_ -= look->steps;
  look->done(look->outcome);
}

void HealingController::look(const std::string& namespace_name, WorkQueue::Done done) {
  const bool known =
      pods_.synced() && node_cache_.synced() && policies_.synced() && incidents_.synced();
  if (!known) return done({.again_after = std::chrono::seconds(1)});
  const auto found = places_.find(namespace_name);
  if (found == places_.end()) return done({});
  Place& place = found->second;
  if (place.policies.empty() && place.incidents.empty() && place.reports.empty()) {
    if (place.pods.empty()) places_.erase(found);
    return done({});
  }
  metrics_.looks.add();
  forget_old(place);
  tell_people(namespace_name, place);
  const NamespacePlan plan = plan_namespace(view_of(namespace_name, place), place.memory);
  acknowledge(place, plan.kept);
  auto look = std::make_shared<Look>();
  look->namespace_name = namespace_name;
  look->done = std::move(done);
  look->outcome.again_after = plan.look_again;
  ++look->under_way;  // this function itself
  int left = heal_actions_per_look_max;
  for (const HealAction& action : plan.actions) {
    if (left-- == 0) {
      look->outcome.again_after = gather;
      break;
    }
    if (intends_step(action)) ++look->steps;
    std::visit([&](const auto& one) { act(look, one); }, action);
  }
  steps_under_way_ += look->steps;
  end(look);
}

void HealingController::send(const LookPtr& look, ApiRequest request,
                             std::function<void(const Result<ApiReply>&)> then) {
  request.may_send = options_.may_write;
  ++look->under_way;
  const uint64_t id = ++calls_made_;
  calls_[id] = client_.call(
      std::move(request), [this, look, id, then = std::move(then)](const Result<ApiReply>& reply) {
        const auto call = calls_.extract(id);
        then(reply);
        end(look);
      });
}

// What a failure means for the look: a conflict is looked at again soon, from the newer state.
void HealingController::judge(const LookPtr& look, const ApiRequest& request,
                              const Result<ApiReply>& reply, bool conflict_is_fine) {
  if (reply && (reply->ok() || (conflict_is_fine && reply->status == 409))) return;
  look->outcome.failed = true;
  look->outcome.again_after.reset();
  // The lead is over, which is logged where it ends.
  if (!reply && reply.error().code == ErrorCode::kCancelled) return;
  std::string why = reply ? std::string() : reply.error().message;
  if (reply) {
    const ApiProblem problem = api_problem(request, *reply);
    if (problem.fault == ApiFault::kConflict || problem.fault == ApiFault::kNotFound) return;
    look->outcome.again_after = problem.retry_after;
    why = problem.error.message;
  }
  metrics_.failures.add();
  if (why == trouble_) return;
  trouble_ = why;
  log_warn("healing_failed", {{"namespace", look->namespace_name}, {"error", why}});
}

void HealingController::act(const LookPtr& look, const OpenIncident& action) {
  const ApiRequest request = create_request(incident_path(look->namespace_name, action.name),
                                            incident_text(look->namespace_name, action));
  send(look, request, [this, look, action, request](const Result<ApiReply>& reply) {
    judge(look, request, reply, true);
    if (!reply || !reply->ok()) return;
    metrics_.count_opened(action.spec);
    keep(look->namespace_name, Json::parse(reply->body, nullptr, false));
    log_warn("incident_opened", {{"namespace", look->namespace_name},
                                 {"incident", action.name},
                                 {"pod", action.spec.pod().name()},
                                 {"fault", action.spec.fault()},
                                 {"summary", action.spec.summary()}});
    look->outcome.again_after = gather;
    const IncidentRecord* made = find_incident(look->namespace_name, action.name);
    if (made != nullptr) tell(look, *made, action.reason, action.spec.summary());
  });
}

void HealingController::act(const LookPtr& look, const UpdateIncident& action) {
  const IncidentRecord* known = find_incident(look->namespace_name, action.incident.name);
  const bool same = known != nullptr &&
                    known->status.SerializeAsString() == action.incident.status.SerializeAsString();
  if (same) return;
  const ApiRequest request =
      merge_status_request(incident_path(look->namespace_name, action.incident.name),
                           incident_status_text(action.incident));
  send(look, request, [this, look, action, request](const Result<ApiReply>& reply) {
    judge(look, request, reply, false);
    if (!reply || !reply->ok()) return;
    keep(look->namespace_name, Json::parse(reply->body, nullptr, false));
    if (action.reason == "RemoraResolved") metrics_.count_ended(action.incident);
    const bool has_ended = !action.incident.status.ended_at().empty();
    if (has_ended && options_.traces != nullptr) {
      options_.traces->send(incident_trace(look->namespace_name, action.incident));
    }
    if (action.reason.empty()) return;
    log_info("incident", {{"namespace", look->namespace_name},
                          {"incident", action.incident.name},
                          {"pod", action.incident.spec.pod().name()},
                          {"reason", action.reason},
                          {"message", action.message}});
    look->outcome.again_after = gather;
    tell(look, action.incident, action.reason, action.message);
  });
}

void HealingController::act(const LookPtr& look, const DeleteIncident& action) {
  const ApiRequest request =
      delete_request(incident_path(look->namespace_name, action.name), {.uid = action.uid});
  send(look, request,
       [this, look, request](const Result<ApiReply>& reply) { judge(look, request, reply, true); });
}

void HealingController::act(const LookPtr& look, const UpdatePolicy& action) {
  const ApiRequest request = apply_status_request(policy_path(look->namespace_name, action.name),
                                                  policy_status_text(look->namespace_name, action));
  send(look, request, [this, look, action, request](const Result<ApiReply>& reply) {
    judge(look, request, reply, false);
    if (!reply || !reply->ok()) return;
    // The watch will tell the same: until then it isn't written again.
    auto& policies = places_[look->namespace_name].policies;
    const auto found = policies.find(action.name);
    if (found != policies.end()) found->second.status = action.status;
  });
}

// An Event that can't be written is no reason to do the step again.
void HealingController::tell(const LookPtr& look, const IncidentRecord& incident,
                             const std::string& reason, const std::string& message) {
  ApiRequest request;
  request.method = "POST";
  request.path = "/api/v1/namespaces/" + look->namespace_name + "/events";
  request.body = incident_event(look->namespace_name, incident, reason, message, options_.instance,
                                loop_.clock().wall_now());
  send(look, request, [this, request](const Result<ApiReply>& reply) {
    if (reply && (reply->ok() || reply->status == 409)) return;
    if (!reply && reply.error().code == ErrorCode::kCancelled) return;
    metrics_.failures.add();
    const std::string why =
        reply ? api_error(request, *reply).message : std::string(reply.error().message);
    log_warn("event_refused", {{"error", why}});
  });
}

}  // namespace remora::k8s
