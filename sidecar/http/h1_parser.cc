#include "sidecar/http/h1_parser.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "sidecar/base/buffer.h"
#include "sidecar/http/fields.h"

namespace remora::http {
namespace {

std::unexpected<Error> bad_message(std::string message) {
  return make_error(ErrorCode::kProtocol, ErrorSource::kDownstream, std::move(message));
}

// Collects the fields of one head or trailer section from llhttp's callbacks.
struct FieldCollector {
  static constexpr size_t connection_fields_max = 8;

  HeaderMap* headers = nullptr;
  size_t count_max = 0;

  std::string_view section;  // all that llhttp reads
  std::string_view name;
  std::string_view value;
  size_t count = 0;
  std::optional<Error> error;

  // Connection-level facts; views into the head.
  std::string_view host;
  size_t host_count = 0;
  std::optional<std::string_view> content_length;
  std::optional<std::string_view> transfer_encoding;
  std::string_view connection[connection_fields_max];
  size_t connection_count = 0;
  std::string_view upgrade;
  bool te_trailers = false;

  int fail(ErrorCode code, std::string message) {
    error = Error{code, ErrorSource::kDownstream, false, std::move(message)};
    return HPE_USER;
  }

  int add();
  int add_connection_level(FieldKind kind, std::string_view field_value);
  bool connection_has(std::string_view option) const {
    for (size_t i = 0; i < connection_count; ++i) {
      if (list_contains(connection[i], option)) return true;
    }
    return false;
  }
  void drop_nominated() {
    for (size_t i = 0; i < connection_count; ++i) remove_nominated(*headers, connection[i]);
  }
};

int FieldCollector::add() {
  if (++count > count_max) {
    return fail(ErrorCode::kLimitExceeded,
                "more than " + std::to_string(count_max) + " header fields");
  }
  if (name.empty()) return fail(ErrorCode::kProtocol, "header field without a name");
  const std::string_view field_value = trim_ows(value);
  const FieldKind kind = classify_field(name);
  if (kind != FieldKind::kOrdinary) return add_connection_level(kind, field_value);
  headers->add(name, field_value);
  return 0;
}

int FieldCollector::add_connection_level(FieldKind kind, std::string_view field_value) {
  switch (kind) {
    case FieldKind::kHost:
      host = field_value;
      ++host_count;
      return 0;
    case FieldKind::kContentLength:
      if (content_length) return fail(ErrorCode::kProtocol, "two Content-Length fields");
      content_length = field_value;
      return 0;
    case FieldKind::kTransferEncoding:
      // Compared with its white space: peers disagree about what "chunked" padded with a tab is.
      if (transfer_encoding) return fail(ErrorCode::kProtocol, "two Transfer-Encoding fields");
      if (value.find('\t') != std::string_view::npos || !iequals(field_value, "chunked")) {
        return fail(ErrorCode::kProtocol, "Transfer-Encoding other than chunked");
      }
      transfer_encoding = field_value;
      return 0;
    case FieldKind::kConnection:
      if (connection_count == connection_fields_max) {
        return fail(ErrorCode::kLimitExceeded, "too many Connection fields");
      }
      connection[connection_count++] = field_value;
      return 0;
    case FieldKind::kUpgrade:
      if (upgrade.empty()) upgrade = field_value;
      return 0;
    case FieldKind::kTe:
      te_trailers = te_trailers || list_contains(field_value, "trailers");
      return 0;
    case FieldKind::kOtherConnectionLevel:
    case FieldKind::kOrdinary:
      return 0;
  }
  return 0;
}

FieldCollector& collector_of(llhttp_t* parser) {
  return *static_cast<FieldCollector*>(parser->data);
}

int on_header_field(llhttp_t* parser, const char* at, size_t length) {
  collector_of(parser).name = {at, length};
  return 0;
}

// The value is the rest of the line, white space and all: llhttp's own span leaves out some of it,
// which for Transfer-Encoding matters, and is elsewhere when the value is empty.
int on_header_value_complete(llhttp_t* parser) {
  FieldCollector& fields = collector_of(parser);
  const auto begin =
      static_cast<size_t>(fields.name.data() - fields.section.data()) + fields.name.size() + 1;
  fields.value = fields.section.substr(begin, fields.section.find('\r', begin) - begin);
  return fields.add();
}

// The head is all that llhttp is asked for: the body is the codec's.
int on_headers_complete(llhttp_t*) { return HPE_PAUSED; }

constexpr llhttp_settings_t make_field_settings() {
  llhttp_settings_t settings{};
  settings.on_header_field = on_header_field;
  settings.on_header_value_complete = on_header_value_complete;
  settings.on_headers_complete = on_headers_complete;
  return settings;
}
constexpr llhttp_settings_t field_settings = make_field_settings();

// A parser that has just read a start line. Between two calls llhttp holds no pointer into its
// input, so every head can begin with a copy of this one.
llhttp_t parser_after_start_line(const llhttp_settings_t& settings) {
  llhttp_t parser;
  llhttp_init(&parser, HTTP_REQUEST, &settings);
  constexpr std::string_view kStartLine = "POST / HTTP/1.1\r\n";
  llhttp_execute(&parser, kStartLine.data(), kStartLine.size());
  return parser;
}

// fields: the lines after the start line with the empty line that ends them.
Result<void> collect_fields(std::string_view fields, FieldCollector* collector) {
  static const llhttp_t fresh = parser_after_start_line(field_settings);
  llhttp_t parser = fresh;
  parser.data = collector;
  collector->section = fields;
  const llhttp_errno_t status = llhttp_execute(&parser, fields.data(), fields.size());
  if (collector->error) return std::unexpected(*std::move(collector->error));
  if (status != HPE_PAUSED && status != HPE_CB_HEADERS_COMPLETE) {
    return bad_message(std::string("header fields: ") + llhttp_errno_name(status));
  }
  return {};
}

struct StartLine {
  std::string_view first;
  std::string_view second;
  std::string_view rest;
};

std::string_view first_line_of(std::string_view head) {
  return head.substr(0, head.find('\n') - 1);  // HeadScanner has seen CR LF
}

// Cuts a line at its first two spaces.
StartLine split_start_line(std::string_view line) {
  StartLine parts;
  const size_t first = line.find(' ');
  parts.first = line.substr(0, first);
  if (first == std::string_view::npos) return parts;
  const std::string_view after = line.substr(first + 1);
  const size_t second = after.find(' ');
  parts.second = after.substr(0, second);
  if (second != std::string_view::npos) parts.rest = after.substr(second + 1);
  return parts;
}

std::optional<Version> parse_version(std::string_view text) {
  if (text == "HTTP/1.1") return Version::kHttp11;
  if (text == "HTTP/1.0") return Version::kHttp10;
  return std::nullopt;
}

// RFC 9112 section 3.2.2.
Result<void> parse_absolute_form(std::string_view target, RequestHead* message) {
  const size_t scheme_end = target.find("://");
  if (scheme_end == std::string_view::npos) return bad_message("request target of no known form");
  const std::string_view scheme = target.substr(0, scheme_end);
  if (iequals(scheme, "http")) {
    message->scheme = "http";
  } else if (iequals(scheme, "https")) {
    message->scheme = "https";
  } else {
    return bad_message("request target with a scheme other than http and https");
  }
  const std::string_view rest = target.substr(scheme_end + 3);
  const size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
  message->authority = rest.substr(0, authority_end);
  message->path = rest.substr(authority_end);
  if (message->path.empty()) {
    message->path = message->method == "OPTIONS" ? "*" : "/";
  } else if (message->path.front() == '?') {
    char* path = message->arena->allocate(message->path.size() + 1);
    path[0] = '/';
    std::memcpy(path + 1, message->path.data(), message->path.size());
    message->path = {path, message->path.size() + 1};
  }
  if (message->authority.empty() || !is_valid_authority(message->authority)) {
    return bad_message("request target with an invalid host");
  }
  return {};
}

bool is_host_and_port(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || colon + 1 == authority.size()) return false;
  return is_valid_authority(authority) &&
         authority.substr(colon + 1).find_first_not_of("0123456789") == std::string_view::npos;
}

// Expects method and version to be set. Absolute form sets authority; other forms leave it empty
// (CONNECT apart), to be taken from Host.
Result<void> parse_target(std::string_view target, RequestHead* message) {
  message->scheme = "http";
  if (target.empty() || !all_of_class(target, char_class::kTarget)) {
    return bad_message("request target with invalid characters");
  }
  if (message->method == "CONNECT") {
    if (!is_host_and_port(target)) return bad_message("CONNECT target is not host:port");
    message->authority = target;
    return {};
  }
  if (target.front() == '/' || (target == "*" && message->method == "OPTIONS")) {
    message->path = target;
    return {};
  }
  return parse_absolute_form(target, message);
}

Result<void> parse_request_line(std::string_view line, const CodecLimits& limits,
                                RequestHead* message) {
  constexpr size_t kMethodBytesMax = 64;
  const StartLine parts = split_start_line(line);
  if (parts.first.empty() || parts.first.size() > kMethodBytesMax ||
      !all_of_class(parts.first, char_class::kToken) || parts.first == "PRI") {
    return bad_message("request line without a valid method");
  }
  if (parts.second.size() > limits.url_bytes_max) {
    return make_error(ErrorCode::kLimitExceeded, ErrorSource::kDownstream,
                      std::string(kUrlTooLongMessage));
  }
  const std::optional<Version> version = parse_version(parts.rest);
  if (!version) return bad_message("request line without HTTP/1.1 or HTTP/1.0 at its end");
  message->method = parts.first;
  message->version = *version;
  return parse_target(parts.second, message);
}

// RFC 9112 section 3.2: exactly one Host in HTTP/1.1, valid in any case.
Result<void> take_host(const FieldCollector& fields, RequestHead* message) {
  if (fields.host_count > 1) return bad_message("two Host fields");
  if (fields.host_count == 0 && message->version == Version::kHttp11) {
    return bad_message("no Host field");
  }
  if (!is_valid_authority(fields.host)) return bad_message("invalid Host field");
  if (message->authority.empty()) message->authority = fields.host;
  return {};
}

bool wants_keep_alive(const FieldCollector& fields, Version version) {
  if (fields.connection_count == 0) return version == Version::kHttp11;
  if (fields.connection_has("close")) return false;
  return version == Version::kHttp11 || fields.connection_has("keep-alive");
}

// The part of the framing rules of RFC 9112 section 6.3 that requests and responses share.
Result<std::optional<uint64_t>> check_length_fields(const FieldCollector& fields, Version version) {
  if (fields.transfer_encoding) {
    if (version == Version::kHttp10) return bad_message("Transfer-Encoding in HTTP/1.0");
    if (fields.content_length) return bad_message("both Content-Length and Transfer-Encoding");
    return std::nullopt;
  }
  if (!fields.content_length) return std::nullopt;
  const std::optional<uint64_t> length = parse_content_length(*fields.content_length);
  if (!length) return bad_message("malformed Content-Length");
  return length;
}

}  // namespace

Result<std::optional<size_t>> HeadScanner::scan(std::string_view section) {
  while (scanned_ < section.size()) {
    const size_t lf = section.find('\n', scanned_);
    if (lf == std::string_view::npos) {
      scanned_ = section.size();
      break;
    }
    if (lf == line_start_ || section[lf - 1] != '\r') return bad_message("LF without CR");
    if (first_line_size_ == 0) first_line_size_ = lf + 1;
    if (lf == line_start_ + 1) return lf + 1;
    const char first = section[line_start_];
    if (line_start_ != 0 && (first == ' ' || first == '\t')) {
      return bad_message("header line that begins with white space");
    }
    line_start_ = scanned_ = lf + 1;
  }
  return std::nullopt;
}

Result<H1Framing> parse_request_head(std::string_view head, const CodecLimits& limits,
                                     RequestHead* message) {
  const std::string_view line = first_line_of(head);
  if (auto parsed = parse_request_line(line, limits, message); !parsed) {
    return std::unexpected(std::move(parsed).error());
  }
  FieldCollector fields;
  fields.headers = &message->headers;
  fields.count_max = limits.header_count_max;
  if (auto collected = collect_fields(head.substr(line.size() + 2), &fields); !collected) {
    return std::unexpected(std::move(collected).error());
  }
  if (auto host = take_host(fields, message); !host) {
    return std::unexpected(std::move(host).error());
  }
  auto length = check_length_fields(fields, message->version);
  if (!length) return std::unexpected(std::move(length).error());

  H1Framing framing;
  framing.keep_alive = wants_keep_alive(fields, message->version);
  message->content_length = *length;
  if (fields.transfer_encoding) {
    framing.body = BodyFraming::kChunked;
  } else if (length->value_or(0) > 0) {
    framing.body = BodyFraming::kLength;
    framing.length = **length;
  }
  if (message->method == "CONNECT" && framing.body != BodyFraming::kNone) {
    return bad_message("CONNECT with a body");
  }
  // A server may ignore Upgrade (RFC 9110 section 7.8); this one does for a request with a body,
  // whose switch could not begin before the body's end, and for h2c, which needs no upgrade here.
  if (!fields.upgrade.empty() && framing.body == BodyFraming::kNone &&
      message->version == Version::kHttp11 && fields.connection_has("upgrade") &&
      !list_contains(fields.upgrade, "h2c")) {
    message->upgrade = fields.upgrade;
  }
  fields.drop_nominated();
  if (fields.te_trailers) message->headers.add("TE", "trailers");
  return framing;
}

namespace {

Result<void> parse_status_line(std::string_view line, ResponseHead* message) {
  const StartLine parts = split_start_line(line);
  const std::optional<Version> version = parse_version(parts.first);
  if (!version) return bad_message("status line without HTTP/1.1 or HTTP/1.0 in front");
  const auto status = parse_content_length(parts.second);
  if (parts.second.size() != 3 || !status || *status < 100 || *status > 599) {
    return bad_message("status code outside of 100 to 599");
  }
  if (!all_of_class(parts.rest, char_class::kText)) return bad_message("invalid reason phrase");
  message->version = *version;
  message->status = static_cast<int>(*status);
  message->reason = parts.rest;
  return {};
}

}  // namespace

Result<H1Framing> parse_response_head(std::string_view head, const CodecLimits& limits,
                                      std::string_view request_method, ResponseHead* message) {
  const std::string_view line = first_line_of(head);
  if (auto parsed = parse_status_line(line, message); !parsed) {
    return std::unexpected(std::move(parsed).error());
  }
  FieldCollector fields;
  fields.headers = &message->headers;
  fields.count_max = limits.header_count_max;
  if (auto collected = collect_fields(head.substr(line.size() + 2), &fields); !collected) {
    return std::unexpected(std::move(collected).error());
  }
  auto length = check_length_fields(fields, message->version);
  if (!length) return std::unexpected(std::move(length).error());

  H1Framing framing;
  framing.keep_alive = wants_keep_alive(fields, message->version);
  message->content_length = *length;
  const int status = message->status;
  const bool is_connected = request_method == "CONNECT" && status / 100 == 2;
  // RFC 9112 section 6.3, rules 1 and 2.
  const bool bodiless = status / 100 == 1 || status == 204 || status == 304 ||
                        request_method == "HEAD" || is_connected;
  if (bodiless) {
    // A sender that puts framing where none may be is not to be trusted with where it ends.
    if (fields.transfer_encoding && request_method != "HEAD" && status != 304) {
      framing.keep_alive = false;
    }
    if (status / 100 == 1 || status == 204 || is_connected) message->content_length.reset();
  } else if (fields.transfer_encoding) {
    framing.body = BodyFraming::kChunked;
  } else if (*length) {
    if (**length > 0) framing.body = BodyFraming::kLength;
    framing.length = **length;
  } else {
    framing.body = BodyFraming::kUntilClose;
    framing.keep_alive = false;
  }
  if (status == 101 || status == 426) message->upgrade = fields.upgrade;
  fields.drop_nominated();
  return framing;
}

Result<void> parse_trailers(std::string_view section, const CodecLimits& limits,
                            HeaderMap* trailers) {
  FieldCollector fields;
  fields.headers = trailers;
  fields.count_max = limits.header_count_max;
  if (auto collected = collect_fields(section, &fields); !collected) return collected;
  if (fields.content_length || fields.transfer_encoding || fields.host_count > 0) {
    return bad_message("trailer field that may stand only in a head");
  }
  fields.drop_nominated();
  return {};
}

void ChunkedReader::reset() {
  // llhttp reads a chunked body only after a head that announces one.
  static const llhttp_t fresh = [] {
    llhttp_t parser = parser_after_start_line(settings());
    constexpr std::string_view kHead = "Transfer-Encoding: chunked\r\n\r\n";
    llhttp_execute(&parser, kHead.data(), kHead.size());
    return parser;
  }();
  parser_ = fresh;
  overhead_bytes_ = body_bytes_ = chunks_ = 0;
  finished_ = false;
}

Result<size_t> ChunkedReader::read(std::span<const uint8_t> bytes, Sink& sink) {
  sink_ = &sink;
  parser_.data = this;
  const std::string_view text = as_text(bytes);
  const uint64_t body_bytes_before = body_bytes_;
  const llhttp_errno_t status = llhttp_execute(&parser_, text.data(), text.size());
  size_t taken = text.size();
  if (status == HPE_PAUSED) {
    taken = static_cast<size_t>(llhttp_get_error_pos(&parser_) - text.data());
  } else if (status != HPE_OK) {
    return bad_message(std::string("chunked body: ") + llhttp_errno_name(status));
  }
  // A chunk's own share: 16 digits and two line breaks.
  constexpr uint64_t kOverheadPerChunk = 20;
  overhead_bytes_ += taken - (body_bytes_ - body_bytes_before);
  if (overhead_bytes_ > overhead_bytes_max + kOverheadPerChunk * chunks_) {
    return bad_message("chunk extensions longer than the limit");
  }
  return taken;
}

int ChunkedReader::on_body(llhttp_t* parser, const char* at, size_t length) {
  auto& self = *static_cast<ChunkedReader*>(parser->data);
  self.body_bytes_ += length;
  self.sink_->on_chunk_data(as_bytes({at, length}));
  return 0;
}

int ChunkedReader::on_chunk_header(llhttp_t* parser) {
  auto& self = *static_cast<ChunkedReader*>(parser->data);
  ++self.chunks_;
  if (parser->content_length != 0) return 0;
  self.finished_ = true;
  return HPE_PAUSED;
}

const llhttp_settings_t& ChunkedReader::settings() {
  static constexpr llhttp_settings_t chunk_settings = [] {
    llhttp_settings_t made{};
    made.on_body = on_body;
    made.on_chunk_header = on_chunk_header;
    return made;
  }();
  return chunk_settings;
}

}  // namespace remora::http
