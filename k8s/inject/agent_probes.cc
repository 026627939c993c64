#include "k8s/inject/agent_probes.h"

#include <array>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace remora::k8s {
namespace {

using config::Probe;

struct ProbeKind {
  std::string_view member;
  std::string_view path;  // the last step of the sidecar's own
  const Probe& (config::InjectedAgent::*get)() const;
  bool (config::InjectedAgent::*has)() const;
  Probe* (config::InjectedAgent::*mutate)();
};
constexpr std::array<ProbeKind, 3> probe_kinds{{
    {"startupProbe", "startup", &config::InjectedAgent::startup_probe,
     &config::InjectedAgent::has_startup_probe, &config::InjectedAgent::mutable_startup_probe},
    {"livenessProbe", "liveness", &config::InjectedAgent::liveness_probe,
     &config::InjectedAgent::has_liveness_probe, &config::InjectedAgent::mutable_liveness_probe},
    {"readinessProbe", "readiness", &config::InjectedAgent::readiness_probe,
     &config::InjectedAgent::has_readiness_probe, &config::InjectedAgent::mutable_readiness_probe},
}};

// Why a probe stays with the kubelet.
using Reason = std::string;

std::expected<int32_t, Reason> probe_port(const Json& container, const Json& action) {
  std::optional<int64_t> number = integer_of(action, "port");
  if (const std::string name = text_of(action, "port"); !number && !name.empty()) {
    const Json* named = find_named(find_array(container, "ports"), "name", name);
    if (named == nullptr) {
      return std::unexpected("the container has no port named " + name +
                             ", so it fails until you name one");
    }
    number = integer_of(*named, "containerPort");
  }
  if (!number || *number < 1 || *number > 65535) return std::unexpected(Reason("it has no port"));
  return static_cast<int32_t>(*number);
}

int32_t number_or(const Json& probe, std::string_view key, int32_t otherwise) {
  const std::optional<int64_t> number = integer_of(probe, key);
  return number && *number >= 0 && *number <= INT32_MAX ? static_cast<int32_t>(*number) : otherwise;
}

// Defaults of core/v1 Probe.
void copy_numbers(const Json& from, Probe& to) {
  to.set_initial_delay_seconds(number_or(from, "initialDelaySeconds", 0));
  to.set_period_seconds(number_or(from, "periodSeconds", 10));
  to.set_timeout_seconds(number_or(from, "timeoutSeconds", 1));
  to.set_success_threshold(number_or(from, "successThreshold", 1));
  to.set_failure_threshold(number_or(from, "failureThreshold", 3));
}

void copy_http(const Json& from, int32_t port, config::HttpGetAction& to) {
  const std::string path = text_of(from, "path");
  to.set_path(path.starts_with('/') ? path : "/" + path);
  to.set_port(port);
  const std::string scheme = text_of(from, "scheme");
  to.set_scheme(scheme.empty() ? "HTTP" : scheme);
  const Json* headers = find_array(from, "httpHeaders");
  if (headers == nullptr) return;
  for (const Json& header : *headers) {
    config::HttpHeader& copy = *to.add_http_headers();
    copy.set_name(text_of(header, "name"));
    copy.set_value(text_of(header, "value"));
  }
}

std::expected<Probe, Reason> original_probe(const Json& container, const Json& from) {
  Probe probe;
  copy_numbers(from, probe);
  if (find(from, "exec") != nullptr) {
    return std::unexpected(Reason("only the container itself can run its command"));
  }
  for (const std::string_view member : {"httpGet", "tcpSocket", "grpc"}) {
    const Json* action = find_object(from, member);
    if (action == nullptr) continue;
    if (!text_of(*action, "host").empty()) {
      return std::unexpected(Reason("it asks another host than the pod"));
    }
    const std::expected<int32_t, Reason> port = probe_port(container, *action);
    if (!port) return std::unexpected(port.error());
    if (member == "httpGet") {
      copy_http(*action, *port, *probe.mutable_http_get());
    } else if (member == "tcpSocket") {
      probe.mutable_tcp_socket()->set_port(*port);
    } else {
      probe.mutable_grpc()->set_port(*port);
      probe.mutable_grpc()->set_service(text_of(*action, "service"));
    }
    return probe;
  }
  return std::unexpected(Reason("it is of a kind that Remora does not know"));
}

const config::InjectedAgent* agent_before(const Plan& plan, const std::string& name) {
  if (!plan.before) return nullptr;
  for (const config::InjectedAgent& agent : plan.before->agents()) {
    if (agent.name() == name) return &agent;
  }
  return nullptr;
}

class ProbeRewriter {
 public:
  ProbeRewriter(Plan& plan, PatchBuilder& patch, AgentPlan& agent)
      : plan_(plan), patch_(patch), agent_(agent), name_(agent.record.name()) {}

  void run(const ProbeKind& kind) {
    const Json* probe = find_object(plan_.container(agent_), kind.member);
    if (probe == nullptr) return;
    if (is_ours(*probe, kind)) return keep_record(kind);
    std::expected<Probe, Reason> original = original_probe(plan_.container(agent_), *probe);
    if (!original) {
      return plan_.note("container " + name_ + ": " + std::string(kind.member) +
                        " stays with the kubelet: " + original.error());
    }
    const std::string pointer = plan_.container_pointer(agent_) + "/" + std::string(kind.member);
    for (const std::string member : {"tcpSocket", "grpc"}) {
      if (probe->contains(member)) patch_.remove(pointer + "/" + member);
    }
    // Replaces an httpGet that is there.
    patch_.add(pointer + "/httpGet", our_action(kind));
    *(agent_.record.*kind.mutate)() = *std::move(original);
    plan_.note("container " + name_ + ": " + std::string(kind.member) + " asks Remora at " +
               path_of(kind) + ", which makes the original one");
  }

 private:
  std::string path_of(const ProbeKind& kind) const {
    return "/probe/" + name_ + "/" + std::string(kind.path);
  }
  Json our_action(const ProbeKind& kind) const {
    return {{"path", path_of(kind)}, {"port", plan_.injected.pod().health_port()}};
  }
  bool is_ours(const Json& probe, const ProbeKind& kind) const {
    const Json* get = find_object(probe, "httpGet");
    return get != nullptr && text_of(*get, "path") == path_of(kind) &&
           integer_of(*get, "port") == plan_.injected.pod().health_port();
  }
  void keep_record(const ProbeKind& kind) {
    const config::InjectedAgent* before = agent_before(plan_, name_);
    if (before != nullptr && (before->*kind.has)()) {
      *(agent_.record.*kind.mutate)() = (before->*kind.get)();
    } else {
      plan_.warn("container " + name_ + ": " + std::string(kind.member) +
                 " already asks Remora, but the original one is not recorded; put it back");
    }
  }

  Plan& plan_;
  PatchBuilder& patch_;
  AgentPlan& agent_;
  const std::string& name_;
};

}  // namespace

void rewrite_probes(Plan& plan, PatchBuilder& patch) {
  if (!plan.settings.rewrite_probes()) {
    return plan.warn(
        "probes are left with the kubelet: while Remora heals an agent, the kubelet may kill it "
        "(remora.dev/rewrite-probes)");
  }
  for (AgentPlan& agent : plan.agents) {
    for (const ProbeKind& kind : probe_kinds) ProbeRewriter(plan, patch, agent).run(kind);
  }
}

}  // namespace remora::k8s
