// The reading half of nft_message.h. The kernel adds attributes over the years: those unknown here
// are passed over, unless they change what a step does.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "sidecar/intercept/nft_message.h"

namespace remora::intercept {
namespace {

constexpr uint8_t comment_type = 0;
// The kernel's own limit on the steps of a rule (NFT_RULE_MAXEXPRS).
constexpr size_t steps_max = 128;
constexpr size_t value_bytes_max = 64;  // NFT_REG_SIZE * 4
constexpr size_t user_data_items_max = 128;

std::optional<ByteSpan> body_of(const NetlinkMessage& message, int kind) {
  if (message.type != (NFNL_SUBSYS_NFTABLES << 8 | kind)) return {};
  if (message.body.size() < sizeof(nfgenmsg)) return {};
  return message.body.subspan(sizeof(nfgenmsg));
}

uint8_t family_of(const NetlinkMessage& message) { return message.body[0]; }

std::string text_in(ByteSpan attributes, uint16_t type) {
  const auto attribute = find_attribute(attributes, type);
  return attribute ? attribute->text() : std::string();
}

std::optional<uint32_t> number_in(ByteSpan attributes, uint16_t type) {
  const auto attribute = find_attribute(attributes, type);
  return attribute ? attribute->number() : std::nullopt;
}

bool is_register_1(ByteSpan attributes, uint16_t type) {
  return number_in(attributes, type) == uint32_t{NFT_REG_1};
}

std::optional<Bytes> value_in(ByteSpan attributes, uint16_t type) {
  const auto data = find_attribute(attributes, type);
  if (!data) return {};
  const auto value = find_attribute(data->value, NFTA_DATA_VALUE);
  if (!value || value->value.size() > value_bytes_max) return {};
  return Bytes(value->value.begin(), value->value.end());
}

std::optional<Step> decode_meta(ByteSpan data) {
  const auto key = number_in(data, NFTA_META_KEY);
  if (!key || !is_register_1(data, NFTA_META_DREG)) return {};
  return LoadMeta{*key};
}

std::optional<Step> decode_payload(ByteSpan data) {
  const auto base = number_in(data, NFTA_PAYLOAD_BASE);
  const auto offset = number_in(data, NFTA_PAYLOAD_OFFSET);
  const auto length = number_in(data, NFTA_PAYLOAD_LEN);
  // With a source register it would write into the packet.
  if (!base || !offset || !length || !is_register_1(data, NFTA_PAYLOAD_DREG) ||
      find_attribute(data, NFTA_PAYLOAD_SREG)) {
    return {};
  }
  return LoadPayload{*base, *offset, *length};
}

std::optional<Step> decode_bitwise(ByteSpan data) {
  auto mask = value_in(data, NFTA_BITWISE_MASK);
  const auto flip = value_in(data, NFTA_BITWISE_XOR);
  if (!mask || flip != Bytes(mask->size()) || !is_register_1(data, NFTA_BITWISE_SREG) ||
      !is_register_1(data, NFTA_BITWISE_DREG) ||
      number_in(data, NFTA_BITWISE_LEN) != static_cast<uint32_t>(mask->size()) ||
      number_in(data, NFTA_BITWISE_OP).value_or(0) != 0) {
    return {};
  }
  return Mask{std::move(*mask)};
}

std::optional<Step> decode_compare(ByteSpan data) {
  const auto op = number_in(data, NFTA_CMP_OP);
  auto value = value_in(data, NFTA_CMP_DATA);
  if (!op || !value || !is_register_1(data, NFTA_CMP_SREG)) return {};
  return Compare{*op, std::move(*value)};
}

std::optional<Step> decode_immediate(ByteSpan data) {
  if (is_register_1(data, NFTA_IMMEDIATE_DREG)) {
    auto value = value_in(data, NFTA_IMMEDIATE_DATA);
    if (!value) return {};
    return LoadImmediate{std::move(*value)};
  }
  const auto outer = find_attribute(data, NFTA_IMMEDIATE_DATA);
  if (!outer || number_in(data, NFTA_IMMEDIATE_DREG) != uint32_t{NFT_REG_VERDICT}) return {};
  const auto verdict = find_attribute(outer->value, NFTA_DATA_VERDICT);
  if (!verdict || find_attribute(verdict->value, NFTA_VERDICT_CHAIN)) return {};
  const auto code = number_in(verdict->value, NFTA_VERDICT_CODE);
  if (!code) return {};
  return Verdict{static_cast<int32_t>(*code)};
}

std::optional<Step> decode_redirect(ByteSpan data) {
  const auto flags = number_in(data, NFTA_REDIR_FLAGS);
  if (!flags || !is_register_1(data, NFTA_REDIR_REG_PROTO_MIN)) return {};
  // The kernel repeats the first port's register as the last port's.
  const auto last = number_in(data, NFTA_REDIR_REG_PROTO_MAX);
  if (last && *last != uint32_t{NFT_REG_1}) return {};
  return Redirect{*flags};
}

Step decode_step(ByteSpan expression) {
  std::string name = text_in(expression, NFTA_EXPR_NAME);
  const auto data = find_attribute(expression, NFTA_EXPR_DATA);
  const ByteSpan body = data ? data->value : ByteSpan();
  std::optional<Step> step;
  if (name == "meta") {
    step = decode_meta(body);
  } else if (name == "payload") {
    step = decode_payload(body);
  } else if (name == "bitwise") {
    step = decode_bitwise(body);
  } else if (name == "cmp") {
    step = decode_compare(body);
  } else if (name == "immediate") {
    step = decode_immediate(body);
  } else if (name == "redir") {
    step = decode_redirect(body);
  }
  if (step) return std::move(*step);
  return ForeignStep{std::move(name)};
}

std::string decode_comment(ByteSpan user_data) {
  for (size_t i = 0; i < user_data_items_max && user_data.size() >= 2; ++i) {
    const size_t length = user_data[1];
    if (length > user_data.size() - 2) break;
    if (user_data[0] == comment_type) {
      return Attribute{.type = 0, .value = user_data.subspan(2, length)}.text();
    }
    user_data = user_data.subspan(2 + length);
  }
  return {};
}

const char* step_name(const Step& step) {
  struct Namer {
    const char* operator()(const LoadMeta&) const { return "meta"; }
    const char* operator()(const LoadPayload&) const { return "payload"; }
    const char* operator()(const Mask&) const { return "bitwise"; }
    const char* operator()(const Compare&) const { return "cmp"; }
    const char* operator()(const LoadImmediate&) const { return "immediate"; }
    const char* operator()(const Verdict&) const { return "verdict"; }
    const char* operator()(const Redirect&) const { return "redir"; }
    const char* operator()(const ForeignStep& foreign) const { return foreign.name.c_str(); }
  };
  return std::visit(Namer{}, step);
}

}  // namespace

std::optional<FoundTable> decode_table(const NetlinkMessage& message) {
  const auto body = body_of(message, NFT_MSG_NEWTABLE);
  if (!body || text_in(*body, NFTA_TABLE_NAME) != table_name) return {};
  return FoundTable{.flags = number_in(*body, NFTA_TABLE_FLAGS).value_or(0),
                    .object_count = number_in(*body, NFTA_TABLE_USE).value_or(0)};
}

std::optional<FoundChain> decode_chain(const NetlinkMessage& message) {
  const auto body = body_of(message, NFT_MSG_NEWCHAIN);
  if (!body) return {};
  FoundChain chain{
      .family = family_of(message), .table = text_in(*body, NFTA_CHAIN_TABLE), .spec = {}};
  chain.spec.name = text_in(*body, NFTA_CHAIN_NAME);
  if (chain.table.empty() || chain.spec.name.empty()) return {};
  if (const auto hook = find_attribute(*body, NFTA_CHAIN_HOOK)) {
    const auto number = number_in(hook->value, NFTA_HOOK_HOOKNUM);
    const auto priority = number_in(hook->value, NFTA_HOOK_PRIORITY);
    if (!number || !priority) return {};
    chain.spec.type = text_in(*body, NFTA_CHAIN_TYPE);
    chain.spec.hook = *number;
    chain.spec.priority = static_cast<int32_t>(*priority);
    chain.spec.policy = number_in(*body, NFTA_CHAIN_POLICY).value_or(NF_ACCEPT);
  }
  return chain;
}

std::optional<FoundRule> decode_rule(const NetlinkMessage& message) {
  const auto body = body_of(message, NFT_MSG_NEWRULE);
  if (!body || family_of(message) != NFPROTO_INET ||
      text_in(*body, NFTA_RULE_TABLE) != table_name) {
    return {};
  }
  FoundRule rule;
  rule.chain = text_in(*body, NFTA_RULE_CHAIN);
  if (rule.chain.empty()) return {};
  if (const auto handle = find_attribute(*body, NFTA_RULE_HANDLE)) {
    rule.handle = handle->number64().value_or(0);
  }
  if (const auto user_data = find_attribute(*body, NFTA_RULE_USERDATA)) {
    rule.comment = decode_comment(user_data->value);
  }
  if (const auto list = find_attribute(*body, NFTA_RULE_EXPRESSIONS)) {
    ByteSpan rest = list->value;
    while (const auto expression = take_attribute(rest)) {
      if (rule.steps.size() == steps_max) return {};
      rule.steps.push_back(decode_step(expression->value));
    }
  }
  return rule;
}

std::string steps_text(const std::vector<Step>& steps) {
  std::string text = "[";
  for (const Step& step : steps) {
    if (text.size() > 1) text += ' ';
    text += step_name(step);
  }
  return text + "]";
}

}  // namespace remora::intercept
