// Reads the parts of an HTTP/1.1 message (RFC 9112): heads, chunked bodies, trailer sections.
//
// A head reaches llhttp only when it is complete and lies in the message's arena in one piece, so
// every name and value is a view into that one copy. In front of llhttp stands HeadScanner, which
// finds the end of the head and refuses the line breaks that llhttp lets through (bare LF, folded
// lines); the start line is read here too, because llhttp takes HTTP/0.9, RTSP and repeated spaces
// and knows only a fixed list of methods. Anything that leaves doubt about where the message ends
// is an error, never a guess: two readers that guess differently are how requests get smuggled.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <llhttp.h>

#include "sidecar/base/error.h"
#include "sidecar/http/codec.h"
#include "sidecar/http/message.h"

namespace remora::http {

inline constexpr std::string_view kUrlTooLongMessage = "url is longer than the limit";

// Finds the empty line that ends a head or a trailer section, however the bytes are cut up.
class HeadScanner {
 public:
  // The whole section, from its first byte; called again with the same bytes and more. Returns the
  // size of the section with its final empty line, or nothing when that has not come yet. A
  // section that is nothing but an empty line has size 2.
  // Error kProtocol: LF without CR, or a line that begins with white space (RFC 9112 section 5.2).
  Result<std::optional<size_t>> scan(std::string_view section);
  // Bytes of the first line with its line break; 0 while it is incomplete.
  size_t first_line_size() const { return first_line_size_; }
  void reset() { *this = HeadScanner(); }

 private:
  size_t line_start_ = 0;
  size_t scanned_ = 0;
  size_t first_line_size_ = 0;
};

enum class BodyFraming : uint8_t {
  kNone,        // the message ends with its head
  kLength,      // Content-Length bytes follow
  kChunked,     // chunks and trailers follow
  kUntilClose,  // responses only: whatever comes before the connection ends
};

// What a head says about its connection and not about the message.
struct H1Framing {
  BodyFraming body = BodyFraming::kNone;
  uint64_t length = 0;      // kLength only
  bool keep_alive = false;  // the peer is willing to reuse the connection
};

// head is complete (HeadScanner) and lives in message->arena. request_method is the method that the
// response answers. Errors: kProtocol, kLimitExceeded.
Result<H1Framing> parse_request_head(std::string_view head, const CodecLimits& limits,
                                     RequestHead* message);
Result<H1Framing> parse_response_head(std::string_view head, const CodecLimits& limits,
                                      std::string_view request_method, ResponseHead* message);
// The section after the last chunk, complete, in the caller's arena. Connection-level fields are
// dropped; one that would change the framing is an error.
Result<void> parse_trailers(std::string_view section, const CodecLimits& limits,
                            HeaderMap* trailers);

// Takes a chunked body apart (RFC 9112 section 7.1). Extensions are dropped.
class ChunkedReader {
 public:
  // Sizes, line breaks and extensions of one body may not take more than this for the body as a
  // whole plus what each chunk needs: else an endless extension would be read for ever.
  static constexpr size_t overhead_bytes_max = 16 * 1024;

  class Sink {
   public:
    virtual ~Sink() = default;
    virtual void on_chunk_data(std::span<const uint8_t> bytes) = 0;
  };

  // Begins a body.
  void reset();
  // Returns how many bytes it took: all, or up to the start of the trailer section (finished()).
  Result<size_t> read(std::span<const uint8_t> bytes, Sink& sink);
  bool finished() const { return finished_; }

 private:
  static int on_body(llhttp_t* parser, const char* at, size_t length);
  static int on_chunk_header(llhttp_t* parser);
  static const llhttp_settings_t& settings();

  llhttp_t parser_{};
  Sink* sink_ = nullptr;
  uint64_t overhead_bytes_ = 0;
  uint64_t body_bytes_ = 0;
  uint64_t chunks_ = 0;
  bool finished_ = false;
};

}  // namespace remora::http
