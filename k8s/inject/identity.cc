#include "k8s/inject/identity.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace remora::k8s {
namespace {

constexpr std::string_view what_is_lost =
    "Remora then can't look into its processes or signal them: no deadlock or hang is found in "
    "them, a restart goes through the kubelet's liveness probe only, and snapshots are taken "
    "without stopping it";

// Of the container, else of the pod.
std::optional<int64_t> run_as(const Plan& plan, const AgentPlan& agent, std::string_view key) {
  if (const Json* own = find_object(plan.container(agent), "securityContext")) {
    if (const auto id = integer_of(*own, key)) return id;
  }
  const Json* pod = find_object(plan.spec(), "securityContext");
  return pod == nullptr ? std::nullopt : integer_of(*pod, key);
}

// The agent's own choice of capabilities; null when it has the runtime's default ones.
const Json* capabilities_of(const Plan& plan, const AgentPlan& agent) {
  const Json* own = find_object(plan.container(agent), "securityContext");
  return own == nullptr ? nullptr : find_object(*own, "capabilities");
}

bool is_privileged(const Plan& plan, const AgentPlan& agent) {
  const Json* own = find_object(plan.container(agent), "securityContext");
  return own != nullptr && bool_of(*own, "privileged") == true;
}

void warn_of_others(Plan& plan, std::optional<int64_t> uid, std::optional<int64_t> gid) {
  for (const AgentPlan& agent : plan.agents) {
    const std::string& name = agent.record.name();
    const auto agent_uid = run_as(plan, agent, "runAsUser");
    const auto agent_gid = run_as(plan, agent, "runAsGroup");
    if (is_privileged(plan, agent)) {
      plan.warn("container " + name + " is privileged, and Remora is not. " +
                std::string(what_is_lost));
    } else if (!uid || !agent_uid) {
      plan.warn("the user of container " + name +
                " is unknown: it is its image's. Set securityContext.runAsUser and runAsGroup. " +
                std::string(what_is_lost) + ", unless the image's user is Remora's");
    } else if (*uid != *agent_uid) {
      plan.warn("container " + name + " runs as user " + std::to_string(*agent_uid) +
                ", Remora as user " + std::to_string(*uid) + ". " + std::string(what_is_lost));
    } else if (!agent_gid && gid.value_or(0) == 0 && *uid != 0) {
      plan.warn("the group of container " + name +
                " is unknown: it is its image's, or 0. Set securityContext.runAsGroup. If it is "
                "not 0, " +
                std::string(what_is_lost));
    } else if (agent_gid != gid) {
      plan.warn("container " + name + " and Remora run in different groups. " +
                std::string(what_is_lost));
    }
  }
}

// That no other container runs as, as far as the pod says.
bool is_nobody_elses(const Plan& plan, int64_t uid) {
  const Json* pod = find_object(plan.spec(), "securityContext");
  const auto pod_uid = pod == nullptr ? std::nullopt : integer_of(*pod, "runAsUser");
  for (const char* list : {"containers", "initContainers"}) {
    const Json* containers = find_array(plan.spec(), list);
    if (containers == nullptr) continue;
    for (const Json& container : *containers) {
      const std::string name = text_of(container, "name");
      if (name == sidecar_container || name == intercept_container) continue;
      const Json* own = find_object(container, "securityContext");
      const auto own_uid = own == nullptr ? std::nullopt : integer_of(*own, "runAsUser");
      const auto runs_as = own_uid ? own_uid : pod_uid;
      // Its image's user, or root, which can become any.
      if (!runs_as || *runs_as == uid || *runs_as == 0) return false;
    }
  }
  return true;
}

}  // namespace

std::optional<int64_t> own_user(const Plan& plan) {
  if (!plan.settings.has_run_as_user()) return std::nullopt;
  const int64_t uid = plan.settings.run_as_user();
  if (uid == 0 || !is_nobody_elses(plan, uid)) return std::nullopt;
  return uid;
}

Json sidecar_security_context(Plan& plan) {
  const AgentPlan& first = plan.agents.front();
  std::optional<int64_t> uid = run_as(plan, first, "runAsUser");
  std::optional<int64_t> gid = run_as(plan, first, "runAsGroup");
  if (plan.settings.has_run_as_user()) uid = plan.settings.run_as_user();
  if (plan.settings.has_run_as_group()) gid = plan.settings.run_as_group();
  const bool is_root = uid == 0;
  Json context = {{"runAsNonRoot", !is_root}};
  if (uid) context["runAsUser"] = *uid;
  if (gid) context["runAsGroup"] = *gid;
  context["allowPrivilegeEscalation"] = false;
  context["readOnlyRootFilesystem"] = true;
  context["seccompProfile"] = {{"type", "RuntimeDefault"}};
  if (!is_root) {
    context["capabilities"] = {{"drop", {"ALL"}}};
  } else {
    // A root process has capabilities, and to look into it one needs no fewer.
    if (const Json* own = capabilities_of(plan, first)) context["capabilities"] = *own;
    plan.warn(
        "the agent runs as root, so Remora does too, with the agent's capabilities; the Pod "
        "Security level restricted refuses both");
  }
  plan.note(uid ? "Remora runs as user " + std::to_string(*uid) +
                      (gid ? " and group " + std::to_string(*gid) : "") +
                      ", as the agent does, to see its threads and files and to signal it"
                : "Remora runs as its image's user");
  if (plan.settings.share_process_namespace()) warn_of_others(plan, uid, gid);
  return context;
}

}  // namespace remora::k8s
