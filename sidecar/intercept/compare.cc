#include "sidecar/intercept/compare.h"

#include <algorithm>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

namespace remora::intercept {
namespace {

// A table could hold thousands of foreign rules; this many say enough.
constexpr size_t problems_max = 50;

// Names come from whoever wrote the table; control characters must not reach a terminal.
std::string printable(std::string_view text) {
  std::string result(text.substr(0, 128));
  std::ranges::replace_if(result, [](char c) { return c < ' ' || c > '~'; }, '?');
  return result;
}

class Comparer {
 public:
  Comparer(const Ruleset& wanted, const Found& found) : wanted_(wanted), found_(found) {}

  Comparison run() {
    if (!found_.table) {
      problem(Repair::kRefill, "missing: table inet " + std::string(table_name));
      return std::move(result_);
    }
    check_table();
    for (const FoundChain& chain : found_.chains) {
      if (is_in_our_table(chain) && !wanted_chain(chain.spec.name)) extra_chain(chain);
    }
    for (const Chain& chain : wanted_.chains) check_chain(chain);
    return std::move(result_);
  }

 private:
  void problem(Repair repair, std::string text) {
    result_.repair = std::max(result_.repair, repair);
    if (result_.problems.size() < problems_max) result_.problems.push_back(std::move(text));
  }

  static bool is_in_our_table(const FoundChain& chain) {
    return chain.family == NFPROTO_INET && chain.table == table_name;
  }
  const Chain* wanted_chain(std::string_view name) const {
    const auto at = std::ranges::find(
        wanted_.chains, name, [](const Chain& c) -> std::string_view { return c.spec.name; });
    return at == wanted_.chains.end() ? nullptr : &*at;
  }

  void check_table() {
    if ((found_.table->flags & NFT_TABLE_F_DORMANT) != 0) {
      problem(Repair::kRefill, "changed: the table is dormant, none of its rules is in force");
    }
    const auto chains = static_cast<size_t>(std::ranges::count_if(found_.chains, is_in_our_table));
    if (found_.table->object_count > chains) {
      problem(Repair::kReplace, "foreign: " + std::to_string(found_.table->object_count - chains) +
                                    " sets, objects or flow tables in the table");
    }
  }

  void extra_chain(const FoundChain& chain) {
    problem(Repair::kRefill, "foreign: chain " + printable(chain.spec.name));
    result_.extra_chains.push_back(chain.spec.name);
  }

  void check_chain(const Chain& chain) {
    const auto at = std::ranges::find_if(found_.chains, [&](const FoundChain& each) {
      return is_in_our_table(each) && each.spec.name == chain.spec.name;
    });
    if (at == found_.chains.end()) {
      problem(Repair::kRefill, "missing: chain " + chain.spec.name + " with its " +
                                   std::to_string(chain.rules.size()) + " rules");
      return;
    }
    if (at->spec != chain.spec) {
      // A policy can be set back; a chain's place can't.
      ChainSpec with_policy = at->spec;
      with_policy.policy = chain.spec.policy;
      problem(with_policy == chain.spec ? Repair::kRefill : Repair::kReplace,
              "changed: chain " + chain.spec.name + " has another type, hook, priority or policy");
    }
    check_rules(chain);
  }

  void check_rules(const Chain& chain) {
    std::vector<const FoundRule*> present;
    for (const FoundRule& rule : found_.rules) {
      if (rule.chain == chain.spec.name) present.push_back(&rule);
    }
    const auto same = [](const Rule& rule, const FoundRule* found) {
      return rule.steps == found->steps;
    };
    if (std::ranges::equal(chain.rules, present, same)) return;
    const size_t before = problem_count_;
    std::vector<const FoundRule*> left = present;
    for (const Rule& rule : chain.rules) {
      const auto at = std::ranges::find_if(left, [&](auto* each) { return same(rule, each); });
      if (at != left.end()) {
        left.erase(at);
        continue;
      }
      rule_problem("missing: " + chain.spec.name + ": " + rule.text);
    }
    for (const FoundRule* rule : left) {
      std::string text = "foreign: " + chain.spec.name + ": rule " + std::to_string(rule->handle) +
                         " " + printable(steps_text(rule->steps));
      if (!rule->comment.empty()) text += " \"" + printable(rule->comment) + "\"";
      rule_problem(std::move(text));
    }
    if (problem_count_ == before) rule_problem("changed: " + chain.spec.name + ": order of rules");
  }

  void rule_problem(std::string text) {
    ++problem_count_;
    problem(Repair::kRefill, std::move(text));
  }

  const Ruleset& wanted_;
  const Found& found_;
  Comparison result_;
  size_t problem_count_ = 0;  // of rules, also those beyond problems_max
};

const char* family_name(uint8_t family) {
  switch (family) {
    case NFPROTO_INET:
      return "inet";
    case NFPROTO_IPV4:
      return "ip";
    case NFPROTO_IPV6:
      return "ip6";
    default:
      return "other";
  }
}

}  // namespace

Comparison compare(const Ruleset& wanted, const Found& found) {
  return Comparer(wanted, found).run();
}

std::vector<std::string> earlier_chains(const Ruleset& wanted, const Found& found) {
  std::vector<std::string> names;
  for (const FoundChain& chain : found.chains) {
    if (chain.family == NFPROTO_INET && chain.table == table_name) continue;
    const bool earlier = std::ranges::any_of(wanted.chains, [&](const Chain& ours) {
      return chain.spec.type == ours.spec.type && chain.spec.hook == ours.spec.hook &&
             chain.spec.priority <= ours.spec.priority;
    });
    if (!earlier) continue;
    if (names.size() == problems_max) break;
    names.push_back("table " + std::string(family_name(chain.family)) + " " +
                    printable(chain.table) + ", chain " + printable(chain.spec.name) +
                    ", translates destinations too and may come first");
  }
  return names;
}

}  // namespace remora::intercept
