#include "sidecar/http/h1_serializer.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "sidecar/base/log.h"
#include "sidecar/http/fields.h"

namespace remora::http {
namespace {

[[noreturn]] void abort_unwritable(std::string_view what) {
  log_error("http1_unwritable_message", {{"part", what}});
  flush_log();
  std::abort();
}

// Puts text down one piece after the other; the space has been measured by the caller.
class Pen {
 public:
  explicit Pen(char* to) : begin_(to), at_(to) {}
  Pen& put(std::string_view text) {
    std::memcpy(at_, text.data(), text.size());
    at_ += text.size();
    return *this;
  }
  Pen& put_number(uint64_t number, int base = 10) {
    at_ = std::to_chars(at_, at_ + number_bytes_max, number, base).ptr;
    return *this;
  }
  size_t size() const { return static_cast<size_t>(at_ - begin_); }

  static constexpr size_t number_bytes_max = 20;

 private:
  char* begin_;
  char* at_;
};

constexpr std::string_view kLineEnd = "\r\n";
// Room for the names and the fixed values of the fields that the codec writes itself.
constexpr size_t kOwnFieldsBytes = 256;

size_t measure(const HeaderMap& headers) {
  size_t bytes = 0;
  for (const HeaderField& field : headers) bytes += field.name.size() + field.value.size() + 4;
  return bytes;
}

// Writes the message's own fields; those that belong to a connection are the codec's to write.
// Returns whether TE was among them.
bool put_fields(const HeaderMap& headers, Pen* pen) {
  bool has_te = false;
  for (const HeaderField& field : headers) {
    const FieldKind kind = classify_field(field.name);
    if (kind == FieldKind::kTe) has_te = true;
    if (kind != FieldKind::kOrdinary && kind != FieldKind::kTe) continue;
    if (!is_writable_field(field.name, field.value)) abort_unwritable("field");
    pen->put(field.name).put(": ").put(field.value).put(kLineEnd);
  }
  return has_te;
}

void put_framing(const H1WriteOptions& options, Pen* pen) {
  if (options.body == BodyFraming::kChunked) {
    pen->put("Transfer-Encoding: chunked\r\n");
  } else if (options.content_length) {
    pen->put("Content-Length: ").put_number(*options.content_length).put(kLineEnd);
  }
}

void put_connection(const H1WriteOptions& options, std::string_view upgrade, bool has_te,
                    Pen* pen) {
  if (!upgrade.empty()) {
    if (!is_writable_text(upgrade)) abort_unwritable("upgrade");
    pen->put("Upgrade: ").put(upgrade).put(kLineEnd);
  }
  std::string_view separator = "Connection: ";
  const auto add_option = [&](std::string_view option) {
    pen->put(separator).put(option);
    separator = ", ";
  };
  if (options.connection == ConnectionOption::kClose) add_option("close");
  if (options.connection == ConnectionOption::kKeepAlive) add_option("keep-alive");
  if (!upgrade.empty()) add_option("Upgrade");
  if (has_te) add_option("TE");
  if (separator == ", ") pen->put(kLineEnd);
}

}  // namespace

void write_request_head(const RequestHead& head, const H1WriteOptions& options, Buffer* out) {
  const std::string_view target = head.method == "CONNECT" ? head.authority : head.path;
  if (head.method.empty() || !all_of_class(head.method, char_class::kToken)) {
    abort_unwritable("method");
  }
  if (target.empty() || !all_of_class(target, char_class::kTarget)) abort_unwritable("target");
  if (!is_writable_text(head.authority)) abort_unwritable("authority");

  const size_t bytes_max = head.method.size() + target.size() + head.authority.size() +
                           head.upgrade.size() + measure(head.headers) + kOwnFieldsBytes;
  out->append_with(bytes_max, [&](char* to) {
    Pen pen(to);
    pen.put(head.method).put(" ").put(target).put(" HTTP/1.1\r\nHost: ").put(head.authority);
    pen.put(kLineEnd);
    const bool has_te = put_fields(head.headers, &pen);
    put_framing(options, &pen);
    put_connection(options, head.upgrade, has_te, &pen);
    pen.put(kLineEnd);
    return pen.size();
  });
}

void write_response_head(const ResponseHead& head, const H1WriteOptions& options, Buffer* out) {
  if (head.status < 100 || head.status > 999) abort_unwritable("status");
  const std::string_view reason = head.reason.empty() ? reason_phrase(head.status) : head.reason;
  if (!is_writable_text(reason)) abort_unwritable("reason");

  const size_t bytes_max =
      reason.size() + head.upgrade.size() + measure(head.headers) + kOwnFieldsBytes;
  out->append_with(bytes_max, [&](char* to) {
    Pen pen(to);
    pen.put("HTTP/1.1 ").put_number(static_cast<uint64_t>(head.status)).put(" ").put(reason);
    pen.put(kLineEnd);
    put_fields(head.headers, &pen);
    put_framing(options, &pen);
    put_connection(options, head.upgrade, false, &pen);
    pen.put(kLineEnd);
    return pen.size();
  });
}

void write_chunk(std::string_view bytes, Buffer* out) {
  out->append_with(bytes.size() + Pen::number_bytes_max + 2 * kLineEnd.size(), [&](char* to) {
    Pen pen(to);
    pen.put_number(bytes.size(), 16).put(kLineEnd).put(bytes).put(kLineEnd);
    return pen.size();
  });
}

void write_last_chunk(const HeaderMap& trailers, Buffer* out) {
  out->append_with(measure(trailers) + kOwnFieldsBytes, [&](char* to) {
    Pen pen(to);
    pen.put("0\r\n");
    put_fields(trailers, &pen);
    pen.put(kLineEnd);
    return pen.size();
  });
}

namespace {

struct Reason {
  int status;
  std::string_view phrase;
};
// RFC 9110 section 15 and RFC 6585, by status.
constexpr Reason kReasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

}  // namespace

std::string_view reason_phrase(int status) {
  const auto* const found = std::ranges::lower_bound(kReasons, status, {}, &Reason::status);
  return found != std::end(kReasons) && found->status == status ? found->phrase : "";
}

}  // namespace remora::http
