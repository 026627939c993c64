#include "k8s/webhook/namespaces.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "config/pod.h"
#include "k8s/inject/json_view.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr std::string_view enforce_label = "pod-security.kubernetes.io/enforce";
constexpr std::string_view enabled_value = "enabled";
constexpr size_t label_bytes_max = 63;  // RFC 1123

// It comes from a request and goes into a path.
bool is_namespace_name(const std::string& name) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyz0123456789-";
  return !name.empty() && name.size() <= label_bytes_max &&
         name.find_first_not_of(allowed) == std::string::npos;
}

std::string name_of(const Json& object) {
  const Json* metadata = find_object(object, "metadata");
  return metadata == nullptr ? std::string() : text_of(*metadata, "name");
}

}  // namespace

NamespaceTraits traits_of(const Json& namespace_object) {
  NamespaceTraits traits;
  const Json* metadata = find_object(namespace_object, "metadata");
  const Json* labels = metadata == nullptr ? nullptr : find_object(*metadata, "labels");
  if (labels == nullptr) return traits;
  const std::string level = text_of(*labels, enforce_label);
  if (level == "baseline") traits.pod_security = PodSecurity::kBaseline;
  if (level == "restricted") traits.pod_security = PodSecurity::kRestricted;
  traits.inject = text_of(*labels, config::inject_label) == enabled_value;
  return traits;
}

Namespaces::Namespaces(Loop& loop, ApiClient& client, Counter& failures)
    : loop_(loop), client_(client), failures_(failures) {}

void Namespaces::start(Task loaded) {
  loaded_ = std::move(loaded);
  next_ = loop_.add_timer({}, [this] { poll(); });
}

void Namespaces::poll() {
  reading_.clear();
  list_.emplace(
      client_, "/api/v1/namespaces",
      [this](const Json& item) {
        if (reading_.size() < namespaces_max) reading_[name_of(item)] = traits_of(item);
      },
      [this](const Result<void>& result) { end_poll(result); });
}

void Namespaces::end_poll(const Result<void>& result) {
  // As long as nothing is known, nothing can be served.
  const int next_ms = !result && loaded_ ? namespaces_retry_ms : namespaces_poll_ms;
  next_ = loop_.add_timer(std::chrono::milliseconds(next_ms), [this] { poll(); });
  if (!result) {
    failures_.add();
    if (result.error().message != trouble_) {
      trouble_ = result.error().message;
      log_warn("namespaces_unknown", {{"error", trouble_}});
    }
    return;
  }
  trouble_.clear();
  known_ = std::exchange(reading_, {});
  if (loaded_) std::exchange(loaded_, nullptr)();
}

const NamespaceTraits* Namespaces::find(const std::string& name) const {
  const auto found = known_.find(name);
  return found == known_.end() ? nullptr : &found->second;
}

void Namespaces::look_up(const std::string& name, Found found) {
  if (const NamespaceTraits* traits = find(name)) return found(*traits);
  const auto under_way = look_ups_.find(name);
  if (under_way != look_ups_.end()) {
    under_way->second.waiting.push_back(std::move(found));
    return;
  }
  if (!is_namespace_name(name) || look_ups_.size() >= namespace_lookups_max) return found({});
  LookUp& look_up = look_ups_[name];
  look_up.waiting.push_back(std::move(found));
  look_up.call =
      client_.call({.path = "/api/v1/namespaces/" + name, .answer_ms_max = namespace_lookup_ms_max},
                   [this, name](const Result<ApiReply>& reply) { end_look_up(name, reply); });
}

void Namespaces::end_look_up(const std::string& name, const Result<ApiReply>& reply) {
  NamespaceTraits traits;
  if (reply && reply->ok()) {
    traits = traits_of(Json::parse(reply->body, nullptr, false));
    if (known_.size() < namespaces_max) known_[name] = traits;
  } else if (!reply || reply->status != 404) {
    failures_.add();
    ApiRequest request;
    request.path = "/api/v1/namespaces/" + name;
    const std::string why =
        reply ? api_error(request, *reply).message : std::string(reply.error().message);
    if (why != trouble_) log_warn("namespace_unknown", {{"error", why}});
    trouble_ = why;
  }
  auto look_up = look_ups_.extract(name);
  for (Found& found : look_up.mapped().waiting) found(traits);
}

std::vector<std::string> Namespaces::enabled() const {
  std::vector<std::string> names;
  for (const auto& [name, traits] : known_) {
    if (traits.inject) names.push_back(name);
  }
  return names;
}

}  // namespace remora::k8s
