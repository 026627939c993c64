// TLS over any Transport (OpenSSL, TLS 1.2 and 1.3), for Remora's own endpoints and probes.
//
// A TLS transport keeps at most one record's worth of encrypted output beyond what the transport
// below took: write() takes nothing more until that has gone. What was decrypted while reading is
// paused stays in OpenSSL's buffers, one record at most, because the transport below is paused too.
//
// Loop thread only.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/error.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/transport.h"

namespace remora {

// Certificate, key and rules, shared by the connections that were made with it. A new one for new
// connections replaces it without disturbing the others.
class TlsContext {
 public:
  class Impl;
  explicit TlsContext(std::unique_ptr<Impl> impl);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

struct TlsServerIdentity {
  std::string certificate_pem;  // the server's certificate first, then its issuers'
  std::string private_key_pem;
};

// Protocols for ALPN by their registered names, the preferred one first.
using AlpnProtocols = std::vector<std::string>;

// protocols: what it agrees to by ALPN. kInvalidArgument when the PEM texts can't be read or don't
// belong together; the message holds nothing of the key.
Result<std::shared_ptr<const TlsContext>> make_tls_server_context(const TlsServerIdentity& identity,
                                                                  const AlpnProtocols& protocols = {
                                                                      "http/1.1"});

// trusted_pem: certificates of authorities that are trusted; the server's name is checked then.
// Empty: nobody's identity is checked, as the kubelet does it in HTTPS probes.
Result<std::shared_ptr<const TlsContext>> make_tls_client_context(std::string_view trusted_pem);

struct TlsClientOptions {
  std::string trusted_pem;
  AlpnProtocols protocols;      // offered; empty: no ALPN
  std::string certificate_pem;  // the client's own, with its issuers; empty: it shows none
  std::string private_key_pem;
};
Result<std::shared_ptr<const TlsContext>> make_tls_client_context(const TlsClientOptions& options);

// For an accepted transport. Nothing is told to the events before the handshake is done; one that
// fails ends in on_transport_error.
std::unique_ptr<Transport> wrap_tls_server(Loop& loop, std::shared_ptr<const TlsContext> context,
                                           std::unique_ptr<Transport> below);

// For a transport that connects; on_connected() comes after the handshake. server_name: for SNI,
// and for the check where there is one; a DNS name or an IP address (then without SNI, RFC 6066
// section 3).
std::unique_ptr<Transport> wrap_tls_client(Loop& loop, std::shared_ptr<const TlsContext> context,
                                           std::unique_ptr<Transport> below,
                                           const std::string& server_name);

}  // namespace remora
