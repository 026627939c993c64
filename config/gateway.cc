#include "config/gateway.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "sidecar/net/socket_address.h"

namespace remora::config {
namespace {

// RFC 1035 section 2.3.4.
constexpr size_t host_bytes_max = 253;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// As a shell takes it (POSIX.1 section 8.1), in either case.
bool is_variable(std::string_view name) {
  return !name.empty() && !is_digit(name.front()) &&
         std::ranges::all_of(name, [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

bool is_host(std::string_view host) {
  return !host.empty() && host.size() <= host_bytes_max && host.front() != '.' &&
         host.front() != '-' && std::ranges::all_of(host, [](char c) {
           return is_letter(c) || is_digit(c) || c == '.' || c == '-' || c == '_';
         });
}

bool is_path(std::string_view path) {
  return std::ranges::all_of(path, [](char c) {
    return c > 0x20 && c < 0x7f &&
           std::string_view("?#\"\\<>^`{|}").find(c) == std::string_view::npos;
  });
}

std::unexpected<Complaint> no_url(std::string_view why) {
  return std::unexpected(Complaint{std::string(why),
                                   "write NAME=URL, such as "
                                   "OPENAI_BASE_URL=https://api.openai.com/v1"});
}

// "host", "host:port", "[v6]:port"; port is left as it is where there is none.
bool take_authority(std::string_view text, Gateway& gateway) {
  size_t host_end = text.find(':');
  if (text.starts_with('[')) {
    const size_t bracket = text.find(']');
    if (bracket == text.npos) return false;
    gateway.host = text.substr(1, bracket - 1);
    if (gateway.host.find(':') == std::string::npos || !make_socket_address(gateway.host, 0)) {
      return false;
    }
    host_end = bracket + 1 == text.size() ? text.npos : bracket + 1;
  } else {
    gateway.host = text.substr(0, host_end);
    if (!is_host(gateway.host)) return false;
  }
  if (host_end == text.npos) return true;
  if (text[host_end] != ':') return false;
  const std::string_view port = text.substr(host_end + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), gateway.port);
  return error == std::errc{} && end == port.data() + port.size() && gateway.port != 0;
}

}  // namespace

std::string Gateway::authority() const {
  std::string text = host.find(':') == std::string::npos ? host : "[" + host + "]";
  if (port != (tls ? 443 : 80)) text += ":" + std::to_string(port);
  return text;
}

Parsed<Gateway> parse_gateway(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == text.npos) return no_url(quote(text) + " is not NAME=URL");
  Gateway gateway;
  gateway.variable = text.substr(0, equals);
  if (!is_variable(gateway.variable)) {
    return no_url(quote(gateway.variable) + " is no name for an environment variable");
  }
  std::string_view url = text.substr(equals + 1);
  // The whole URL is not shown: it might hold a password.
  const auto bad = [&](std::string_view why) {
    return no_url("the URL of " + gateway.variable + " " + std::string(why));
  };
  if (url.starts_with("https://")) {
    url.remove_prefix(8);
  } else if (url.starts_with("http://")) {
    gateway.tls = false;
    gateway.port = 80;
    url.remove_prefix(7);
  } else {
    return bad("begins with neither https:// nor http://");
  }
  const size_t slash = std::min(url.find('/'), url.size());
  if (url.substr(0, slash).find('@') != url.npos)
    return bad("names a user: its key has no place here");
  if (!take_authority(url.substr(0, slash), gateway)) return bad("names no host");
  gateway.path = url.substr(slash);
  if (!is_path(gateway.path))
    return bad("holds more than a path, or characters to be percent-encoded");
  return gateway;
}

std::vector<std::pair<std::string, std::string>> gateway_environment(const Outbound& outbound) {
  std::vector<std::pair<std::string, std::string>> variables;
  int port = outbound.gateway_port();
  for (const std::string& text : outbound.gateways()) {
    if (const Parsed<Gateway> gateway = parse_gateway(text)) {
      variables.emplace_back(gateway->variable,
                             "http://127.0.0.1:" + std::to_string(port) + gateway->path);
    }
    ++port;
  }
  return variables;
}

}  // namespace remora::config
