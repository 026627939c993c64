#include "sidecar/proxy/upgrade_handshake.h"

#include <array>
#include <cstdint>

#include <openssl/evp.h>
#include <openssl/rand.h>

namespace remora {
namespace {

constexpr size_t key_bytes = 16;  // RFC 6455 section 4.1
constexpr size_t sha1_bytes = 20;
constexpr std::string_view accept_guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

template <size_t size>
std::string base64(const std::array<uint8_t, size>& bytes) {
  std::string text(4 * ((size + 2) / 3) + 1, '\0');  // and the NUL that OpenSSL writes
  EVP_EncodeBlock(reinterpret_cast<uint8_t*>(text.data()), bytes.data(), static_cast<int>(size));
  text.pop_back();
  return text;
}

}  // namespace

std::string websocket_accept(std::string_view key) {
  std::string text(key);
  text += accept_guid;
  std::array<uint8_t, sha1_bytes> digest{};
  EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha1(), nullptr);
  return base64(digest);
}

bool UpgradeHandshake::is_needed(const http::RequestHead& request) {
  return request.version == http::Version::kHttp2 && !request.upgrade.empty();
}

UpgradeHandshake::UpgradeHandshake(http::RequestHead& request) : protocol_(request.upgrade) {
  if (!http::iequals(protocol_, "websocket")) return;
  std::array<uint8_t, key_bytes> bytes{};
  // Not secret: it only tells a fresh answer from a stored one. If there is no entropy the key is
  // always the same, and the handshake goes on.
  RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
  key_ = base64(bytes);
  request.headers.set("Sec-WebSocket-Key", request.arena->copy(key_));
}

Result<void> UpgradeHandshake::check(http::ResponseHead& response) const {
  const auto failed = [](std::string message) {
    return make_error(ErrorCode::kProtocol, ErrorSource::kUpstream, std::move(message));
  };
  if (response.status / 100 == 2) {
    return failed("the agent answers a request to upgrade with " + std::to_string(response.status) +
                  " instead of 101");
  }
  if (response.status != 101) return {};
  if (!http::iequals(response.upgrade, protocol_)) {
    return failed("the agent's 101 names another protocol than the request");
  }
  if (key_.empty()) return {};
  if (response.headers.find("sec-websocket-accept") != websocket_accept(key_)) {
    return failed("the agent's Sec-WebSocket-Accept does not answer the key");
  }
  response.headers.remove("sec-websocket-accept");
  return {};
}

}  // namespace remora
