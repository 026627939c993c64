#include "k8s/inject/pod_volumes.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "config/scalar.h"

namespace remora::k8s {
namespace {

constexpr size_t volume_name_bytes_max = 63;
// How the API server's admission plugin ServiceAccount names its volume, and where it mounts it.
constexpr std::string_view account_volume_prefix = "kube-api-access-";
constexpr std::string_view account_token_path = "/var/run/secrets/kubernetes.io/serviceaccount";
constexpr int link_token_life_s = 3'600;

std::string plain_path(const std::string& text) {
  std::string path = std::filesystem::path(text).lexically_normal().string();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

// path is outer, or lies below it.
bool is_within(std::string_view path, std::string_view outer) {
  if (outer == "/") return true;
  return path.starts_with(outer) && (path.size() == outer.size() || path[outer.size()] == '/');
}

Json mount(std::string_view name, std::string_view path, bool read_only) {
  Json json = {{"name", name}, {"mountPath", path}};
  if (read_only) json["readOnly"] = true;
  return json;
}

// The agent's mount under which path lies, the innermost.
const Json* mount_over(const Json& container, const std::string& path) {
  const Json* best = nullptr;
  size_t longest = 0;
  const Json* mounts = find_array(container, "volumeMounts");
  if (mounts == nullptr) return nullptr;
  for (const Json& one : *mounts) {
    const std::string at = plain_path(text_of(one, "mountPath"));
    if (at.empty() || !is_within(path, at) || at.size() < longest) continue;
    best = &one;
    longest = at.size();
  }
  return best;
}

class VolumePlanner {
 public:
  explicit VolumePlanner(Plan& plan) : plan_(plan) { volumes_.agents.resize(plan.agents.size()); }

  Volumes run() {
    add_pod_info();
    add_config_map();
    add_store();
    add_run();
    add_link();
    for (size_t i = 0; i < plan_.agents.size(); ++i) add_state(i);
    return std::move(volumes_);
  }

 private:
  void add_pod_info() {
    const auto item = [](std::string_view what) {
      return Json{{"path", what}, {"fieldRef", {{"fieldPath", "metadata." + std::string(what)}}}};
    };
    volumes_.pod.push_back(
        {{"name", "remora-pod"},
         {"downwardAPI", {{"items", Json::array({item("annotations"), item("labels")})}}}});
    volumes_.sidecar.push_back(mount("remora-pod", config::pod_info_dir, true));
  }

  void add_config_map() {
    const std::string& name = plan_.settings.config_map();
    if (name.empty()) return;
    volumes_.pod.push_back({{"name", "remora-config"}, {"configMap", {{"name", name}}}});
    volumes_.sidecar.push_back(mount("remora-config", config::pod_config_dir, true));
    plan_.note("the configuration file is " + std::string(config::pod_config_key) +
               " of ConfigMap " + name + "; what it says is checked by the sidecar, not here");
  }

  void add_store() {
    if (const std::string& own = plan_.settings.snapshot_volume(); !own.empty()) {
      const auto& later = plan_.options.later_volumes;
      if (find_named(find_array(plan_.spec(), "volumes"), "name", own) == nullptr &&
          std::ranges::find(later, own) == later.end()) {
        return plan_.complain(annotation_place("snapshot-volume"),
                              config::quote(own) + " is no volume of this pod",
                              "name one of spec.volumes, or use remora.dev/snapshot-claim");
      }
      volumes_.sidecar.push_back(mount(own, config::pod_store_dir, false));
      return plan_.note("snapshots and incidents are kept in the pod's volume " + own);
    }
    const std::string& claim = plan_.settings.snapshot_claim();
    Json volume = {{"name", "remora-store"}};
    if (claim.empty()) {
      volume["emptyDir"] = Json::object();
      plan_.warn(
          "snapshots and incidents are lost with the pod; remora.dev/snapshot-claim keeps them");
    } else {
      volume["persistentVolumeClaim"] = {{"claimName", claim}};
      plan_.note("snapshots and incidents are kept in PersistentVolumeClaim " + claim);
    }
    volumes_.pod.push_back(std::move(volume));
    volumes_.sidecar.push_back(mount("remora-store", config::pod_store_dir, false));
  }

  // Of the admin socket; in memory, for it holds no bytes.
  void add_run() {
    volumes_.pod.push_back(
        {{"name", "remora-run"}, {"emptyDir", {{"medium", "Memory"}, {"sizeLimit", "1Mi"}}}});
    volumes_.sidecar.push_back(mount("remora-run", config::pod_run_dir, false));
  }

  // The kubelet renews the token at four fifths of its life, and the authorities within about a
  // minute of their change. A pod doesn't wait for them: its annotation has those of now.
  void add_link() {
    if (!plan_.injected.has_link()) return;
    const Json token = {{"serviceAccountToken",
                         {{"audience", config::link_audience},
                          {"expirationSeconds", link_token_life_s},
                          {"path", "token"}}}};
    const Json authorities = {{"configMap",
                               {{"name", config::link_authorities_config_map},
                                {"items", Json::array({{{"key", config::link_authorities_key},
                                                        {"path", config::link_authorities_key}}})},
                                {"optional", true}}}};
    volumes_.pod.push_back(
        {{"name", "remora-link"}, {"projected", {{"sources", Json::array({token, authorities})}}}});
    volumes_.sidecar.push_back(mount("remora-link", config::pod_link_dir, true));
  }

  void add_state(size_t index) {
    const AgentPlan& agent = plan_.agents[index];
    const std::string& text = agent.config.agent().state_dir();
    const std::string& name = agent.record.name();
    if (text.empty()) return;
    const std::string path = plain_path(text);
    if (!path.starts_with('/') || path == "/" || is_within(path, config::pod_store_dir) ||
        is_within(path, "/etc/remora")) {
      return plan_.complain(annotation_place("state-dir"),
                            config::quote(text) + " can't be the state of container " + name,
                            "write an absolute path of a directory of its own, such as /data");
    }
    const Json* there = mount_over(plan_.container(agent), path);
    if (there == nullptr) return add_state_volume(index, path);
    if (!text_of(*there, "subPathExpr").empty()) {
      return plan_.complain(annotation_place("state-dir"),
                            "lies on a volume that container " + name +
                                " mounts with subPathExpr, which Remora can't follow",
                            "mount it with subPath, or without");
    }
    if (bool_of(*there, "readOnly") == true) {
      plan_.warn("the state of container " + name +
                 " is mounted read-only: snapshots can be taken, not restored there");
    }
    Json copy = mount(text_of(*there, "name"), text_of(*there, "mountPath"), false);
    if (const std::string sub = text_of(*there, "subPath"); !sub.empty()) copy["subPath"] = sub;
    add_sidecar_mount(std::move(copy), name);
    plan_.note("Remora sees the state of container " + name + " in volume " +
               text_of(*there, "name") + " at " + path);
  }

  // State that lies in the container's own layer would go with the container.
  void add_state_volume(size_t index, const std::string& path) {
    const std::string& agent = plan_.agents[index].record.name();
    std::string name = "remora-state-" + agent;
    if (name.size() > volume_name_bytes_max) name = "remora-state-" + std::to_string(index);
    volumes_.pod.push_back({{"name", name}, {"emptyDir", Json::object()}});
    volumes_.agents[index].push_back(mount(name, path, false));
    add_sidecar_mount(mount(name, path, false), agent);
    plan_.note("container " + agent + ": its state directory " + path +
               " becomes a volume that outlives the container, empty at first and seen by Remora");
    plan_.warn("container " + agent + ": what its image has in " + path + " is hidden");
  }

  void add_sidecar_mount(Json wanted, const std::string& agent) {
    const std::string path = text_of(wanted, "mountPath");
    for (const Json& other : volumes_.sidecar) {
      if (plain_path(text_of(other, "mountPath")) != plain_path(path)) continue;
      if (other == wanted) return;
      return plan_.complain(
          annotation_place("state-dir"),
          "another volume than that of container " + agent + " is at " + path + " already",
          "give each agent a path of its own with remora.dev/state-dir." + agent);
    }
    volumes_.sidecar.push_back(std::move(wanted));
  }

  Plan& plan_;
  Volumes volumes_;
};

}  // namespace

Volumes plan_volumes(Plan& plan) { return VolumePlanner(plan).run(); }

const Json* account_token_mount(const Plan& plan) {
  for (const AgentPlan& agent : plan.agents) {
    const Json* mount = find_named(find_array(plan.container(agent), "volumeMounts"), "mountPath",
                                   account_token_path);
    if (mount == nullptr || !text_of(*mount, "name").starts_with(account_volume_prefix)) continue;
    const std::string name = text_of(*mount, "name");
    if (find_named(find_array(plan.spec(), "volumes"), "name", name) != nullptr) return mount;
  }
  return nullptr;
}

}  // namespace remora::k8s
