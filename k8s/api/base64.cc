#include "k8s/api/base64.h"

#include <openssl/evp.h>

namespace remora::k8s {
namespace {

constexpr size_t quantum_bytes = 3;
constexpr size_t quantum_characters = 4;

const unsigned char* unsigned_view(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

bool is_digit(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
         c == '/';
}

}  // namespace

std::string base64_encode(std::string_view bytes) {
  // One more: OpenSSL ends it with a NUL.
  std::string text((bytes.size() + quantum_bytes - 1) / quantum_bytes * quantum_characters + 1,
                   '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), unsigned_view(bytes),
                                static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(n));
  return text;
}

Result<std::string> base64_decode(std::string_view text) {
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  bool good = text.size() % quantum_characters == 0;
  for (const char c : text.substr(0, text.size() - padding)) good = good && is_digit(c);
  if (!good) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kUpstream, "this is no base64");
  }
  std::string bytes(text.size() / quantum_characters * quantum_bytes, '\0');
  // Padding counts as zero bytes there.
  if (!text.empty() && EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                       unsigned_view(text), static_cast<int>(text.size())) < 0) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kUpstream, "this is no base64");
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

}  // namespace remora::k8s
