// Where the webhook's certificate comes from. Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "sidecar/net/tls.h"

namespace remora::k8s {

class ServedCertificate {
 public:
  virtual ~ServedCertificate() = default;
  // For the next connection; null as long as there has never been one.
  virtual std::shared_ptr<const TlsContext> tls() const = 0;
  // The same for the link with sidecars, which is HTTP/2.
  virtual std::shared_ptr<const TlsContext> link_tls() const = 0;
  // Whom to believe in, for those who call us, in PEM; empty: it is not known.
  virtual std::string trusted_pem() const = 0;
  // What keeps the API server from calling us, in words; empty when nothing does.
  virtual const std::string& obstacle() const = 0;
};

// How often Secret, webhook configuration and files are looked at.
inline constexpr int certificate_poll_ms = 10'000;
// Until there is a certificate, and after a conflict with another replica.
inline constexpr int certificate_retry_ms = 1'000;

}  // namespace remora::k8s
