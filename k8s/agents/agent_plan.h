// What is to be done about one agent's AgentSnapshot: pure, from what its sidecar says and from
// what the object says.
//
// A request is written down as "Sent" before it is sent, and sent again for as long as it is:
// whoever carries it out knows the ids that it had.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "k8s/link/link.pb.h"
#include "k8s/link/token_review.h"
#include "k8s/resources/resources.pb.h"
#include "k8s/watch/object.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

// An agent whose sidecar is connected.
struct ConnectedAgent {
  link::PodClaims pod;
  std::string container;
  std::string claim;   // of its store; empty: the store goes with the pod
  uint64_t epoch = 0;  // under which it publishes; 0: it doesn't
  // Of that claim, whose the catalogue is; absent: not asked for yet; empty: it can't be known.
  std::optional<std::string> claim_uid{};
  // Of the last report; absent: none has come yet.
  std::optional<std::vector<v1alpha1::StoredSnapshot>> snapshots{};
  int64_t snapshot_count = 0;
  std::string sent{};  // id of the request that this sidecar was told of
  std::optional<link::v1::Outcome> outcome{};

  // Of its AgentSnapshot.
  std::string object_name() const;
};

struct AgentRecord {
  std::string namespace_name;
  std::string name;
  std::string uid;
  std::string resource_version;
  v1alpha1::AgentSnapshotSpec spec;
  v1alpha1::AgentSnapshotStatus status;
};
// kInvalidArgument: it breaks the schema, which the API server keeps out.
Result<AgentRecord> read_agent(const Object& object);

// agent null: none is connected. gone: and has not been for long enough to say so. Nothing: the
// status is right as it is.
std::optional<v1alpha1::AgentSnapshotStatus> next_status(const AgentRecord& record,
                                                         const ConnectedAgent* agent, bool gone,
                                                         WallTime now);
// What the sidecar must be told now; nothing: nothing, or it has been.
std::optional<link::v1::Command> next_command(const AgentRecord& record,
                                              const ConnectedAgent& agent);

// For a merge patch of the object as it was read.
std::string agent_request_text(const AgentRecord& record, const v1alpha1::AgentRequest& request);
// Before there is an object, the claim must be asked for its UID.
bool needs_claim(const ConnectedAgent& agent);
// The UID of a core/v1 PersistentVolumeClaim; empty: it is none.
std::string claim_uid_of(std::string_view reply);

// For a POST, and for an apply of the status that is refused when the object has changed.
std::string new_agent_text(const ConnectedAgent& agent);
std::string agent_status_text(const AgentRecord& record,
                              const v1alpha1::AgentSnapshotStatus& status);

}  // namespace remora::k8s
