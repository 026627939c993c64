// SHA-256 (FIPS 180-4) through OpenSSL's EVP, and the id type made of it.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace remora::checkpoint {

struct Digest {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const Digest&) const = default;
  std::string hex() const;
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};
using ChunkId = Digest;  // of the plain (uncompressed) bytes

struct DigestHash {
  size_t operator()(const Digest& d) const {
    size_t out = 0;
    std::memcpy(&out, d.bytes.data(), sizeof out);
    return out;
  }
};

Digest sha256(std::string_view bytes);

// 64 lowercase hex digits back to a digest.
std::optional<Digest> digest_from_hex(std::string_view hex);

}  // namespace remora::checkpoint
