// Volumes of a pod whose node is lost: who else may use them, and when. Pure; no object crashes it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "k8s/healing/facts.h"

namespace remora::k8s {

// Older facts are read again before anything is said from them.
inline constexpr int claims_age_ms_max = 10'000;

// A PersistentVolumeClaim, and where its volume is attached.
struct ClaimFacts {
  std::vector<std::string> modes{};  // "ReadWriteOnce"
  std::string volume{};              // its PersistentVolume; empty: none yet
  // Names of the nodes, as the VolumeAttachments say; a kind of volume that is not attached has
  // none.
  std::vector<std::string> attached{};
  std::string trouble{};  // why the rest is not known
  WallTime read_at{};

  // Pods on several nodes may use it at the same time.
  bool is_shared() const;
};
ClaimFacts read_claim(const Json& claim);
// The nodes on which a volume is attached, of a list of storage/v1 VolumeAttachments.
std::vector<std::string> attached_to(const std::string& volume, const Json& attachments);

// What becomes of it when a pod on node is moved, for people.
std::string claim_words(const std::string& name, const ClaimFacts& claim, const std::string& node);
// Why no pod elsewhere can use them yet: the first one that is still attached to node; empty: none
// is.
std::string attached_still(const std::map<std::string, ClaimFacts>& claims,
                           const std::vector<std::string>& names, const std::string& node);

}  // namespace remora::k8s
