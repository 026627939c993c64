// Keeps a new pod away from nodes that others of its workload were moved away from, as far as there
// are others: a preferred node affinity beside whatever the pod asks for itself.
#pragma once

#include "k8s/inject/patch_builder.h"
#include "k8s/inject/plan.h"

namespace remora::k8s {

// KIND/NAME of what rolls out the pods of an owner, KIND/NAME too: a ReplicaSet's Deployment, as
// its name tells.
std::string workload_of_owner(const std::string& owner);

// Adds the terms and the annotation that says so. A pod that was injected before keeps what it has.
void avoid_nodes(Plan& plan, PatchBuilder& patch);

}  // namespace remora::k8s
