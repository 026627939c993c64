#include "sidecar/intercept/ruleset.h"

#include <cstddef>
#include <cstring>
#include <utility>

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>

#include "sidecar/net/tcp.h"

namespace remora::intercept {
namespace {

// NF_IP_PRI_NAT_DST: where every destination translation sits ("dstnat" in nft).
constexpr int32_t destination_nat_priority = -100;
// The kernel gives this index to the loopback device of every network namespace.
constexpr uint32_t loopback_interface = 1;
constexpr uint16_t dns_port = 53;
constexpr uint8_t tcp_flag_mask = TH_FIN | TH_SYN | TH_RST | TH_ACK;

Bytes host_order(uint32_t value) {
  Bytes bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

Bytes network_order(uint16_t value) {
  return {static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value & 0xff)};
}

// Puts a rule together from left to right, as nft would.
class RuleMaker {
 public:
  RuleMaker& meta(uint32_t key, Bytes value, std::string_view text, uint32_t op = NFT_CMP_EQ) {
    rule_.steps.emplace_back(LoadMeta{key});
    rule_.steps.emplace_back(Compare{op, std::move(value)});
    return add_text(text);
  }
  RuleMaker& is_tcp() { return meta(NFT_META_L4PROTO, {IPPROTO_TCP}, {}); }
  RuleMaker& payload(uint32_t base, uint32_t offset, uint32_t length) {
    rule_.steps.emplace_back(LoadPayload{base, offset, length});
    return *this;
  }
  RuleMaker& mask(Bytes bits) {
    rule_.steps.emplace_back(Mask{std::move(bits)});
    return *this;
  }
  RuleMaker& compare(uint32_t op, Bytes value) {
    rule_.steps.emplace_back(Compare{op, std::move(value)});
    return *this;
  }
  RuleMaker& add_text(std::string_view text) {
    if (!text.empty() && !rule_.text.empty()) rule_.text += ' ';
    rule_.text += text;
    return *this;
  }
  Rule returns(std::string comment) {
    rule_.steps.emplace_back(Verdict{NFT_RETURN});
    add_text("return");
    rule_.comment = std::move(comment);
    return std::move(rule_);
  }
  Rule redirects(uint16_t port, std::string comment) {
    rule_.steps.emplace_back(LoadImmediate{network_order(port)});
    rule_.steps.emplace_back(Redirect{NF_NAT_RANGE_PROTO_SPECIFIED});
    add_text("redirect to :" + std::to_string(port));
    rule_.comment = std::move(comment);
    return std::move(rule_);
  }

 private:
  Rule rule_;
};

Rule leave_other_protocols() {
  return RuleMaker()
      .meta(NFT_META_L4PROTO, {IPPROTO_TCP}, "meta l4proto != tcp", NFT_CMP_NEQ)
      .returns("TCP only: UDP and with it DNS go by");
}

// Conntrack takes a connection that is older than the rules for a new one. Its packets are no SYNs;
// redirecting them would break it.
Rule leave_open_connections() {
  return RuleMaker()
      .is_tcp()
      .payload(NFT_PAYLOAD_TRANSPORT_HEADER, offsetof(tcphdr, th_flags), 1)
      .mask({tcp_flag_mask})
      .compare(NFT_CMP_NEQ, {TH_SYN})
      .add_text("tcp flags & (fin|syn|rst|ack) != syn")
      .returns("connections older than these rules go on");
}

Rule leave_port(const PortRange& ports, std::string why) {
  RuleMaker maker;
  maker.is_tcp().payload(NFT_PAYLOAD_TRANSPORT_HEADER, offsetof(tcphdr, th_dport), 2);
  if (ports.first == ports.last) {
    maker.compare(NFT_CMP_EQ, network_order(ports.first));
  } else {
    maker.compare(NFT_CMP_GTE, network_order(ports.first));
    maker.compare(NFT_CMP_LTE, network_order(ports.last));
  }
  return maker.add_text("tcp dport " + ports.to_string()).returns(std::move(why));
}

Rule leave_owner(uint32_t key, const char* name, uint32_t id, std::string why) {
  return RuleMaker()
      .meta(key, host_order(id), std::string("meta ") + name + " " + std::to_string(id))
      .returns(std::move(why));
}

// A prefix of whole bytes is compared as so many bytes, any other under a mask: nft's own forms.
Rule leave_address(const Cidr& cidr, std::string why) {
  const uint8_t family = cidr.is_v6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
  RuleMaker maker;
  if (cidr.bits == 0) {
    return maker
        .meta(NFT_META_NFPROTO, {family}, cidr.is_v6 ? "meta nfproto ipv6" : "meta nfproto ipv4")
        .returns(std::move(why));
  }
  maker.meta(NFT_META_NFPROTO, {family}, {});
  const auto offset =
      static_cast<uint32_t>(cidr.is_v6 ? offsetof(ip6_hdr, ip6_dst) : offsetof(iphdr, daddr));
  const bool whole_bytes = cidr.bits % 8 == 0;
  const size_t length = whole_bytes ? cidr.bits / 8 : cidr.address_bytes();
  maker.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, static_cast<uint32_t>(length));
  if (!whole_bytes) {
    Bytes bits(length);
    for (size_t i = 0; i < cidr.bits; ++i) {
      bits[i / 8] = static_cast<uint8_t>(bits[i / 8] | (0x80 >> (i % 8)));
    }
    maker.mask(std::move(bits));
  }
  Bytes prefix(cidr.address.begin(), cidr.address.begin() + static_cast<ptrdiff_t>(length));
  maker.compare(NFT_CMP_EQ, std::move(prefix));
  return maker.add_text((cidr.is_v6 ? "ip6 daddr " : "ip daddr ") + cidr.to_string())
      .returns(std::move(why));
}

Rule redirect(uint16_t port, std::string why) {
  return RuleMaker().is_tcp().add_text("meta l4proto tcp").redirects(port, std::move(why));
}

Chain base_chain(std::string_view name, uint32_t hook) {
  Chain chain;
  chain.spec = {.name = std::string(name),
                .type = "nat",
                .hook = hook,
                .priority = destination_nat_priority,
                .policy = NF_ACCEPT};
  return chain;
}

Chain inbound(const InterceptOptions& options) {
  Chain chain = base_chain(inbound_chain, NF_INET_PRE_ROUTING);
  if (!options.inbound) return chain;
  auto& rules = chain.rules;
  rules.push_back(RuleMaker()
                      .meta(NFT_META_IIF, host_order(loopback_interface), "iif lo")
                      .returns("the pod to itself"));
  rules.push_back(leave_other_protocols());
  rules.push_back(leave_open_connections());
  rules.push_back(leave_port({options.health_port, options.health_port}, "the sidecar's health"));
  for (const PortRange& ports : options.exclude_inbound_ports) {
    rules.push_back(leave_port(ports, "excluded inbound port"));
  }
  rules.push_back(redirect(options.inbound_port, "callers go to the sidecar"));
  return chain;
}

Chain outbound(const InterceptOptions& options) {
  Chain chain = base_chain(outbound_chain, NF_INET_LOCAL_OUT);
  if (!options.outbound) return chain;
  auto& rules = chain.rules;
  rules.push_back(leave_other_protocols());
  // The route is known here already: packets to the pod's own addresses leave by loopback too.
  rules.push_back(RuleMaker()
                      .meta(NFT_META_OIF, host_order(loopback_interface), "oif lo")
                      .returns("the pod to itself"));
  if (options.sidecar_uid) {
    rules.push_back(leave_owner(NFT_META_SKUID, "skuid", *options.sidecar_uid,
                                "the sidecar's own connections"));
  } else {
    rules.push_back(RuleMaker()
                        .meta(NFT_META_PRIORITY, host_order(own_socket_priority),
                              "meta priority 0:" + std::to_string(own_socket_priority))
                        .returns("the sidecar's own connections"));
  }
  rules.push_back(leave_open_connections());
  for (const uint32_t uid : options.exclude_uids) {
    rules.push_back(leave_owner(NFT_META_SKUID, "skuid", uid, "excluded uid"));
  }
  for (const uint32_t gid : options.exclude_gids) {
    rules.push_back(leave_owner(NFT_META_SKGID, "skgid", gid, "excluded gid"));
  }
  rules.push_back(leave_port({dns_port, dns_port}, "DNS over TCP"));
  for (const PortRange& ports : options.exclude_outbound_ports) {
    rules.push_back(leave_port(ports, "excluded outbound port"));
  }
  // The original destination of such a connection comes without its interface, so the sidecar
  // could not call it.
  constexpr Cidr link_local{.is_v6 = true, .address = {0xfe, 0x80}, .bits = 10};
  rules.push_back(leave_address(link_local, "link-local addresses"));
  for (const Cidr& cidr : options.exclude_outbound_addresses) {
    rules.push_back(leave_address(cidr, "excluded outbound address"));
  }
  rules.push_back(redirect(options.outbound_port, "calls go through the sidecar"));
  return chain;
}

}  // namespace

Ruleset build_ruleset(const InterceptOptions& options) {
  Ruleset ruleset;
  ruleset.chains.push_back(inbound(options));
  ruleset.chains.push_back(outbound(options));
  return ruleset;
}

size_t rule_count(const Ruleset& ruleset) {
  size_t count = 0;
  for (const Chain& chain : ruleset.chains) count += chain.rules.size();
  return count;
}

}  // namespace remora::intercept
