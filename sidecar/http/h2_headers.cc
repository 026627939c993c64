#include "sidecar/http/h2_headers.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "sidecar/http/fields.h"

namespace remora::http {
namespace {

std::unexpected<Error> malformed(std::string message) {
  return make_error(ErrorCode::kProtocol, ErrorSource::kDownstream, std::move(message));
}

}  // namespace

void HeaderBlock::begin(StreamId stream_id, const CodecLimits& limits) {
  *this = HeaderBlock();
  stream_id_ = stream_id;
  limits_ = &limits;
  arena_ = take_arena();
}

void HeaderBlock::add(std::string_view name, std::string_view value) {
  if (excess_ != Excess::kNone) return;
  constexpr size_t kFieldOverheadBytes = 4;  // as the HTTP/1.1 form of the field would have
  bytes_ += name.size() + value.size() + kFieldOverheadBytes;
  if (name == ":path" && value.size() > limits_->url_bytes_max) {
    excess_ = Excess::kUrl;
    return;
  }
  if (bytes_ > limits_->header_bytes_max || ++count_ > limits_->header_count_max) {
    excess_ = Excess::kHeaders;
    return;
  }
  if (name.starts_with(':')) {
    add_pseudo(name, arena_->copy(value));
    return;
  }
  switch (classify_field(name)) {
    case FieldKind::kHost:
      host_ = arena_->copy(value);
      return;
    case FieldKind::kContentLength:
      content_length_ = parse_content_length(value);
      return;
    case FieldKind::kOrdinary:
    case FieldKind::kTe:
      break;
    default:
      return;
  }
  if (name == "cookie") {
    ++cookies_;
    cookie_bytes_ += value.size() + 2;
  }
  headers_.add(arena_->copy(name), arena_->copy(value));
}

void HeaderBlock::add_pseudo(std::string_view name, std::string_view value) {
  if (name == ":method") {
    method_ = value;
  } else if (name == ":scheme") {
    scheme_ = value;
  } else if (name == ":authority") {
    authority_ = value;
  } else if (name == ":path") {
    path_ = value;
  } else if (name == ":protocol") {
    protocol_ = value;
  } else if (name == ":status") {
    status_ = static_cast<int>(parse_content_length(value).value_or(0));
  }
}

// RFC 9113 section 8.2.3: a Cookie field may come in pieces, which HTTP/1.1 and most applications
// do not know.
void HeaderBlock::join_cookies() {
  if (cookies_ < 2) return;
  char* const begin = arena_->allocate(cookie_bytes_);
  char* at = begin;
  for (const HeaderField& field : headers_) {
    if (field.name != "cookie") continue;
    if (at != begin) at = std::copy_n("; ", 2, at);
    at = std::ranges::copy(field.value, at).out;
  }
  headers_.set("cookie", {begin, static_cast<size_t>(at - begin)});
}

Result<RequestHead> HeaderBlock::take_request() {
  if (method_.empty() || !all_of_class(method_, char_class::kToken)) {
    return malformed("invalid :method");
  }
  if (!authority_.empty() && host_ && !iequals(authority_, *host_)) {
    return malformed("Host differs from :authority");
  }
  const std::string_view authority = authority_.empty() ? host_.value_or("") : authority_;
  if (!is_valid_authority(authority)) return malformed("invalid :authority");
  const bool is_extended_connect = !protocol_.empty();
  if (is_extended_connect) {
    if (method_ != "CONNECT" || authority.empty()) return malformed("misplaced :protocol");
    if (!all_of_class(protocol_, char_class::kToken)) return malformed("invalid :protocol");
    // To all behind the codec it is what it would be in HTTP/1.1: a GET that asks for an upgrade.
    method_ = "GET";
    content_length_.reset();
  }
  if (method_ == "CONNECT") {
    if (authority.empty()) return malformed("CONNECT without :authority");
  } else {
    if (!iequals(scheme_, "http") && !iequals(scheme_, "https")) {
      return malformed(":scheme other than http and https");
    }
    const bool is_star = path_ == "*" && method_ == "OPTIONS";
    if (path_.empty() || !all_of_class(path_, char_class::kTarget) ||
        (path_.front() != '/' && !is_star)) {
      return malformed("invalid :path");
    }
  }
  join_cookies();
  RequestHead head{.arena = std::move(arena_),
                   .version = Version::kHttp2,
                   .method = method_,
                   .scheme = iequals(scheme_, "https") ? "https" : "http",
                   .authority = authority,
                   .path = path_,
                   .headers = std::move(headers_),
                   .content_length = content_length_,
                   .upgrade = protocol_};
  return head;
}

Result<ResponseHead> HeaderBlock::take_response() {
  if (status_ < 100 || status_ > 599 || status_ == 101) return malformed("invalid :status");
  ResponseHead head{.arena = std::move(arena_),
                    .version = Version::kHttp2,
                    .status = status_,
                    .reason = {},
                    .headers = std::move(headers_),
                    .content_length = content_length_,
                    .upgrade = {}};
  return head;
}

HeaderMap HeaderBlock::take_trailers(ArenaPtr* arena) {
  *arena = std::move(arena_);
  return std::move(headers_);
}

void HeaderList::clear() {
  list_.clear();
  arena_ = take_arena();
}

void HeaderList::add(std::string_view name, std::string_view value) {
  // nghttp2 takes pointers to bytes it does not change.
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));
  };
  list_.push_back({bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
}

void HeaderList::add_number(std::string_view name, uint64_t value) {
  constexpr size_t kNumberBytesMax = 20;
  char* begin = arena_->allocate(kNumberBytesMax);
  const char* end = std::to_chars(begin, begin + kNumberBytesMax, value).ptr;
  add(name, {begin, static_cast<size_t>(end - begin)});
}

std::string_view HeaderList::lower(std::string_view name) {
  if (std::ranges::none_of(name, [](char c) { return c >= 'A' && c <= 'Z'; })) return name;
  char* copy = arena_->allocate(name.size());
  std::ranges::transform(name, copy, to_lower);
  return {copy, name.size()};
}

void HeaderList::add_all(const HeaderMap& headers) {
  for (const HeaderField& field : headers) {
    const FieldKind kind = classify_field(field.name);
    if (kind == FieldKind::kTe && field.value != "trailers") continue;
    if (kind != FieldKind::kOrdinary && kind != FieldKind::kTe) continue;
    add(lower(field.name), field.value);
  }
}

std::span<const nghttp2_nv> HeaderList::from(const RequestHead& head) {
  clear();
  add(":method", head.method);
  if (head.method != "CONNECT") {
    add(":scheme", head.scheme.empty() ? "http" : head.scheme);
    add(":path", head.path);
  }
  if (!head.authority.empty()) add(":authority", head.authority);
  if (head.content_length) add_number("content-length", *head.content_length);
  add_all(head.headers);
  return list_;
}

std::span<const nghttp2_nv> HeaderList::from(const ResponseHead& head) {
  clear();
  // The success of an upgrade (RFC 8441 section 5).
  add_number(":status", static_cast<uint64_t>(head.status == 101 ? 200 : head.status));
  if (head.content_length && head.status / 100 != 1 && head.status != 204) {
    add_number("content-length", *head.content_length);
  }
  add_all(head.headers);
  return list_;
}

std::span<const nghttp2_nv> HeaderList::from_trailers(const HeaderMap& trailers) {
  clear();
  add_all(trailers);
  return list_;
}

void HeaderList::set_copied(bool copied) {
  const uint8_t flags =
      copied ? NGHTTP2_NV_FLAG_NONE : NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
  for (nghttp2_nv& field : list_) field.flags = flags;
}

}  // namespace remora::http
