// The writing half of nft_message.h.
#include <algorithm>

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "sidecar/intercept/nft_message.h"

namespace remora::intercept {
namespace {

// nft keeps comments in a rule's user data: type 0, length, text with its NUL.
constexpr uint8_t comment_type = 0;
constexpr size_t comment_bytes_max = 127;

uint16_t nft(int message) { return static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message); }

class StepWriter {
 public:
  explicit StepWriter(NetlinkWriter& out) : out_(out) {}

  void operator()(const LoadMeta& step) {
    expression("meta", [&] {
      out_.number(NFTA_META_KEY, step.key);
      out_.number(NFTA_META_DREG, NFT_REG_1);
    });
  }
  void operator()(const LoadPayload& step) {
    expression("payload", [&] {
      out_.number(NFTA_PAYLOAD_DREG, NFT_REG_1);
      out_.number(NFTA_PAYLOAD_BASE, step.base);
      out_.number(NFTA_PAYLOAD_OFFSET, step.offset);
      out_.number(NFTA_PAYLOAD_LEN, step.length);
    });
  }
  void operator()(const Mask& step) {
    expression("bitwise", [&] {
      out_.number(NFTA_BITWISE_SREG, NFT_REG_1);
      out_.number(NFTA_BITWISE_DREG, NFT_REG_1);
      out_.number(NFTA_BITWISE_LEN, static_cast<uint32_t>(step.bits.size()));
      data(NFTA_BITWISE_MASK, step.bits);
      data(NFTA_BITWISE_XOR, Bytes(step.bits.size()));
    });
  }
  void operator()(const Compare& step) {
    expression("cmp", [&] {
      out_.number(NFTA_CMP_SREG, NFT_REG_1);
      out_.number(NFTA_CMP_OP, step.op);
      data(NFTA_CMP_DATA, step.value);
    });
  }
  void operator()(const LoadImmediate& step) {
    expression("immediate", [&] {
      out_.number(NFTA_IMMEDIATE_DREG, NFT_REG_1);
      data(NFTA_IMMEDIATE_DATA, step.value);
    });
  }
  void operator()(const Verdict& step) {
    expression("immediate", [&] {
      out_.number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      out_.nest(NFTA_IMMEDIATE_DATA, [&] {
        out_.nest(NFTA_DATA_VERDICT,
                  [&] { out_.number(NFTA_VERDICT_CODE, static_cast<uint32_t>(step.code)); });
      });
    });
  }
  void operator()(const Redirect& step) {
    expression("redir", [&] {
      out_.number(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
      out_.number(NFTA_REDIR_FLAGS, step.flags);
    });
  }
  // Only read from the kernel, never part of a ruleset of ours.
  void operator()(const ForeignStep&) {}

 private:
  template <typename Body>
  void expression(std::string_view name, Body body) {
    out_.nest(NFTA_LIST_ELEM, [&] {
      out_.text(NFTA_EXPR_NAME, name);
      out_.nest(NFTA_EXPR_DATA, body);
    });
  }
  void data(uint16_t type, const Bytes& value) {
    out_.nest(type, [&] { out_.bytes(NFTA_DATA_VALUE, value); });
  }

  NetlinkWriter& out_;
};

void write_comment(NetlinkWriter& out, std::string_view comment) {
  comment = comment.substr(0, comment_bytes_max - 1);
  Bytes data{comment_type, static_cast<uint8_t>(comment.size() + 1)};
  data.insert(data.end(), comment.begin(), comment.end());
  data.push_back(0);
  out.bytes(NFTA_RULE_USERDATA, data);
}

// Collects the messages of a transaction between the two that frame it.
class Batch {
 public:
  Batch() : out_(1) { frame(NFNL_MSG_BATCH_BEGIN); }

  template <typename Body>
  void command(int message, uint16_t flags, Body body) {
    const uint16_t extra = static_cast<uint16_t>(flags | NLM_F_REQUEST);
    last_ = out_.message(nft(message), extra, NFPROTO_INET, 0, body);
  }
  void new_table() {
    command(NFT_MSG_NEWTABLE, NLM_F_CREATE, [&] {
      out_.text(NFTA_TABLE_NAME, table_name);
      out_.number(NFTA_TABLE_FLAGS, 0);
    });
  }
  void delete_table(uint16_t flags = 0) {
    command(NFT_MSG_DELTABLE, flags, [&] { out_.text(NFTA_TABLE_NAME, table_name); });
  }
  void new_chain(const ChainSpec& spec) {
    command(NFT_MSG_NEWCHAIN, NLM_F_CREATE, [&] {
      out_.text(NFTA_CHAIN_TABLE, table_name);
      out_.text(NFTA_CHAIN_NAME, spec.name);
      out_.nest(NFTA_CHAIN_HOOK, [&] {
        out_.number(NFTA_HOOK_HOOKNUM, spec.hook);
        out_.number(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(spec.priority));
      });
      out_.number(NFTA_CHAIN_POLICY, spec.policy);
      out_.text(NFTA_CHAIN_TYPE, spec.type);
    });
  }
  void delete_chain(std::string_view name) {
    command(NFT_MSG_DELCHAIN, 0, [&] {
      out_.text(NFTA_CHAIN_TABLE, table_name);
      out_.text(NFTA_CHAIN_NAME, name);
    });
  }
  void delete_all_rules() {
    command(NFT_MSG_DELRULE, 0, [&] { out_.text(NFTA_RULE_TABLE, table_name); });
  }
  void new_rule(std::string_view chain, const Rule& rule) {
    command(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, [&] {
      out_.text(NFTA_RULE_TABLE, table_name);
      out_.text(NFTA_RULE_CHAIN, chain);
      out_.nest(NFTA_RULE_EXPRESSIONS, [&] {
        for (const Step& step : rule.steps) std::visit(StepWriter(out_), step);
      });
      write_comment(out_, rule.comment);
    });
  }
  uint32_t last_sequence() const { return last_; }
  uint32_t next_sequence() const { return last_ + 1; }

  // The last command asks for an acknowledgement: it is sent once the whole batch is done.
  Transaction finish(uint32_t first_chain, uint32_t first_rule) {
    command(NFT_MSG_NEWTABLE, NLM_F_ACK, [&] { out_.text(NFTA_TABLE_NAME, table_name); });
    return finish_as_is(first_chain, first_rule);
  }
  Transaction finish_as_is(uint32_t first_chain, uint32_t first_rule) {
    frame(NFNL_MSG_BATCH_END);
    return {out_.buffer(), last_, first_chain, first_rule};
  }

 private:
  void frame(uint16_t type) {
    out_.message(type, NLM_F_REQUEST, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, [] {});
  }

  NetlinkWriter out_;
  uint32_t last_ = 1;
};

Transaction fill(Batch& batch, const Ruleset& ruleset) {
  const uint32_t first_rule = batch.next_sequence();
  for (const Chain& chain : ruleset.chains) {
    for (const Rule& rule : chain.rules) batch.new_rule(chain.spec.name, rule);
  }
  return batch.finish(0, first_rule);
}

Bytes question(uint32_t sequence, int message, uint16_t flags, uint8_t family, uint16_t name_type) {
  NetlinkWriter out(sequence);
  out.message(nft(message), static_cast<uint16_t>(flags | NLM_F_REQUEST), family, 0, [&] {
    if (name_type != 0) out.text(name_type, table_name);
  });
  return out.buffer();
}

}  // namespace

Transaction refill_transaction(const Ruleset& ruleset,
                               const std::vector<std::string>& extra_chains) {
  Batch batch;
  batch.new_table();
  batch.delete_all_rules();
  for (const std::string& name : extra_chains) batch.delete_chain(name);
  const uint32_t first_chain = batch.next_sequence();
  for (const Chain& chain : ruleset.chains) batch.new_chain(chain.spec);
  Transaction transaction = fill(batch, ruleset);
  transaction.first_chain_sequence = first_chain;
  return transaction;
}

Transaction replace_transaction(const Ruleset& ruleset) {
  Batch batch;
  batch.new_table();
  batch.delete_table();
  batch.new_table();
  const uint32_t first_chain = batch.next_sequence();
  for (const Chain& chain : ruleset.chains) batch.new_chain(chain.spec);
  Transaction transaction = fill(batch, ruleset);
  transaction.first_chain_sequence = first_chain;
  return transaction;
}

Transaction remove_transaction() {
  Batch batch;
  batch.new_table();
  batch.delete_table(NLM_F_ACK);
  return batch.finish_as_is(0, 0);
}

Bytes table_question(uint32_t sequence) {
  return question(sequence, NFT_MSG_GETTABLE, NLM_F_ACK, NFPROTO_INET, NFTA_TABLE_NAME);
}

Bytes chains_question(uint32_t sequence) {
  return question(sequence, NFT_MSG_GETCHAIN, NLM_F_DUMP, NFPROTO_UNSPEC, 0);
}

Bytes rules_question(uint32_t sequence) {
  return question(sequence, NFT_MSG_GETRULE, NLM_F_DUMP, NFPROTO_INET, NFTA_RULE_TABLE);
}

}  // namespace remora::intercept
