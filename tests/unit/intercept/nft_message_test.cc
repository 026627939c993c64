// The messages against each other and against the kernel's headers; the tests in network namespaces
// hold them against the kernel and the nft program.
#include "sidecar/intercept/nft_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "tests/unit/intercept/found_tables.h"

namespace remora::intercept {
namespace {

using testing::ElementsAre;

// How kinds_of() shows the messages that frame a transaction.
constexpr int batch_begin = -(NFNL_MSG_BATCH_BEGIN);
constexpr int batch_end = -(NFNL_MSG_BATCH_END);

InterceptOptions every_kind() {
  InterceptOptions options;
  options.exclude_inbound_ports = {{22, 22}};
  options.exclude_outbound_ports = {{7000, 7010}};
  options.exclude_outbound_addresses = {*parse_cidr("10.0.0.0/8"), *parse_cidr("10.64.0.0/10"),
                                        *parse_cidr("2001:db8::1"), *parse_cidr("0.0.0.0/0")};
  options.exclude_uids = {1000};
  options.exclude_gids = {2000};
  return options;
}

std::vector<NetlinkMessage> messages_of(const Transaction& transaction) {
  std::vector<NetlinkMessage> messages;
  ByteSpan rest = transaction.bytes;
  while (const auto message = take_message(rest)) messages.push_back(*message);
  EXPECT_TRUE(rest.empty());
  return messages;
}

std::vector<int> kinds_of(const std::vector<NetlinkMessage>& messages) {
  std::vector<int> kinds;
  for (const auto& message : messages) {
    const bool of_nft = message.type >> 8 == NFNL_SUBSYS_NFTABLES;
    kinds.push_back(of_nft ? message.type & 0xff : -message.type);
  }
  return kinds;
}

TEST(TransactionTest, RefillingKeepsTheChainsAndEmptiesThemFirst) {
  InterceptOptions options;
  options.inbound = false;
  const auto transaction = refill_transaction(build_ruleset(options), {"theirs"});
  auto kinds = kinds_of(messages_of(transaction));
  const std::vector<int> rules(7, NFT_MSG_NEWRULE);
  std::vector<int> wanted = {batch_begin,      NFT_MSG_NEWTABLE, NFT_MSG_DELRULE,
                             NFT_MSG_DELCHAIN, NFT_MSG_NEWCHAIN, NFT_MSG_NEWCHAIN};
  wanted.insert(wanted.end(), rules.begin(), rules.end());
  wanted.insert(wanted.end(), {NFT_MSG_NEWTABLE, batch_end});
  EXPECT_EQ(kinds, wanted);
}

TEST(TransactionTest, ReplacingTakesTheTableAway) {
  auto kinds = kinds_of(messages_of(replace_transaction(build_ruleset({}))));
  ASSERT_GT(kinds.size(), 6u);
  kinds.resize(6);
  EXPECT_THAT(kinds, ElementsAre(batch_begin, NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWTABLE,
                                 NFT_MSG_NEWCHAIN, NFT_MSG_NEWCHAIN));
}

TEST(TransactionTest, RemovingWorksWithAndWithoutATable) {
  EXPECT_THAT(kinds_of(messages_of(remove_transaction())),
              ElementsAre(batch_begin, NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, batch_end));
}

TEST(TransactionTest, OnlyTheLastCommandIsAcknowledged) {
  for (const auto& transaction : {refill_transaction(build_ruleset({}), {}),
                                  replace_transaction(build_ruleset({})), remove_transaction()}) {
    for (const auto& message : messages_of(transaction)) {
      EXPECT_EQ((message.flags & NLM_F_ACK) != 0, message.sequence == transaction.last_sequence);
      EXPECT_TRUE(message.flags & NLM_F_REQUEST);
    }
  }
}

TEST(TransactionTest, KnowsWhereChainsAndRulesBegin) {
  const auto transaction = refill_transaction(build_ruleset({}), {"a", "b"});
  for (const auto& message : messages_of(transaction)) {
    const int kind = message.type & 0xff;
    if (message.type >> 8 != NFNL_SUBSYS_NFTABLES) continue;
    EXPECT_EQ(kind == NFT_MSG_NEWCHAIN, message.sequence >= transaction.first_chain_sequence &&
                                            message.sequence < transaction.first_rule_sequence);
  }
}

TEST(DecodeTest, EveryRuleComesBackAsItWasSent) {
  const Ruleset ruleset = build_ruleset(every_kind());
  const Found found = found_after(refill_transaction(ruleset, {}));
  std::vector<std::vector<Step>> sent;
  std::vector<std::string> comments;
  for (const Chain& chain : ruleset.chains) {
    for (const Rule& rule : chain.rules) {
      sent.push_back(rule.steps);
      comments.push_back(rule.comment);
    }
  }
  ASSERT_EQ(found.rules.size(), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ(found.rules[i].steps, sent[i]) << comments[i];
    EXPECT_EQ(found.rules[i].comment, comments[i]);
  }
  ASSERT_EQ(found.chains.size(), 2u);
  EXPECT_EQ(found.chains[0].spec, ruleset.chains[0].spec);
  EXPECT_EQ(found.chains[1].spec, ruleset.chains[1].spec);
  EXPECT_EQ(found.chains[0].family, NFPROTO_INET);
}

TEST(DecodeTest, ARuleOfAnotherTableOrFamilyIsNotRead) {
  NetlinkWriter out(1);
  const uint16_t kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE;
  out.message(kind, 0, NFPROTO_INET, 0, [&] {
    out.text(NFTA_RULE_TABLE, "other");
    out.text(NFTA_RULE_CHAIN, "inbound");
  });
  out.message(kind, 0, NFPROTO_IPV4, 0, [&] {
    out.text(NFTA_RULE_TABLE, "remora");
    out.text(NFTA_RULE_CHAIN, "inbound");
  });
  ByteSpan rest = out.buffer();
  EXPECT_FALSE(decode_rule(*take_message(rest)));
  EXPECT_FALSE(decode_rule(*take_message(rest)));
}

// One rule with one expression, as the kernel would show it.
template <typename Body>
std::vector<Step> steps_of(std::string_view name, Body body) {
  NetlinkWriter out(1);
  out.message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE, 0, NFPROTO_INET, 0, [&] {
    out.text(NFTA_RULE_TABLE, "remora");
    out.text(NFTA_RULE_CHAIN, "inbound");
    out.nest(NFTA_RULE_EXPRESSIONS, [&] {
      out.nest(NFTA_LIST_ELEM, [&] {
        out.text(NFTA_EXPR_NAME, name);
        out.nest(NFTA_EXPR_DATA, [&] { body(out); });
      });
    });
  });
  ByteSpan rest = out.buffer();
  const auto rule = decode_rule(*take_message(rest));
  EXPECT_TRUE(rule);
  return rule ? rule->steps : std::vector<Step>{};
}

TEST(DecodeTest, WhatDoesMoreThanOursIsForeign) {
  const auto expect_foreign = [](std::string_view name, auto body) {
    EXPECT_THAT(steps_of(name, body), ElementsAre(Step(ForeignStep{std::string(name)}))) << name;
  };
  expect_foreign("counter", [](auto&) {});
  expect_foreign("meta", [](auto& out) {  // another register
    out.number(NFTA_META_KEY, NFT_META_L4PROTO);
    out.number(NFTA_META_DREG, NFT_REG_2);
  });
  expect_foreign("meta", [](auto& out) {  // sets instead of reads
    out.number(NFTA_META_KEY, NFT_META_PRIORITY);
    out.number(NFTA_META_SREG, NFT_REG_1);
  });
  expect_foreign("payload", [](auto& out) {  // writes into the packet
    out.number(NFTA_PAYLOAD_DREG, NFT_REG_1);
    out.number(NFTA_PAYLOAD_SREG, NFT_REG_1);
    out.number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
    out.number(NFTA_PAYLOAD_OFFSET, 0);
    out.number(NFTA_PAYLOAD_LEN, 4);
  });
  expect_foreign("bitwise", [](auto& out) {  // flips bits
    out.number(NFTA_BITWISE_SREG, NFT_REG_1);
    out.number(NFTA_BITWISE_DREG, NFT_REG_1);
    out.number(NFTA_BITWISE_LEN, 1);
    out.nest(NFTA_BITWISE_MASK, [&] { out.bytes(NFTA_DATA_VALUE, Bytes{0xff}); });
    out.nest(NFTA_BITWISE_XOR, [&] { out.bytes(NFTA_DATA_VALUE, Bytes{0x01}); });
  });
  expect_foreign("immediate", [](auto& out) {  // jumps to a chain
    out.number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    out.nest(NFTA_IMMEDIATE_DATA, [&] {
      out.nest(NFTA_DATA_VERDICT, [&] {
        out.number(NFTA_VERDICT_CODE, static_cast<uint32_t>(NFT_JUMP));
        out.text(NFTA_VERDICT_CHAIN, "mine");
      });
    });
  });
  expect_foreign("redir", [](auto& out) {  // to a range of ports
    out.number(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
    out.number(NFTA_REDIR_REG_PROTO_MAX, NFT_REG_2);
    out.number(NFTA_REDIR_FLAGS, 2);
  });
  expect_foreign("cmp", [](auto& out) { out.number(NFTA_CMP_SREG, NFT_REG_1); });
}

TEST(DecodeTest, TheKernelsFormOfARedirectIsOurs) {
  EXPECT_THAT(steps_of("redir",
                       [](auto& out) {
                         out.number(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
                         out.number(NFTA_REDIR_REG_PROTO_MAX, NFT_REG_1);
                         out.number(NFTA_REDIR_FLAGS, 2);
                       }),
              ElementsAre(Step(Redirect{2})));
}

TEST(DecodeTest, EveryShortenedMessageIsReadWithoutHarm) {
  const Transaction transaction = refill_transaction(build_ruleset(every_kind()), {});
  for (const NetlinkMessage& message : messages_of(transaction)) {
    for (size_t length = 0; length < message.body.size(); ++length) {
      NetlinkMessage shorter = message;
      shorter.body = message.body.first(length);
      const auto rule = decode_rule(shorter);
      EXPECT_TRUE(!rule || !rule->chain.empty());
      decode_chain(shorter);
      decode_table(shorter);
    }
  }
}

TEST(StepsTextTest, NamesTheStepsAsNftDoes) {
  EXPECT_EQ(steps_text({LoadMeta{}, Compare{}, ForeignStep{"counter"}, Verdict{}}),
            "[meta cmp counter verdict]");
  EXPECT_EQ(steps_text({}), "[]");
}

}  // namespace
}  // namespace remora::intercept
