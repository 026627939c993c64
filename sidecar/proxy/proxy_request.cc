#include "sidecar/proxy/proxy_request.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "sidecar/http/message.h"

namespace remora {
namespace {

constexpr uint16_t http_port = 80;
constexpr size_t host_bytes_max = 255;

std::unexpected<Error> bad(std::string why) {
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kDownstream, std::move(why));
}

// RFC 9110 section 5.6.2.
bool is_token(std::string_view text) {
  static constexpr std::string_view others = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           others.find(c) != std::string_view::npos;
  });
}

bool is_visible(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c != '\x7f'; });
}

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// One line off the front, without its CRLF.
std::string_view take_line(std::string_view& text) {
  const size_t end = text.find("\r\n");
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
  return line;
}

// "host", "host:port", "[v6]:port". False when it is none of them. port stays as it is without one.
bool split_authority(std::string_view authority, std::string& host, uint16_t& port) {
  std::string_view rest;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return false;
    host = authority.substr(1, end - 1);
    rest = authority.substr(end + 1);
    if (host.find(':') == std::string::npos) return false;
  } else {
    const size_t colon = authority.find(':');
    host = authority.substr(0, colon);
    if (colon != std::string_view::npos) rest = authority.substr(colon);
  }
  if (host.empty() || host.size() > host_bytes_max || !is_visible(host) ||
      host.find_first_of("@/\\?#[]") != std::string::npos) {
    return false;
  }
  if (rest.empty()) return true;
  if (rest.front() != ':') return false;
  rest.remove_prefix(1);
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), port);
  return error == std::errc() && end == rest.data() + rest.size() && port != 0;
}

struct Field {
  std::string_view name;
  std::string_view value;
};

Result<std::vector<Field>> parse_fields(std::string_view text) {
  std::vector<Field> fields;
  while (true) {
    const std::string_view line = take_line(text);
    if (line.empty()) return fields;
    const size_t colon = line.find(':');
    const Field field{line.substr(0, colon),
                      colon == std::string_view::npos ? "" : trim(line.substr(colon + 1))};
    // Folded lines, too, have no token before a colon.
    if (colon == std::string_view::npos || !is_token(field.name)) {
      return bad("a header line has no name");
    }
    if (field.value.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
      return bad("a header value has a control character");
    }
    fields.push_back(field);
  }
}

// The hop's own (RFC 9110 section 7.6.1), Host, which the target replaces, and what Connection
// names.
bool is_left_out(std::string_view name, const std::vector<Field>& fields) {
  for (const std::string_view own : {"connection", "keep-alive", "proxy-connection",
                                     "proxy-authorization", "te", "upgrade", "host"}) {
    if (http::iequals(name, own)) return true;
  }
  for (const Field& field : fields) {
    if (!http::iequals(field.name, "connection")) continue;
    std::string_view list = field.value;
    while (!list.empty()) {
      const size_t comma = list.find(',');
      if (http::iequals(trim(list.substr(0, comma)), name)) return true;
      list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    }
  }
  return false;
}

}  // namespace

size_t proxy_head_bytes(std::string_view text) {
  const size_t end = text.find("\r\n\r\n");
  return end == std::string_view::npos ? 0 : end + 4;
}

Result<ProxyRequest> parse_proxy_request(std::string_view head) {
  std::string_view rest = head;
  const std::string_view line = take_line(rest);
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return bad("no request line");
  const std::string_view method = line.substr(0, first);
  const std::string_view version = line.substr(last + 1);
  std::string_view target = line.substr(first + 1, last - first - 1);
  if (!is_token(method) || !is_visible(target) ||
      (version != "HTTP/1.1" && version != "HTTP/1.0")) {
    return bad("no request line of HTTP/1.1");
  }
  const Result<std::vector<Field>> fields = parse_fields(rest);
  if (!fields) return std::unexpected(fields.error());

  ProxyRequest request;
  if (method == "CONNECT") {
    request.is_connect = true;
    if (!split_authority(target, request.host, request.port) || request.port == 0) {
      return bad("CONNECT needs HOST:PORT");
    }
    return request;
  }
  constexpr std::string_view scheme = "http://";
  if (target.size() < scheme.size() || !http::iequals(target.substr(0, scheme.size()), scheme)) {
    return bad("this is a proxy: it takes http:// URLs, and CONNECT for everything else");
  }
  target.remove_prefix(scheme.size());
  const size_t authority_end = std::min(target.find_first_of("/?"), target.size());
  const std::string_view authority = target.substr(0, authority_end);
  request.port = http_port;
  if (!split_authority(authority, request.host, request.port)) return bad("no host in the URL");
  const std::string_view path = target.substr(authority_end);
  request.head.append(method).append(" ");
  if (path.empty()) {
    request.head += method == "OPTIONS" ? "*" : "/";
  } else {
    request.head.append(path.front() == '?' ? "/" : "").append(path);
  }
  request.head.append(" ").append(version).append("\r\nHost: ").append(authority).append("\r\n");
  for (const Field& field : *fields) {
    if (is_left_out(field.name, *fields)) continue;
    request.head.append(field.name).append(": ").append(field.value).append("\r\n");
  }
  request.head += "Connection: close\r\n\r\n";
  return request;
}

}  // namespace remora
