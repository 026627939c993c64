#include "sidecar/net/certificates.h"

#include <array>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "sidecar/base/handle.h"

namespace remora {
namespace {

using Bio = CHandle<BIO, BIO_free_all>;
using Number = CHandle<BIGNUM, BN_free>;
using Certificate = CHandle<X509, X509_free>;
using Extension = CHandle<X509_EXTENSION, X509_EXTENSION_free>;
using Key = CHandle<EVP_PKEY, EVP_PKEY_free>;
using Time = CHandle<ASN1_TIME, ASN1_TIME_free>;

constexpr int serial_bits = 127;  // RFC 5280 section 4.1.2.2: at most 20 bytes, positive

std::unexpected<Error> failed(const char* what) {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return make_error(ErrorCode::kInternal, ErrorSource::kInternal,
                    std::string(what) + ": " + (reason == nullptr ? "unknown reason" : reason));
}

// EVP_EC_gen("P-256") without its cast.
Key make_key() { return Key(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256")); }

std::string text_of(BIO* bio) {
  char* bytes = nullptr;
  const long n = BIO_get_mem_data(bio, &bytes);
  return n > 0 ? std::string(bytes, static_cast<size_t>(n)) : std::string();
}

// A key that is encrypted can't be asked for its passphrase here.
int no_passphrase(char*, int, int, void*) { return 0; }

Bio memory_of(std::string_view text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Certificate certificate_in(std::string_view pem) {
  const Bio text = memory_of(pem);
  Certificate certificate(PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  return certificate;
}

Key key_in(std::string_view pem) {
  const Bio text = memory_of(pem);
  Key key(PEM_read_bio_PrivateKey(text.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  return key;
}

bool add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool set_serial(X509* certificate) {
  const Number number(BN_new());
  return number && BN_rand(number.get(), serial_bits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool set_validity(X509* certificate, const Validity& validity) {
  return ASN1_TIME_set(X509_getm_notBefore(certificate), validity.not_before_unix_s) != nullptr &&
         ASN1_TIME_set(X509_getm_notAfter(certificate), validity.not_after_unix_s) != nullptr;
}

bool set_common_name(X509* certificate, std::string_view name) {
  return X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), NID_commonName,
                                    MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(name.data()),
                                    static_cast<int>(name.size()), -1, 0) == 1;
}

Result<CertifiedKey> sign(X509* certificate, EVP_PKEY* own_key, EVP_PKEY* signing_key) {
  if (X509_sign(certificate, signing_key, EVP_sha256()) == 0) return failed("sign a certificate");
  const Bio certificate_text(BIO_new(BIO_s_mem()));
  const Bio key_text(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(certificate_text.get(), certificate) != 1 ||
      PEM_write_bio_PrivateKey(key_text.get(), own_key, nullptr, nullptr, 0, nullptr, nullptr) !=
          1) {
    return failed("write a certificate");
  }
  return CertifiedKey{text_of(certificate_text.get()), text_of(key_text.get())};
}

// "DNS:a.b" or "IP:10.0.0.1"; nothing when the name is neither.
std::string alternative_name(const std::string& name) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  if (::inet_pton(AF_INET, name.c_str(), bytes.data()) == 1 ||
      ::inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1) {
    return "IP:" + name;
  }
  constexpr size_t dns_name_bytes_max = 253;
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyz0123456789-.*";
  // What has a meaning in OpenSSL's own notation would be one in the certificate.
  if (name.empty() || name.size() > dns_name_bytes_max ||
      name.find_first_not_of(allowed) != std::string::npos) {
    return {};
  }
  return "DNS:" + name;
}

}  // namespace

Result<CertifiedKey> make_authority(std::string_view common_name, const Validity& validity) {
  const Key key = make_key();
  const Certificate certificate(X509_new());
  if (!key || !certificate) return failed("make a key");
  X509* const c = certificate.get();
  const bool made = X509_set_version(c, X509_VERSION_3) == 1 && set_serial(c) &&
                    set_validity(c, validity) && set_common_name(c, common_name) &&
                    X509_set_issuer_name(c, X509_get_subject_name(c)) == 1 &&
                    X509_set_pubkey(c, key.get()) == 1 &&
                    add_extension(c, c, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                    add_extension(c, c, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                    add_extension(c, c, NID_subject_key_identifier, "hash");
  if (!made) return failed("make an authority");
  return sign(c, key.get(), key.get());
}

Result<CertifiedKey> issue_server_certificate(const CertifiedKey& authority,
                                              std::span<const std::string> names,
                                              const Validity& validity) {
  const Certificate issuer = certificate_in(authority.certificate_pem);
  const Key issuer_key = key_in(authority.private_key_pem);
  if (!issuer || !issuer_key || X509_check_private_key(issuer.get(), issuer_key.get()) != 1) {
    ERR_clear_error();
    return make_error(
        ErrorCode::kInvalidArgument, ErrorSource::kConfig,
        "the authority's certificate and key can't be read, or don't belong together");
  }
  std::string alternatives;
  for (const std::string& name : names) {
    const std::string one = alternative_name(name);
    if (one.empty()) {
      return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                        "\"" + name + "\" is no DNS name (lower case) and no IP address");
    }
    alternatives.append(alternatives.empty() ? "" : ",").append(one);
  }
  const Key key = make_key();
  const Certificate certificate(X509_new());
  if (!key || !certificate) return failed("make a key");
  X509* const c = certificate.get();
  // The name is in the alternatives; a common name beside them is read by nobody any more.
  const bool made =
      X509_set_version(c, X509_VERSION_3) == 1 && set_serial(c) && set_validity(c, validity) &&
      X509_set_issuer_name(c, X509_get_subject_name(issuer.get())) == 1 &&
      X509_set_pubkey(c, key.get()) == 1 &&
      add_extension(c, issuer.get(), NID_basic_constraints, "critical,CA:FALSE") &&
      add_extension(c, issuer.get(), NID_key_usage, "critical,digitalSignature") &&
      add_extension(c, issuer.get(), NID_ext_key_usage, "serverAuth") &&
      add_extension(c, issuer.get(), NID_authority_key_identifier, "keyid") &&
      // Critical, because there is no subject (RFC 5280 section 4.2.1.6).
      add_extension(c, issuer.get(), NID_subject_alt_name, "critical," + alternatives);
  if (!made) return failed("make a server certificate");
  return sign(c, key.get(), issuer_key.get());
}

Result<Validity> validity_of(std::string_view certificate_pem) {
  const Certificate certificate = certificate_in(certificate_pem);
  const Time epoch(ASN1_TIME_set(nullptr, 0));
  const auto unix_s = [&](const ASN1_TIME* time) -> int64_t {
    int days = 0;
    int seconds = 0;
    if (ASN1_TIME_diff(&days, &seconds, epoch.get(), time) != 1) return 0;
    return int64_t{days} * 86'400 + seconds;
  };
  if (!certificate || !epoch) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                      "there is no certificate to read");
  }
  return Validity{unix_s(X509_get0_notBefore(certificate.get())),
                  unix_s(X509_get0_notAfter(certificate.get()))};
}

std::vector<std::string> split_certificates(std::string_view pem) {
  std::vector<std::string> all;
  const Bio text = memory_of(pem);
  while (all.size() < certificates_max) {
    const Certificate one(PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr));
    const Bio written(BIO_new(BIO_s_mem()));
    if (!one || PEM_write_bio_X509(written.get(), one.get()) != 1) break;
    all.push_back(text_of(written.get()));
  }
  ERR_clear_error();  // the end of the text is one, too
  return all;
}

bool is_key_of(std::string_view private_key_pem, std::string_view certificate_pem) {
  const Certificate certificate = certificate_in(certificate_pem);
  const Key key = key_in(private_key_pem);
  const bool fits = certificate && key && X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  return fits;
}

bool is_signed_by(std::string_view certificate_pem, std::string_view authority_pem) {
  const Certificate certificate = certificate_in(certificate_pem);
  const Certificate authority = certificate_in(authority_pem);
  const bool is_signed = certificate && authority &&
                         X509_check_issued(authority.get(), certificate.get()) == X509_V_OK &&
                         X509_verify(certificate.get(), X509_get0_pubkey(authority.get())) == 1;
  ERR_clear_error();
  return is_signed;
}

bool is_certificate_for(std::string_view certificate_pem, const std::string& name) {
  const Certificate certificate = certificate_in(certificate_pem);
  if (!certificate) return false;
  const bool fits = X509_check_ip_asc(certificate.get(), name.c_str(), 0) == 1 ||
                    X509_check_host(certificate.get(), name.data(), name.size(), 0, nullptr) == 1;
  ERR_clear_error();
  return fits;
}

}  // namespace remora
