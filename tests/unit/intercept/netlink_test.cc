#include "sidecar/intercept/netlink.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/netfilter/nfnetlink.h>

#include "sidecar/intercept/netlink_socket.h"

namespace remora::intercept {
namespace {

using testing::HasSubstr;

template <typename T>
void append(Bytes& bytes, const T& value) {
  const auto* raw = reinterpret_cast<const uint8_t*>(&value);
  bytes.insert(bytes.end(), raw, raw + sizeof value);
}

TEST(NetlinkWriterTest, LaysOutHeadersPaddingAndNesting) {
  NetlinkWriter out(7);
  const uint32_t sequence = out.message(0x0a01, NLM_F_REQUEST, 1, 10, [&] {
    out.text(1, "ab");
    out.nest(2, [&] { out.number(3, 0x01020304); });
    out.bytes(4, Bytes{0xff});
  });
  EXPECT_EQ(sequence, 7u);
  Bytes wanted;
  append(wanted, nlmsghdr{.nlmsg_len = 16 + 4 + 8 + 12 + 8,
                          .nlmsg_type = 0x0a01,
                          .nlmsg_flags = NLM_F_REQUEST,
                          .nlmsg_seq = 7,
                          .nlmsg_pid = 0});
  append(wanted, std::to_array<uint8_t>({1, 0, 0, 10}));  // nfgenmsg
  append(wanted, nlattr{.nla_len = 7, .nla_type = 1});
  append(wanted, std::to_array<uint8_t>({'a', 'b', 0, 0}));
  append(wanted, nlattr{.nla_len = 12, .nla_type = 2 | NLA_F_NESTED});
  append(wanted, nlattr{.nla_len = 8, .nla_type = 3});
  append(wanted, std::to_array<uint8_t>({1, 2, 3, 4}));
  append(wanted, nlattr{.nla_len = 5, .nla_type = 4});
  append(wanted, std::to_array<uint8_t>({0xff, 0, 0, 0}));
  EXPECT_EQ(out.buffer(), wanted);
}

TEST(NetlinkReaderTest, ReadsWhatTheWriterWrote) {
  NetlinkWriter out(1);
  out.message(0x0a01, 0, 0, 0, [&] {
    out.text(1, "one");
    out.number(2, 77);
  });
  out.message(0x0a02, NLM_F_ACK, 0, 0, [&] { out.bytes(3, Bytes{1, 2, 3, 4, 5, 6, 7, 8}); });
  ByteSpan rest = out.buffer();
  const auto first = take_message(rest);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->type, 0x0a01);
  const ByteSpan attributes = first->body.subspan(sizeof(nfgenmsg));
  EXPECT_EQ(find_attribute(attributes, 1)->text(), "one");
  EXPECT_EQ(find_attribute(attributes, 2)->number(), 77u);
  EXPECT_FALSE(find_attribute(attributes, 3));
  EXPECT_FALSE(find_attribute(attributes, 2)->number64());
  const auto second = take_message(rest);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->sequence, 2u);
  EXPECT_EQ(find_attribute(second->body.subspan(sizeof(nfgenmsg)), 3)->number64(),
            0x0102030405060708u);
  EXPECT_FALSE(take_message(rest));
}

TEST(NetlinkReaderTest, LengthsThatLieEndTheReading) {
  for (const uint32_t length : {0u, 1u, 15u, 100u, 0xffffffffu}) {
    Bytes bytes;
    append(bytes, nlmsghdr{.nlmsg_len = length,
                           .nlmsg_type = 1,
                           .nlmsg_flags = 0,
                           .nlmsg_seq = 0,
                           .nlmsg_pid = 0});
    ByteSpan rest = bytes;
    EXPECT_FALSE(take_message(rest)) << length;
  }
  for (const uint16_t length : std::to_array<uint16_t>({0, 3, 9, 0xffff})) {
    Bytes bytes;
    append(bytes, nlattr{.nla_len = length, .nla_type = 1});
    append(bytes, uint32_t{5});
    ByteSpan rest = bytes;
    EXPECT_FALSE(take_attribute(rest)) << length;
  }
}

NetlinkMessage reply_message(Bytes& body, int code, uint32_t sequence) {
  nlmsgerr error{};
  error.error = code;
  error.msg.nlmsg_len = sizeof(nlmsghdr);
  error.msg.nlmsg_seq = sequence;
  append(body, error);
  return {.type = NLMSG_ERROR, .flags = 0, .sequence = sequence, .body = body};
}

TEST(NetlinkReplyTest, TellsErrorsFromAcknowledgements) {
  Bytes body;
  EXPECT_EQ(parse_reply(reply_message(body, -EPERM, 5))->error, EPERM);
  body.clear();
  const auto acknowledged = parse_reply(reply_message(body, 0, 9));
  EXPECT_EQ(acknowledged->error, 0);
  EXPECT_EQ(acknowledged->sequence, 9u);
  body.clear();
  EXPECT_FALSE(parse_reply(reply_message(body, 5, 1))) << "not an errno";
  EXPECT_FALSE(parse_reply({.type = NLMSG_ERROR, .flags = 0, .sequence = 1, .body = {}}));
  EXPECT_FALSE(parse_reply({.type = NLMSG_NOOP, .flags = 0, .sequence = 1, .body = {}}));
}

TEST(NetlinkReplyTest, TheEndOfADumpCanBeAnError) {
  Bytes body;
  append(body, -EINTR);
  EXPECT_EQ(parse_reply({.type = NLMSG_DONE, .flags = 0, .sequence = 1, .body = body})->error,
            EINTR);
  EXPECT_EQ(parse_reply({.type = NLMSG_DONE, .flags = 0, .sequence = 1, .body = {}})->error, 0);
}

TEST(NetlinkReplyTest, TakesTheKernelsWordsAfterTheRepeatedRequest) {
  for (const bool capped : {true, false}) {
    Bytes body;
    NetlinkMessage message = reply_message(body, -EINVAL, 1);
    if (!capped) {
      // The request repeated in full: a header that says so and 8 bytes more.
      const uint32_t whole = sizeof(nlmsghdr) + 8;
      std::memcpy(body.data() + sizeof(int), &whole, sizeof whole);
      append(body, uint64_t{0});
    }
    append(body, nlattr{.nla_len = 4 + 6, .nla_type = NLMSGERR_ATTR_MSG});
    for (const char c : {'w', 'o', 'r', 'd', 's', '\0'}) body.push_back(static_cast<uint8_t>(c));
    message.body = body;
    message.flags = static_cast<uint16_t>(NLM_F_ACK_TLVS | (capped ? NLM_F_CAPPED : 0));
    EXPECT_EQ(parse_reply(message)->text, "words") << capped;
  }
}

TEST(ExplainTest, SaysWhatTheContainerLacks) {
  for (const NetlinkStep step : {NetlinkStep::kTable, NetlinkStep::kRead}) {
    const Error error = explain(EPERM, step, {});
    EXPECT_EQ(error.code, ErrorCode::kPermission);
    EXPECT_FALSE(error.retryable);
    EXPECT_THAT(error.message, HasSubstr("CAP_NET_ADMIN"));
    EXPECT_THAT(error.message, HasSubstr("explicit modes"));
  }
}

TEST(ExplainTest, SaysWhatTheKernelLacks) {
  const auto expect_lack = [](int err, NetlinkStep step, const char* words) {
    const Error error = explain(err, step, {});
    EXPECT_EQ(error.code, ErrorCode::kUnavailable) << error.message;
    EXPECT_FALSE(error.retryable);
    EXPECT_THAT(error.message, HasSubstr(words));
    EXPECT_THAT(error.message, HasSubstr("explicit modes"));
  };
  expect_lack(EPROTONOSUPPORT, NetlinkStep::kOpen, "no nf_tables");
  expect_lack(EINVAL, NetlinkStep::kRead, "no nf_tables");
  expect_lack(EOPNOTSUPP, NetlinkStep::kTable, "no nf_tables");
  expect_lack(ENOENT, NetlinkStep::kChain, "nft_chain_nat");
  expect_lack(ENOENT, NetlinkStep::kRule, "nft_redir");
}

TEST(ExplainTest, OtherWritersAreAReasonToTryAgain) {
  for (const int err : {ERESTART, EINTR, EAGAIN, EBUSY, ENOBUFS}) {
    EXPECT_TRUE(explain(err, NetlinkStep::kTable, {}).retryable) << err;
  }
  EXPECT_TRUE(explain(ENOENT, NetlinkStep::kTable, {}).retryable);
  EXPECT_FALSE(explain(EINVAL, NetlinkStep::kRule, {}).retryable);
  EXPECT_THAT(explain(EINVAL, NetlinkStep::kRule, "no such register").message,
              HasSubstr("(no such register)"));
}

}  // namespace
}  // namespace remora::intercept
