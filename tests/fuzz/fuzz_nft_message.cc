// Any bytes as what the kernel might answer about nf_tables. Never a crash, and a rule that
// consists of steps we know is the same after it was written and read again.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <variant>

#include "sidecar/intercept/compare.h"
#include "sidecar/intercept/nft_message.h"

namespace {

using namespace remora::intercept;  // NOLINT(google-build-using-namespace)

void must(bool ok) {
  if (!ok) std::abort();
}

bool is_known(const FoundRule& rule) {
  return std::ranges::none_of(
      rule.steps, [](const Step& step) { return std::holds_alternative<ForeignStep>(step); });
}

void check_round_trip(const FoundRule& rule) {
  Ruleset ruleset;
  ruleset.chains.emplace_back();
  ruleset.chains[0].spec.name = rule.chain;
  ruleset.chains[0].rules.push_back({.steps = rule.steps, .text = {}, .comment = rule.comment});
  const Transaction transaction = refill_transaction(ruleset, {});
  ByteSpan rest = transaction.bytes;
  bool seen = false;
  while (const auto message = take_message(rest)) {
    const auto again = decode_rule(*message);
    if (!again) continue;
    seen = true;
    must(again->steps == rule.steps && again->chain == rule.chain);
    must(rule.comment.starts_with(again->comment));
  }
  must(seen && rest.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Found found;
  ByteSpan rest(data, size);
  while (const auto message = take_message(rest)) {
    if (const auto reply = parse_reply(*message)) must(reply->error >= 0);
    if (auto table = decode_table(*message)) found.table = *table;
    if (auto chain = decode_chain(*message)) found.chains.push_back(std::move(*chain));
    if (auto rule = decode_rule(*message)) found.rules.push_back(std::move(*rule));
  }
  for (const FoundRule& rule : found.rules) {
    must(steps_text(rule.steps).size() >= 2);
    if (is_known(rule)) check_round_trip(rule);
  }
  const Ruleset wanted = build_ruleset({});
  const Comparison comparison = compare(wanted, found);
  must((comparison.repair == Repair::kNone) == comparison.problems.empty());
  for (const std::string& line : comparison.problems) {
    must(std::ranges::all_of(line, [](char c) { return c >= ' ' && c <= '~'; }));
  }
  earlier_chains(wanted, found);
  return 0;
}
