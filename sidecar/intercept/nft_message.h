// nf_tables' messages: our transactions and questions, and what the kernel's answers mean
// (linux/netfilter/nf_tables.h). Pure; netlink_socket.h carries them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sidecar/intercept/netlink.h"
#include "sidecar/intercept/ruleset.h"

namespace remora::intercept {

// What the kernel has, as it was read.
struct FoundTable {
  uint32_t flags = 0;         // NFT_TABLE_F_*
  uint32_t object_count = 0;  // chains, sets, objects and flow tables
};
struct FoundChain {
  uint8_t family = 0;  // NFPROTO_*
  std::string table;
  ChainSpec spec;
};
struct FoundRule {
  std::string chain;
  uint64_t handle = 0;
  std::string comment;
  std::vector<Step> steps;
};

struct Found {
  std::optional<FoundTable> table;  // ours
  std::vector<FoundChain> chains;   // of all tables
  std::vector<FoundRule> rules;     // of our table, in order
};

// A batch of messages that the kernel carries out as one transaction. The acknowledgement of
// last_sequence says that it was; an error about any of the others, that nothing was.
struct Transaction {
  Bytes bytes;
  uint32_t last_sequence = 0;
  // Where each kind of message begins, to say what the kernel did not take.
  uint32_t first_chain_sequence = 0;
  uint32_t first_rule_sequence = 0;
};

// Fills our table anew and leaves its chains where they hang: the kernel switches from the old
// rules of a chain to the new ones at once, and no packet meets a chain without rules. Makes what
// is missing, and removes extra_chains. Fails with EEXIST when a chain of ours has another hook.
Transaction refill_transaction(const Ruleset& ruleset,
                               const std::vector<std::string>& extra_chains);
// Replaces the table with everything in it, for when refilling can't mend it. The kernel asks old
// and new chains one after the other while they change places, so that a connection made in that
// instant could pass between them.
Transaction replace_transaction(const Ruleset& ruleset);
// Removes the table, if there is one.
Transaction remove_transaction();

// Questions; the answers come as messages that the decoders below take.
Bytes table_question(uint32_t sequence);   // ENOENT when there is no such table
Bytes chains_question(uint32_t sequence);  // a dump of all families
Bytes rules_question(uint32_t sequence);   // a dump of our table's

// Nothing for a message of another kind or one that is malformed.
std::optional<FoundTable> decode_table(const NetlinkMessage& message);
std::optional<FoundChain> decode_chain(const NetlinkMessage& message);
// Nothing also for a rule of another table. A step that we don't know becomes a ForeignStep.
std::optional<FoundRule> decode_rule(const NetlinkMessage& message);

// "[meta cmp redir]", for a rule that isn't ours.
std::string steps_text(const std::vector<Step>& steps);

}  // namespace remora::intercept
