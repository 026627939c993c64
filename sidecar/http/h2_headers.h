// HTTP/2 header blocks (RFC 9113 section 8): from decoded fields to a message, and from a message
// to the list that nghttp2 encodes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <nghttp2/nghttp2.h>

#include "sidecar/base/arena.h"
#include "sidecar/base/error.h"
#include "sidecar/http/codec.h"
#include "sidecar/http/message.h"

namespace remora::http {

// Collects one header block. nghttp2 has checked the names, the order and number of the
// pseudo-header fields, and that no connection-level field is there; what it leaves open (the
// characters of the target, Host against :authority, sizes) is checked here.
class HeaderBlock {
 public:
  enum class Excess : uint8_t { kNone, kUrl, kHeaders };

  void begin(StreamId stream_id, const CodecLimits& limits);
  StreamId stream_id() const { return stream_id_; }
  // Past a limit the rest is dropped and excess() says which limit.
  void add(std::string_view name, std::string_view value);
  Excess excess() const { return excess_; }
  // The value of :status, 0 if there is none.
  int status() const { return status_; }

  // Each may be called once, after the last field. Error kProtocol: malformed.
  Result<RequestHead> take_request();
  Result<ResponseHead> take_response();
  HeaderMap take_trailers(ArenaPtr* arena);

 private:
  void add_pseudo(std::string_view name, std::string_view value);
  void join_cookies();

  StreamId stream_id_ = 0;
  ArenaPtr arena_;
  const CodecLimits* limits_ = nullptr;
  Excess excess_ = Excess::kNone;
  size_t bytes_ = 0;
  size_t count_ = 0;
  size_t cookies_ = 0;
  size_t cookie_bytes_ = 0;
  HeaderMap headers_;
  std::string_view method_;
  std::string_view scheme_;
  std::string_view authority_;
  std::string_view path_;
  std::string_view protocol_;
  std::optional<std::string_view> host_;
  std::optional<uint64_t> content_length_;
  int status_ = 0;
};

// A list of fields for one nghttp2_submit_* call. Views into the message where its bytes can be
// sent as they are, else into its own arena; valid until the next call here.
class HeaderList {
 public:
  std::span<const nghttp2_nv> from(const RequestHead& head);
  std::span<const nghttp2_nv> from(const ResponseHead& head);
  std::span<const nghttp2_nv> from_trailers(const HeaderMap& trailers);
  // Says whether nghttp2 copies the bytes, or reads the message's own when it writes the frame.
  void set_copied(bool copied);

 private:
  void clear();
  void add(std::string_view name, std::string_view value);
  void add_number(std::string_view name, uint64_t value);
  void add_all(const HeaderMap& headers);
  std::string_view lower(std::string_view name);

  std::vector<nghttp2_nv> list_;
  ArenaPtr arena_;
};

}  // namespace remora::http
