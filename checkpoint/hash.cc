#include "checkpoint/hash.h"

#include <cstdlib>

#include <openssl/evp.h>

namespace remora::checkpoint {
namespace {

// Fetched once: a lookup by name for every call costs more than hashing a small chunk.
const EVP_MD* algorithm() {
  static const EVP_MD* const md = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return md;
}

}  // namespace

std::string Digest::hex() const {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const uint8_t b : bytes) {
    out += digits[b >> 4];
    out += digits[b & 15];
  }
  return out;
}

Digest sha256(std::string_view bytes) {
  Digest out;
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), out.bytes.data(), &size, algorithm(), nullptr) != 1 ||
      size != out.bytes.size()) {
    std::abort();  // only without memory or without a usable libcrypto
  }
  return out;
}

std::optional<Digest> digest_from_hex(std::string_view hex) {
  if (hex.size() != 64) return std::nullopt;
  Digest out;
  for (size_t i = 0; i < hex.size(); ++i) {
    const char c = hex[i];
    uint8_t value = 0;
    if (c >= '0' && c <= '9') {
      value = static_cast<uint8_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value = static_cast<uint8_t>(c - 'a' + 10);
    } else {
      return std::nullopt;
    }
    out.bytes[i / 2] = static_cast<uint8_t>((out.bytes[i / 2] << 4) | value);
  }
  return out;
}

}  // namespace remora::checkpoint
