// Who an agent is now: a coordination.k8s.io/v1 Lease for each agent whose snapshots outlive its
// pod. Pure; identity_leases.h keeps them.
//
// - leaseTransitions is the epoch: at least that of the snapshot store under which its holder
//   publishes (checkpoint/FORMAT.md). It only grows.
// - Before a lost node's pod is moved, its Lease is fenced: a higher epoch, and no holder. Whoever
//   takes the identity over then has an epoch in the store that is as high or higher.
// - Time decides nothing here. What must not be written is refused by the store at the moment of
//   writing, whatever clocks and links do; so snapshots go on while the operator is away.
//   leaseDurationSeconds says after how long without a call of its sidecar a holder is surely gone,
//   for people and their tools.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "k8s/lease/lease_record.h"

namespace remora::k8s {

// A call of a sidecar lives for an hour at most, and is followed by the next one.
inline constexpr int64_t identity_lease_duration_s = 2 * 60 * 60;

// Of the Lease, in the operator's own namespace. agent: the name of its AgentSnapshot.
std::string identity_lease_name(const std::string& namespace_name, const std::string& agent);

// As it stands in a Lease: "POD_UID", or "fenced:POD_UID".
std::string identity_holder(const std::string& pod, const std::string& uid);
bool is_fenced(const LeaseRecord& lease);
// Of the holder, fenced or not; empty: none.
std::string uid_of_holder(const LeaseRecord& lease);

struct HoldVerdict {
  std::optional<LeaseRecord> write{};  // what the Lease is to be; nothing: as it is
  bool is_lost = false;                // another has the identity
};
// A sidecar says that it publishes under this epoch. known: nothing when there is no Lease;
// holder_lives: the pod that holds it exists.
HoldVerdict judge_hold(const std::optional<LeaseRecord>& known, const std::string& holder,
                       uint64_t epoch, bool holder_lives, WallTime now);

// The pod is about to be moved, and can't be asked. Nothing: it is fenced already, or another one
// has the identity.
std::optional<LeaseRecord> fence_lease(const std::optional<LeaseRecord>& known,
                                       const std::string& holder, uint64_t epoch, WallTime now);
// It was not moved after all. Nothing: it isn't fenced.
std::optional<LeaseRecord> unfence_lease(const std::optional<LeaseRecord>& known,
                                         const std::string& holder, WallTime now);

}  // namespace remora::k8s
