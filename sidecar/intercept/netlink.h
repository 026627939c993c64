// Netlink messages as bytes (RFC 3549 section 2, linux/netlink.h): a writer, and readers that stay
// inside their bytes whatever those say. No I/O.
//
// Netlink lengths and types are in the host's byte order; nf_tables wants the numbers inside its
// attributes in network order.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <linux/netlink.h>

#include "sidecar/intercept/ruleset.h"

namespace remora::intercept {

using ByteSpan = std::span<const uint8_t>;

// Appends messages to one buffer. Nesting is closed in the order it was opened, by the program's
// own structure: nest() runs its argument inside.
class NetlinkWriter {
 public:
  explicit NetlinkWriter(uint32_t first_sequence) : sequence_(first_sequence) {}

  // type: NFNL_SUBSYS_* << 8 | message, or NFNL_MSG_BATCH_*. family and resource go into the
  // nfgenmsg. Returns the message's sequence number.
  template <typename Body>
  uint32_t message(uint16_t type, uint16_t flags, uint8_t family, uint16_t resource, Body body) {
    const size_t start = begin_message(type, flags, family, resource);
    body();
    patch_length<uint32_t>(start);
    return sequence_++;
  }
  template <typename Body>
  void nest(uint16_t type, Body body) {
    const size_t start = begin_attribute(type | NLA_F_NESTED);
    body();
    patch_length<uint16_t>(start);
  }
  void bytes(uint16_t type, ByteSpan value);
  void text(uint16_t type, std::string_view value);  // with the NUL that nf_tables expects
  void number(uint16_t type, uint32_t value);        // in network order

  const Bytes& buffer() const { return buffer_; }

 private:
  size_t begin_message(uint16_t type, uint16_t flags, uint8_t family, uint16_t resource);
  size_t begin_attribute(uint16_t type);
  template <typename T>
  void append(const T& value);
  // The length field is the first of both headers; padding follows, and isn't counted.
  template <typename T>
  void patch_length(size_t start);

  Bytes buffer_;
  uint32_t sequence_;
};

// One message of a received buffer. body begins after the nlmsghdr.
struct NetlinkMessage {
  uint16_t type = 0;
  uint16_t flags = 0;
  uint32_t sequence = 0;
  ByteSpan body;
};

// Takes the first message off bytes; nothing at the end or when the rest is malformed.
std::optional<NetlinkMessage> take_message(ByteSpan& bytes);

struct Attribute {
  uint16_t type = 0;  // without the flags
  ByteSpan value;

  std::optional<uint32_t> number() const;  // of 4 bytes in network order
  std::optional<uint64_t> number64() const;
  std::string text() const;  // up to the first NUL
};

// Takes the first attribute off bytes; nothing at the end or when the rest is malformed.
std::optional<Attribute> take_attribute(ByteSpan& bytes);

// The value of the first attribute of this type.
std::optional<Attribute> find_attribute(ByteSpan bytes, uint16_t type);

// What the kernel says about a request at its end: NLMSG_ERROR, whose code 0 acknowledges, or
// NLMSG_DONE after a dump.
struct NetlinkReply {
  int error = 0;          // errno, positive; 0 acknowledges
  uint32_t sequence = 0;  // of the request that it is about
  std::string text;       // the kernel's own words, often empty
};
std::optional<NetlinkReply> parse_reply(const NetlinkMessage& message);

}  // namespace remora::intercept
