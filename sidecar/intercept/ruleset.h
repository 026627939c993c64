// The rules we want, as values. build_ruleset() is pure and is the only place that decides what is
// redirected; nft_message.h puts a ruleset on the wire, nft_text.h shows it, compare.h holds it
// against what the kernel has.
//
// A rule is written twice, as the kernel's little program and as nft syntax, by the same
// call; a test loads the text through the nft program and finds the same programs in the kernel.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sidecar/intercept/options.h"

namespace remora::intercept {

inline constexpr std::string_view table_name = "remora";
inline constexpr std::string_view inbound_chain = "inbound";
inline constexpr std::string_view outbound_chain = "outbound";

using Bytes = std::vector<uint8_t>;

// Steps of a rule's program (linux/netfilter/nf_tables.h has the numbers). All use register 1.
struct LoadMeta {
  uint32_t key = 0;  // NFT_META_*
  bool operator==(const LoadMeta&) const = default;
};
struct LoadPayload {
  uint32_t base = 0;  // NFT_PAYLOAD_*
  uint32_t offset = 0;
  uint32_t length = 0;
  bool operator==(const LoadPayload&) const = default;
};
struct Mask {
  Bytes bits;
  bool operator==(const Mask&) const = default;
};
struct Compare {
  uint32_t op = 0;  // NFT_CMP_*
  Bytes value;
  bool operator==(const Compare&) const = default;
};
struct LoadImmediate {
  Bytes value;
  bool operator==(const LoadImmediate&) const = default;
};
struct Verdict {
  int32_t code = 0;  // NFT_RETURN, …
  bool operator==(const Verdict&) const = default;
};
struct Redirect {
  uint32_t flags = 0;  // NF_NAT_RANGE_*
  bool operator==(const Redirect&) const = default;
};
// Something that our rules never contain.
struct ForeignStep {
  std::string name;
  bool operator==(const ForeignStep&) const = default;
};
using Step = std::variant<LoadMeta, LoadPayload, Mask, Compare, LoadImmediate, Verdict, Redirect,
                          ForeignStep>;

struct Rule {
  std::vector<Step> steps;
  std::string text;     // nft syntax
  std::string comment;  // why it is there; kept in the kernel with the rule
};

// A base chain. Ours differ in name and hook only.
struct ChainSpec {
  std::string name;
  std::string type;   // "nat"; empty for a chain that is only jumped to
  uint32_t hook = 0;  // NF_INET_*
  int32_t priority = 0;
  uint32_t policy = 0;  // NF_ACCEPT
  bool operator==(const ChainSpec&) const = default;
};

struct Chain {
  ChainSpec spec;
  std::vector<Rule> rules;
};

// Both chains are always there: one that has nothing to intercept has no rules, so that a change
// of mind never removes a hook.
struct Ruleset {
  std::vector<Chain> chains;
};

// options have passed validate().
Ruleset build_ruleset(const InterceptOptions& options);
size_t rule_count(const Ruleset& ruleset);

}  // namespace remora::intercept
