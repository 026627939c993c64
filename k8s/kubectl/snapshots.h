// Snapshots of agents, and requests to them, by the AgentSnapshots of the cluster
// (k8s/manifests/README.md has the contract).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "k8s/kubectl/acts.h"
#include "k8s/kubectl/status.h"

namespace remora::k8s {

inline constexpr int request_poll_ms = 500;

// Every snapshot of every agent; pod: only of its agents. Pure.
std::string render_snapshots(const std::vector<Json>& objects, const std::string& pod, Form form,
                             bool all_namespaces, WallTime now);

// What is asked of an agent.
struct AgentOrder {
  std::string action;  // "Restore", "Snapshot"
  std::string pod;
  std::string agent;     // its container; empty: the pod's only one
  std::string snapshot;  // of Restore; empty: the newest intact one
};
// The AgentSnapshot that the order is for. kInvalidArgument when there is none, or more than one,
// or no such snapshot. Pure.
Result<Json> find_agent(const std::vector<Json>& objects, const AgentOrder& order);

// Asks, and waits for what becomes of it: exit code 1 when the agent could not, 3 when it is not
// known in time.
Result<Outcome> order_agent(Cluster& cluster, const AgentOrder& order, Duration wait);

}  // namespace remora::k8s
