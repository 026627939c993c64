// A certificate that somebody else keeps, such as cert-manager: tls.crt, tls.key and (for the
// link with sidecars) ca.crt of a mounted Secret, read again every certificate_poll_ms. What can't
// be read leaves the last good one in force. The caBundle is the business of whoever keeps the
// certificate.
#pragma once

#include <string>

#include "k8s/operator/served_certificate.h"
#include "sidecar/admin/metrics.h"
#include "sidecar/net/loop.h"

namespace remora::k8s {

class CertificateFiles final : public ServedCertificate {
 public:
  // serving is called once, when there is a certificate for the first time.
  CertificateFiles(Loop& loop, std::string directory, Gauge& expiry, Task serving);
  void start();

  std::shared_ptr<const TlsContext> tls() const override { return tls_; }
  std::shared_ptr<const TlsContext> link_tls() const override { return link_tls_; }
  std::string trusted_pem() const override { return trusted_pem_; }
  const std::string& obstacle() const override { return obstacle_; }

 private:
  void look();
  Result<void> read();

  Loop& loop_;
  const std::string directory_;
  Gauge& expiry_;
  Task serving_;
  TlsServerIdentity identity_;
  std::shared_ptr<const TlsContext> tls_;
  std::shared_ptr<const TlsContext> link_tls_;
  std::string trusted_pem_;
  std::string obstacle_ = "the certificate has not been read yet";
  std::string trouble_;  // logged
  Subscription next_;
};

}  // namespace remora::k8s
