#include "sidecar/intercept/ruleset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/netfilter.h>

#include "sidecar/intercept/nft_text.h"

namespace remora::intercept {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::vector<std::string> texts(const InterceptOptions& options, std::string_view name) {
  std::vector<std::string> result;
  for (const Chain& chain : build_ruleset(options).chains) {
    if (chain.spec.name != name) continue;
    for (const Rule& rule : chain.rules) result.push_back(rule.text);
  }
  return result;
}

TEST(RulesetTest, TheDefaults) {
  EXPECT_THAT(texts({}, inbound_chain),
              ElementsAre("iif lo return", "meta l4proto != tcp return",
                          "tcp flags & (fin|syn|rst|ack) != syn return", "tcp dport 15020 return",
                          "meta l4proto tcp redirect to :15006"));
  EXPECT_THAT(texts({}, outbound_chain),
              ElementsAre("meta l4proto != tcp return", "oif lo return", "meta priority 0:5 return",
                          "tcp flags & (fin|syn|rst|ack) != syn return", "tcp dport 53 return",
                          "ip6 daddr fe80::/10 return", "meta l4proto tcp redirect to :15001"));
}

TEST(RulesetTest, EveryExclusionComesBeforeTheRedirect) {
  InterceptOptions options;
  options.exclude_inbound_ports = {{22, 22}, {7000, 7010}};
  options.exclude_outbound_ports = {{443, 443}};
  options.exclude_outbound_addresses = {*parse_cidr("10.0.0.0/8"), *parse_cidr("::/0")};
  options.exclude_uids = {0};
  options.exclude_gids = {4294967295};
  const auto in = texts(options, inbound_chain);
  EXPECT_THAT(std::vector(in.end() - 3, in.end()),
              ElementsAre("tcp dport 22 return", "tcp dport 7000-7010 return",
                          "meta l4proto tcp redirect to :15006"));
  const auto out = texts(options, outbound_chain);
  for (const char* text :
       {"tcp dport 443 return", "ip daddr 10.0.0.0/8 return", "meta nfproto ipv6 return",
        "meta skuid 0 return", "meta skgid 4294967295 return"}) {
    EXPECT_THAT(std::vector(out.begin(), out.end() - 1), Contains(text));
  }
  EXPECT_EQ(out.back(), "meta l4proto tcp redirect to :15001");
}

TEST(RulesetTest, AUidOfTheSidecarsOwnMakesTheMarkWorthless) {
  InterceptOptions options;
  options.sidecar_uid = 1337;
  EXPECT_THAT(texts(options, outbound_chain), Contains("meta skuid 1337 return"));
  EXPECT_THAT(texts(options, outbound_chain), Not(Contains(HasSubstr("priority"))));
}

TEST(RulesetTest, ADirectionThatIsOffKeepsItsChain) {
  InterceptOptions options;
  options.inbound = false;
  EXPECT_THAT(texts(options, inbound_chain), IsEmpty());
  const Ruleset ruleset = build_ruleset(options);
  ASSERT_EQ(ruleset.chains.size(), 2u);
  EXPECT_EQ(ruleset.chains[0].spec.hook, uint32_t{NF_INET_PRE_ROUTING});
  EXPECT_EQ(ruleset.chains[1].spec.hook, uint32_t{NF_INET_LOCAL_OUT});
  EXPECT_EQ(rule_count(ruleset), 7u);
}

TEST(RulesetTest, EveryRuleSaysWhyItIsThere) {
  for (const Chain& chain : build_ruleset({}).chains) {
    for (const Rule& rule : chain.rules) {
      EXPECT_THAT(rule.comment, Not(IsEmpty())) << rule.text;
      // nft's limit, and no way out of its quotes.
      EXPECT_LT(rule.comment.size(), 128u);
      EXPECT_EQ(rule.comment.find_first_of("\"\\\n"), std::string::npos) << rule.comment;
    }
  }
}

TEST(NftTextTest, ReplacesTheTableInOneFile) {
  const std::string text = to_nft_text(build_ruleset({}));
  EXPECT_TRUE(text.starts_with("table inet remora\ndelete table inet remora\n"));
  EXPECT_THAT(text, HasSubstr("type nat hook prerouting priority -100; policy accept;"));
  EXPECT_THAT(text, HasSubstr("type nat hook output priority -100; policy accept;"));
  EXPECT_THAT(text, HasSubstr("\t\ttcp dport 53 return comment \"DNS over TCP\"\n"));
}

}  // namespace
}  // namespace remora::intercept
