#include "sidecar/intercept/compare.h"

#include <array>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "tests/unit/intercept/found_tables.h"

namespace remora::intercept {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class CompareTest : public testing::Test {
 protected:
  Comparison compared() const { return compare(wanted_, found_); }
  void expect(Repair repair, const std::string& words) const {
    const Comparison result = compared();
    EXPECT_EQ(result.repair, repair);
    EXPECT_THAT(result.problems, testing::Contains(HasSubstr(words)));
  }

  static ChainSpec jumped_to(const char* name) {
    ChainSpec spec;
    spec.name = name;
    return spec;
  }
  void add_chain(uint8_t family, const char* table, const ChainSpec& spec) {
    found_.chains.push_back({family, table, spec});
  }

  Ruleset wanted_ = build_ruleset({});
  Found found_ = found_after(refill_transaction(wanted_, {}));
};

TEST_F(CompareTest, WhatWasWrittenIsRight) {
  EXPECT_EQ(compared().repair, Repair::kNone);
  EXPECT_THAT(compared().problems, IsEmpty());
}

TEST_F(CompareTest, CommentsDoNotCount) {
  for (FoundRule& rule : found_.rules) rule.comment = "other words";
  EXPECT_THAT(compared().problems, IsEmpty());
}

TEST_F(CompareTest, NoTable) {
  found_ = {};
  expect(Repair::kRefill, "missing: table inet remora");
}

TEST_F(CompareTest, ARuleMissingIsNamedByWhatItDoes) {
  found_.rules.erase(found_.rules.begin() + 4);
  expect(Repair::kRefill, "missing: inbound: meta l4proto tcp redirect to :15006");
  EXPECT_THAT(compared().problems, SizeIs(1));
}

TEST_F(CompareTest, AChangedRuleIsForeignAndTheRightOneMissing) {
  found_.rules[4].steps.back() = Redirect{0};
  expect(Repair::kRefill, "missing: inbound: meta l4proto tcp redirect to :15006");
  expect(Repair::kRefill, "foreign: inbound: rule 5 [meta cmp immediate redir]");
}

TEST_F(CompareTest, ASecondCopyOfARuleIsForeign) {
  found_.rules.push_back(found_.rules[4]);
  expect(Repair::kRefill, "foreign: inbound: rule 5");
}

TEST_F(CompareTest, OrderMatters) {
  std::swap(found_.rules[0], found_.rules[1]);
  EXPECT_THAT(compared().problems, ElementsAre("changed: inbound: order of rules"));
}

TEST_F(CompareTest, AChainMissing) {
  found_.chains.pop_back();
  found_.table->object_count = 1;
  expect(Repair::kRefill, "missing: chain outbound with its 7 rules");
}

TEST_F(CompareTest, AChainThatHangsElsewhereNeedsReplacing) {
  found_.chains[0].spec.priority = 50;
  expect(Repair::kReplace, "changed: chain inbound has another");
  found_ = found_after(refill_transaction(wanted_, {}));
  found_.chains[0].spec.policy = NF_DROP;
  expect(Repair::kRefill, "changed: chain inbound has another");
}

TEST_F(CompareTest, ExtraChainsAreNamedForRemoval) {
  add_chain(NFPROTO_INET, "remora", jumped_to("x\x1b[m"));
  found_.table->object_count = 3;
  expect(Repair::kRefill, "foreign: chain x?[m");
  EXPECT_THAT(compared().extra_chains, ElementsAre("x\x1b[m"));
}

TEST_F(CompareTest, SetsInOurTableNeedReplacing) {
  found_.table->object_count += 2;
  expect(Repair::kReplace, "foreign: 2 sets");
}

TEST_F(CompareTest, ADormantTableIsNotInForce) {
  found_.table->flags = NFT_TABLE_F_DORMANT;
  expect(Repair::kRefill, "dormant");
}

TEST_F(CompareTest, TablesOfOthersAreNoneOfOurBusiness) {
  for (const uint8_t family : std::to_array<uint8_t>({NFPROTO_INET, NFPROTO_IPV4})) {
    add_chain(family, "other", wanted_.chains[0].spec);
  }
  add_chain(NFPROTO_IPV4, "remora", jumped_to("x"));
  EXPECT_THAT(compared().problems, IsEmpty());
}

TEST_F(CompareTest, EarlierTranslationsOfOthersAreNoted) {
  EXPECT_THAT(earlier_chains(wanted_, found_), IsEmpty());
  ChainSpec spec = wanted_.chains[1].spec;
  spec.name = "DOCKER_OUTPUT";
  add_chain(NFPROTO_IPV4, "nat", spec);
  EXPECT_THAT(earlier_chains(wanted_, found_),
              ElementsAre(HasSubstr("table ip nat, chain DOCKER_OUTPUT")));
  found_.chains.back().spec.priority = -99;
  EXPECT_THAT(earlier_chains(wanted_, found_), IsEmpty()) << "comes after ours";
  found_.chains.back().spec.priority = -101;
  found_.chains.back().spec.type = "filter";
  EXPECT_THAT(earlier_chains(wanted_, found_), IsEmpty()) << "translates nothing";
}

TEST_F(CompareTest, AThousandForeignRulesAreNotAllListed) {
  for (int i = 0; i < 1000; ++i) {
    found_.rules.push_back({.chain = "inbound", .handle = 7, .comment = {}, .steps = {}});
  }
  EXPECT_THAT(compared().problems, SizeIs(50));
  EXPECT_EQ(compared().repair, Repair::kRefill);
}

}  // namespace
}  // namespace remora::intercept
