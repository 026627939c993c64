// Makes certificates: an authority of one's own, and server certificates from it. For an endpoint
// that the one who calls it is told to trust (a webhook's caBundle). Keys are ECDSA on P-256.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/error.h"

namespace remora {

struct CertifiedKey {
  std::string certificate_pem;
  std::string private_key_pem;  // secret
  friend bool operator==(const CertifiedKey&, const CertifiedKey&) = default;
};

// From when to when, in seconds of Unix time.
struct Validity {
  int64_t not_before_unix_s = 0;
  int64_t not_after_unix_s = 0;
};

// Signs server certificates only, none of another authority (pathlen 0). kInternal when OpenSSL
// fails.
Result<CertifiedKey> make_authority(std::string_view common_name, const Validity& validity);

// For a server that is called by any of these names, DNS names or IP addresses; at least one.
// kInvalidArgument when the authority can't be read or a name can't stand in a certificate.
Result<CertifiedKey> issue_server_certificate(const CertifiedKey& authority,
                                              std::span<const std::string> names,
                                              const Validity& validity);

// Of the first certificate in the text. kInvalidArgument when there is none.
Result<Validity> validity_of(std::string_view certificate_pem);

// Each certificate of the text by itself, written in one form: equal ones are equal texts. At most
// certificates_max, up to the first that can't be read.
inline constexpr size_t certificates_max = 64;
std::vector<std::string> split_certificates(std::string_view pem);

// Whether the key belongs to the first certificate of the text.
bool is_key_of(std::string_view private_key_pem, std::string_view certificate_pem);
// Whether this authority has signed the first certificate of the text, whatever the dates.
bool is_signed_by(std::string_view certificate_pem, std::string_view authority_pem);
// Whether somebody who calls a server by this name takes the first certificate of the text for its.
bool is_certificate_for(std::string_view certificate_pem, const std::string& name);

}  // namespace remora
