#include "k8s/healing/claims.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace remora::k8s {
namespace {

const Json& section(const Json& object, std::string_view key) {
  static const Json empty = Json::object();
  const Json* found = find_object(object, key);
  return found == nullptr ? empty : *found;
}

std::string modes_of(const ClaimFacts& claim) {
  std::string text;
  for (const std::string& mode : claim.modes) text += (text.empty() ? "" : ", ") + mode;
  return text.empty() ? "no access mode" : text;
}

}  // namespace

bool ClaimFacts::is_shared() const {
  return std::ranges::any_of(modes, [](const std::string& mode) {
    return mode == "ReadWriteMany" || mode == "ReadOnlyMany";
  });
}

ClaimFacts read_claim(const Json& claim) {
  ClaimFacts facts;
  const Json& spec = section(claim, "spec");
  facts.volume = text_of(spec, "volumeName");
  const Json* modes = find_array(spec, "accessModes");
  if (modes == nullptr) return facts;
  for (const Json& mode : *modes) {
    if (mode.is_string()) facts.modes.push_back(mode.get<std::string>());
  }
  return facts;
}

std::vector<std::string> attached_to(const std::string& volume, const Json& attachments) {
  std::vector<std::string> nodes;
  const Json* items = find_array(attachments, "items");
  if (items == nullptr || volume.empty()) return nodes;
  for (const Json& item : *items) {
    const Json& spec = section(item, "spec");
    if (text_of(section(spec, "source"), "persistentVolumeName") != volume) continue;
    nodes.push_back(text_of(spec, "nodeName"));
  }
  return nodes;
}

std::string claim_words(const std::string& name, const ClaimFacts& claim, const std::string& node) {
  if (!claim.trouble.empty()) return "volume claim " + name + ": " + claim.trouble;
  const std::string head = "volume claim " + name + " (" + modes_of(claim) + ")";
  if (claim.is_shared()) return head + ": a pod on another node can use it at once";
  if (std::ranges::find(claim.attached, node) == claim.attached.end()) {
    return head + " is not attached to " + node + ": nothing keeps it there";
  }
  return head + " is attached to " + node +
         ", which can't say that it lets go: a pod elsewhere waits for the detach. Kubernetes does "
         "that 6 minutes after the old pod's object is gone; the taint "
         "node.kubernetes.io/out-of-service, by a person who knows that the node is off, does it "
         "at once";
}

std::string attached_still(const std::map<std::string, ClaimFacts>& claims,
                           const std::vector<std::string>& names, const std::string& node) {
  for (const std::string& name : names) {
    const auto claim = claims.find(name);
    if (claim == claims.end() || claim->second.is_shared()) continue;
    const auto& nodes = claim->second.attached;
    if (std::ranges::find(nodes, node) != nodes.end()) {
      return "waits for the detach of volume claim " + name + " from " + node;
    }
  }
  return {};
}

}  // namespace remora::k8s
