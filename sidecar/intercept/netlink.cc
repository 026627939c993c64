#include "sidecar/intercept/netlink.h"

#include <algorithm>
#include <cstring>

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>

namespace remora::intercept {
namespace {

constexpr size_t alignment_bytes = NLA_ALIGNTO;
constexpr size_t reply_text_bytes_max = 200;
constexpr int errno_max = 4095;  // the kernel's MAX_ERRNO

size_t aligned(size_t length) { return (length + alignment_bytes - 1) & ~(alignment_bytes - 1); }

template <typename T>
std::optional<T> read(ByteSpan bytes) {
  if (bytes.size() < sizeof(T)) return {};
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

// Past an item of this length and its padding; the last item's padding may be missing.
void skip(ByteSpan& bytes, size_t length) {
  bytes = bytes.subspan(std::min(aligned(length), bytes.size()));
}

}  // namespace

template <typename T>
void NetlinkWriter::append(const T& value) {
  const auto* raw = reinterpret_cast<const uint8_t*>(&value);
  buffer_.insert(buffer_.end(), raw, raw + sizeof value);
}

template <typename T>
void NetlinkWriter::patch_length(size_t start) {
  const auto length = static_cast<T>(buffer_.size() - start);
  std::memcpy(buffer_.data() + start, &length, sizeof length);
  buffer_.resize(aligned(buffer_.size()));
}
template void NetlinkWriter::patch_length<uint16_t>(size_t);
template void NetlinkWriter::patch_length<uint32_t>(size_t);

size_t NetlinkWriter::begin_message(uint16_t type, uint16_t flags, uint8_t family,
                                    uint16_t resource) {
  const size_t start = buffer_.size();
  append(nlmsghdr{.nlmsg_len = 0,
                  .nlmsg_type = type,
                  .nlmsg_flags = flags,
                  .nlmsg_seq = sequence_,
                  .nlmsg_pid = 0});
  append(nfgenmsg{.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource)});
  return start;
}

size_t NetlinkWriter::begin_attribute(uint16_t type) {
  const size_t start = buffer_.size();
  append(nlattr{.nla_len = 0, .nla_type = type});
  return start;
}

void NetlinkWriter::bytes(uint16_t type, ByteSpan value) {
  const size_t start = begin_attribute(type);
  buffer_.insert(buffer_.end(), value.begin(), value.end());
  patch_length<uint16_t>(start);
}

void NetlinkWriter::text(uint16_t type, std::string_view value) {
  const size_t start = begin_attribute(type);
  buffer_.insert(buffer_.end(), value.begin(), value.end());
  buffer_.push_back(0);
  patch_length<uint16_t>(start);
}

void NetlinkWriter::number(uint16_t type, uint32_t value) {
  const size_t start = begin_attribute(type);
  append(htonl(value));
  patch_length<uint16_t>(start);
}

std::optional<NetlinkMessage> take_message(ByteSpan& bytes) {
  const auto header = read<nlmsghdr>(bytes);
  if (!header || header->nlmsg_len < sizeof(nlmsghdr) || header->nlmsg_len > bytes.size()) {
    return {};
  }
  NetlinkMessage message{.type = header->nlmsg_type,
                         .flags = header->nlmsg_flags,
                         .sequence = header->nlmsg_seq,
                         .body = bytes.first(header->nlmsg_len).subspan(sizeof(nlmsghdr))};
  skip(bytes, header->nlmsg_len);
  return message;
}

std::optional<uint32_t> Attribute::number() const {
  if (value.size() != sizeof(uint32_t)) return {};
  return ntohl(*read<uint32_t>(value));
}

std::optional<uint64_t> Attribute::number64() const {
  if (value.size() != sizeof(uint64_t)) return {};
  const uint64_t high = ntohl(*read<uint32_t>(value));
  return high << 32 | ntohl(*read<uint32_t>(value.subspan(sizeof(uint32_t))));
}

std::string Attribute::text() const {
  const auto end = std::ranges::find(value, uint8_t{0});
  return {value.begin(), end};
}

std::optional<Attribute> take_attribute(ByteSpan& bytes) {
  const auto header = read<nlattr>(bytes);
  if (!header || header->nla_len < sizeof(nlattr) || header->nla_len > bytes.size()) return {};
  Attribute attribute{.type = static_cast<uint16_t>(header->nla_type & NLA_TYPE_MASK),
                      .value = bytes.first(header->nla_len).subspan(sizeof(nlattr))};
  skip(bytes, header->nla_len);
  return attribute;
}

std::optional<Attribute> find_attribute(ByteSpan bytes, uint16_t type) {
  while (const auto attribute = take_attribute(bytes)) {
    if (attribute->type == type) return attribute;
  }
  return {};
}

std::optional<NetlinkReply> parse_reply(const NetlinkMessage& message) {
  if (message.type == NLMSG_DONE) {
    const int code = read<int>(message.body).value_or(0);
    const bool failed = code < 0 && code >= -errno_max;
    return NetlinkReply{.error = failed ? -code : 0, .sequence = message.sequence, .text = {}};
  }
  if (message.type != NLMSG_ERROR) return {};
  const auto body = read<nlmsgerr>(message.body);
  if (!body || body->error > 0 || body->error < -errno_max) return {};
  NetlinkReply reply{.error = -body->error, .sequence = body->msg.nlmsg_seq, .text = {}};
  if ((message.flags & NLM_F_ACK_TLVS) == 0) return reply;
  // A capped reply repeats the request's header only, a full one the request.
  ByteSpan rest = message.body.subspan(sizeof(nlmsgerr));
  if ((message.flags & NLM_F_CAPPED) == 0) {
    const size_t repeated = body->msg.nlmsg_len;
    if (repeated < sizeof(nlmsghdr)) return reply;
    skip(rest, repeated - sizeof(nlmsghdr));
  }
  if (const auto text = find_attribute(rest, NLMSGERR_ATTR_MSG)) {
    reply.text = text->text().substr(0, reply_text_bytes_max);
  }
  return reply;
}

}  // namespace remora::intercept
