#include "k8s/operator/certificate_files.h"

#include <utility>

#include "config/read_file.h"
#include "sidecar/base/log.h"
#include "sidecar/net/certificates.h"

namespace remora::k8s {
namespace {

constexpr size_t file_bytes_max = 1 << 20;

}  // namespace

CertificateFiles::CertificateFiles(Loop& loop, std::string directory, Gauge& expiry, Task serving)
    : loop_(loop),
      directory_(std::move(directory)),
      expiry_(expiry),
      serving_(std::move(serving)) {}

void CertificateFiles::start() {
  next_ = loop_.add_timer({}, [this] { look(); });
}

void CertificateFiles::look() {
  const Result<void> done = read();
  const std::string trouble = done ? std::string() : done.error().message;
  if (!trouble.empty() && trouble != trouble_) {
    log_warn("certificate_unreadable", {{"error", trouble}, {"last_good_kept", tls_ != nullptr}});
  }
  trouble_ = trouble;
  obstacle_ = tls_ ? std::string() : trouble;
  next_ =
      loop_.add_timer(std::chrono::milliseconds(tls_ ? certificate_poll_ms : certificate_retry_ms),
                      [this] { look(); });
  if (tls_ && serving_) std::exchange(serving_, nullptr)();
}

Result<void> CertificateFiles::read() {
  Result<std::string> certificate = config::read_file(directory_ + "/tls.crt", file_bytes_max);
  if (!certificate) return std::unexpected(std::move(certificate.error()));
  // Without it no sidecar can be told whom to believe in, and nothing else is missing.
  trusted_pem_ = config::read_file(directory_ + "/ca.crt", file_bytes_max).value_or(std::string());
  Result<std::string> key = config::read_file(directory_ + "/tls.key", file_bytes_max);
  if (!key) return std::unexpected(std::move(key.error()));
  if (tls_ && *certificate == identity_.certificate_pem && *key == identity_.private_key_pem) {
    return {};
  }
  TlsServerIdentity identity{std::move(*certificate), std::move(*key)};
  auto context = make_tls_server_context(identity);
  if (!context) return std::unexpected(std::move(context.error()).with_context(directory_));
  auto link_context = make_tls_server_context(identity, {"h2"});
  if (!link_context) return std::unexpected(std::move(link_context.error()));
  identity_ = std::move(identity);
  tls_ = std::move(*context);
  link_tls_ = std::move(*link_context);
  if (const Result<Validity> validity = validity_of(identity_.certificate_pem)) {
    expiry_.set(static_cast<double>(validity->not_after_unix_s));
    log_info("certificate_served",
             {{"from", directory_}, {"not_after_unix_s", validity->not_after_unix_s}});
  }
  return {};
}

}  // namespace remora::k8s
