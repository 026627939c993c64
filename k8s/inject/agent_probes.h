// The agents' own probes: asked of Remora from now on, which makes the original ones and so can say
// "being healed" where the agent alone would look dead.
//
// A probe stays as it is where Remora could not make it truthfully: exec (only the container itself
// can run it), another host, a named port that the container does not have.
#pragma once

#include "k8s/inject/patch_builder.h"
#include "k8s/inject/plan.h"

namespace remora::k8s {

// Rewrites what can be, and records the originals in the plan's agents.
void rewrite_probes(Plan& plan, PatchBuilder& patch);

}  // namespace remora::k8s
