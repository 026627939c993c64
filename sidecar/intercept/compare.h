// Holds what the kernel has against what we want. Pure.
#pragma once

#include <string>
#include <vector>

#include "sidecar/intercept/nft_message.h"
#include "sidecar/intercept/ruleset.h"

namespace remora::intercept {

// How the table can be made right.
enum class Repair {
  kNone,     // it is right
  kRefill,   // refill_transaction()
  kReplace,  // replace_transaction(): a chain of ours hangs elsewhere, or there are foreign sets
};

struct Comparison {
  Repair repair = Repair::kNone;
  // One line each: what is missing, foreign or changed. Empty exactly when repair is kNone.
  std::vector<std::string> problems;
  // Chains in our table that aren't ours.
  std::vector<std::string> extra_chains;
};

// Comments don't count: they do nothing.
Comparison compare(const Ruleset& wanted, const Found& found);

// Chains of other tables that may translate a connection's destination before ours does, one line
// each. Not a fault: Docker's own resolver works that way.
std::vector<std::string> earlier_chains(const Ruleset& wanted, const Found& found);

}  // namespace remora::intercept
