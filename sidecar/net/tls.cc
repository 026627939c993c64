#include "sidecar/net/tls.h"

#include <algorithm>
#include <array>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "sidecar/base/buffer.h"
#include "sidecar/base/handle.h"

namespace remora {
namespace {

using Bio = CHandle<BIO, BIO_free_all>;
using Certificate = CHandle<X509, X509_free>;
using PrivateKey = CHandle<EVP_PKEY, EVP_PKEY_free>;
using SslCtx = CHandle<SSL_CTX, SSL_CTX_free>;
using Ssl = CHandle<SSL, SSL_free>;

// RFC 8446 section 5.1: the most that one record carries.
constexpr size_t record_bytes_max = 16 * 1024;
// A handshake that needs more was never meant to end.
constexpr size_t handshake_bytes_max = 256 * 1024;
constexpr int chain_certificates_max = 10;

std::string openssl_reason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "unknown reason" : reason;
}

std::unexpected<Error> bad_identity(const char* what) {
  return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                    std::string(what) + ": " + openssl_reason());
}

Bio memory_of(std::string_view text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// A key that is encrypted can't be asked for its passphrase here.
int no_passphrase(char*, int, int, void*) { return 0; }

// As the extension carries them: each behind its length.
std::string alpn_list(const AlpnProtocols& protocols) {
  std::string list;
  for (const std::string& name : protocols) list.append(1, static_cast<char>(name.size())) += name;
  return list;
}

const unsigned char* unsigned_bytes(const std::string& text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

// context: the server's std::string of what it speaks.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_length,
                    const unsigned char* in, unsigned int in_length, void* context) {
  const auto& known = *static_cast<const std::string*>(context);
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_length, unsigned_bytes(known),
                            static_cast<unsigned int>(known.size()), in,
                            in_length) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

Result<void> use_identity(SSL_CTX* context, const TlsServerIdentity& identity) {
  const Bio chain = memory_of(identity.certificate_pem);
  const Certificate own(PEM_read_bio_X509(chain.get(), nullptr, no_passphrase, nullptr));
  if (!own || SSL_CTX_use_certificate(context, own.get()) != 1) {
    return bad_identity("the certificate can't be read");
  }
  for (int i = 0; i < chain_certificates_max; ++i) {
    Certificate issuer(PEM_read_bio_X509(chain.get(), nullptr, no_passphrase, nullptr));
    if (!issuer) break;
    if (SSL_CTX_add0_chain_cert(context, issuer.get()) != 1) {
      return bad_identity("the certificate's chain can't be used");
    }
    static_cast<void>(issuer.release());
  }
  ERR_clear_error();  // the end of the file is one, too
  const Bio key_text = memory_of(identity.private_key_pem);
  const PrivateKey key(PEM_read_bio_PrivateKey(key_text.get(), nullptr, no_passphrase, nullptr));
  if (!key || SSL_CTX_use_PrivateKey(context, key.get()) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return bad_identity("the private key can't be read, or is not the certificate's");
  }
  return {};
}

SslCtx new_context(const SSL_METHOD* method) {
  SslCtx context(SSL_CTX_new(method));
  if (!context) std::abort();  // out of memory
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return context;
}

bool is_ip_address(const std::string& name) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return ::inet_pton(AF_INET, name.c_str(), bytes.data()) == 1 ||
         ::inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1;
}

}  // namespace

class TlsContext::Impl {
 public:
  Impl(SslCtx context, bool does_verify) : ctx(std::move(context)), verifies(does_verify) {}
  SslCtx ctx;
  bool verifies;
  std::string protocols;  // of a server, as choose_protocol() reads them
};

TlsContext::TlsContext(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TlsContext::~TlsContext() = default;

Result<std::shared_ptr<const TlsContext>> make_tls_server_context(const TlsServerIdentity& identity,
                                                                  const AlpnProtocols& protocols) {
  SslCtx context = new_context(TLS_server_method());
  if (Result<void> used = use_identity(context.get(), identity); !used) {
    return std::unexpected(std::move(used.error()));
  }
  auto impl = std::make_unique<TlsContext::Impl>(std::move(context), false);
  impl->protocols = alpn_list(protocols);
  SSL_CTX_set_alpn_select_cb(impl->ctx.get(), choose_protocol, &impl->protocols);
  return std::make_shared<const TlsContext>(std::move(impl));
}

Result<std::shared_ptr<const TlsContext>> make_tls_client_context(std::string_view trusted_pem) {
  TlsClientOptions options;
  options.trusted_pem = trusted_pem;
  return make_tls_client_context(options);
}

Result<std::shared_ptr<const TlsContext>> make_tls_client_context(const TlsClientOptions& options) {
  SslCtx context = new_context(TLS_client_method());
  if (!options.certificate_pem.empty()) {
    const TlsServerIdentity own{options.certificate_pem, options.private_key_pem};
    if (Result<void> used = use_identity(context.get(), own); !used) {
      return std::unexpected(std::move(used.error()));
    }
  }
  const std::string protocols = alpn_list(options.protocols);
  SSL_CTX_set_alpn_protos(context.get(), unsigned_bytes(protocols),
                          static_cast<unsigned int>(protocols.size()));
  const bool verifies = !options.trusted_pem.empty();
  if (verifies) {
    const Bio text = memory_of(options.trusted_pem);
    X509_STORE* const store = SSL_CTX_get_cert_store(context.get());
    int count = 0;
    while (true) {
      const Certificate one(PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr));
      if (!one) break;
      X509_STORE_add_cert(store, one.get());
      ++count;
    }
    if (count == 0) return bad_identity("the trusted certificates can't be read");
    ERR_clear_error();
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  }
  return std::make_shared<const TlsContext>(
      std::make_unique<TlsContext::Impl>(std::move(context), verifies));
}

namespace {

class TlsTransport final : public Transport, private TransportEvents {
 public:
  TlsTransport(Loop& loop, std::shared_ptr<const TlsContext> context,
               std::unique_ptr<Transport> below)
      : loop_(loop),
        context_(std::move(context)),
        below_(std::move(below)),
        ssl_(SSL_new(context_->impl().ctx.get())) {
    if (!ssl_) std::abort();  // out of memory
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  }
  ~TlsTransport() override { *alive_ = false; }
  TlsTransport(const TlsTransport&) = delete;
  TlsTransport& operator=(const TlsTransport&) = delete;

  void accept() { SSL_set_accept_state(ssl_.get()); }
  void connect(const std::string& server_name) {
    is_client_ = true;
    SSL_set_connect_state(ssl_.get());
    const bool is_ip = is_ip_address(server_name);
    if (!is_ip && !server_name.empty()) {
      // SSL_set_tlsext_host_name() without its C cast; the name is copied.
      SSL_ctrl(ssl_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
               const_cast<char*>(server_name.c_str()));
    }
    if (!context_->impl().verifies) return;
    X509_VERIFY_PARAM* const rules = SSL_get0_param(ssl_.get());
    if (is_ip) {
      X509_VERIFY_PARAM_set1_ip_asc(rules, server_name.c_str());
    } else {
      X509_VERIFY_PARAM_set1_host(rules, server_name.data(), server_name.size());
    }
  }

  // Transport
  void start(TransportEvents& events) override {
    events_ = &events;
    below_->start(*this);
  }
  void set_events(TransportEvents& events) override { events_ = &events; }
  Result<size_t> write(std::span<const uint8_t> bytes) override;
  void set_read_paused(bool paused) override;
  void shutdown_write() override;
  bool has_unread() const override { return below_->has_unread(); }
  const std::string& peer_address() const override { return below_->peer_address(); }
  std::string_view application_protocol() const override {
    const unsigned char* name = nullptr;
    unsigned int size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return name == nullptr ? std::string_view() : as_text({name, size});
  }

 private:
  // TransportEvents, from below
  void on_connected() override { advance(); }
  void on_read(std::span<const uint8_t> bytes) override;
  void on_read_eof() override;
  void on_writable() override;
  void on_transport_error(const Error& error) override { fail(error); }

  void advance();
  bool shake_hands();
  void deliver();
  void take_records();
  bool flush();
  void end_of_input();
  void fail(const Error& error);
  Error tls_error(const char* what) const {
    return make_error(ErrorCode::kReset, ErrorSource::kDownstream,
                      std::string(what) + " with " + peer_address() + ": " + openssl_reason())
        .error();
  }

  Loop& loop_;
  const std::shared_ptr<const TlsContext> context_;
  std::unique_ptr<Transport> below_;
  Ssl ssl_;
  TransportEvents* events_ = nullptr;
  Buffer records_;  // encrypted, not yet taken from below
  size_t handshake_bytes_ = 0;
  bool is_client_ = false;
  bool shaken_ = false;
  bool read_paused_ = false;
  bool read_ended_ = false;
  bool write_wanted_ = false;
  bool write_shut_ = false;
  bool failed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

Result<size_t> TlsTransport::write(std::span<const uint8_t> bytes) {
  size_t taken = 0;
  while (!failed_ && shaken_ && records_.empty() && taken < bytes.size()) {
    const auto piece = bytes.subspan(taken, std::min(bytes.size() - taken, record_bytes_max));
    ERR_clear_error();
    const int written = SSL_write(ssl_.get(), piece.data(), static_cast<int>(piece.size()));
    if (written <= 0) return std::unexpected(tls_error("TLS write"));
    taken += static_cast<size_t>(written);
    take_records();
    if (const Result<size_t> sent = below_->write(as_bytes(records_.view())); sent) {
      records_.consume(*sent);
    } else {
      return std::unexpected(sent.error());
    }
  }
  write_wanted_ = write_wanted_ || taken < bytes.size();
  return taken;
}

void TlsTransport::set_read_paused(bool paused) {
  if (paused == read_paused_) return;
  read_paused_ = paused;
  below_->set_read_paused(paused);
  if (paused) return;
  // What OpenSSL holds already is not announced by the socket again.
  loop_.post([this, alive = alive_] {
    if (*alive) deliver();
  });
}

void TlsTransport::shutdown_write() {
  if (std::exchange(write_shut_, true) || failed_) return;
  if (shaken_) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    take_records();
  }
  if (flush() && records_.empty()) below_->shutdown_write();
}

void TlsTransport::on_read(std::span<const uint8_t> bytes) {
  if (failed_) return;
  if (!shaken_) handshake_bytes_ += bytes.size();
  if (!shaken_ && handshake_bytes_ > handshake_bytes_max) {
    return fail(make_error(ErrorCode::kLimitExceeded, ErrorSource::kDownstream,
                           "TLS handshake with " + peer_address() + " is too long")
                    .error());
  }
  BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
  advance();
}

void TlsTransport::on_read_eof() {
  if (failed_) return;
  if (!shaken_) {
    return fail(make_error(ErrorCode::kReset, ErrorSource::kDownstream,
                           peer_address() + " left in the TLS handshake")
                    .error());
  }
  end_of_input();
}

void TlsTransport::on_writable() {
  if (failed_ || !flush() || !records_.empty()) return;
  if (write_shut_) return below_->shutdown_write();
  if (std::exchange(write_wanted_, false)) events_->on_writable();
}

void TlsTransport::advance() {
  if (!shaken_ && !shake_hands()) return;
  deliver();
}

// True once it is done.
bool TlsTransport::shake_hands() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  const int reason = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), result);
  if (reason != SSL_ERROR_NONE && reason != SSL_ERROR_WANT_READ) {
    const Error error = tls_error("TLS handshake");
    take_records();  // the alert that tells the peer why
    if (flush()) fail(error);
    return false;
  }
  take_records();
  if (!flush() || reason != SSL_ERROR_NONE) return false;
  shaken_ = true;
  if (is_client_) events_->on_connected();
  // Bytes may have been offered before there was a key to encrypt them with.
  if (!failed_ && std::exchange(write_wanted_, false)) events_->on_writable();
  return !failed_;
}

void TlsTransport::deliver() {
  static thread_local std::array<uint8_t, record_bytes_max> plain;
  while (shaken_ && !failed_ && !read_paused_ && !read_ended_) {
    ERR_clear_error();
    const int n = SSL_read(ssl_.get(), plain.data(), plain.size());
    if (n > 0) {
      events_->on_read({plain.data(), static_cast<size_t>(n)});
      continue;
    }
    const int reason = SSL_get_error(ssl_.get(), n);
    if (reason == SSL_ERROR_WANT_READ) break;
    if (reason == SSL_ERROR_ZERO_RETURN) return end_of_input();
    const Error error = tls_error("TLS read");
    take_records();
    if (flush()) fail(error);
    return;
  }
  take_records();  // a key update is answered
  flush();
}

void TlsTransport::take_records() {
  BIO* const output = SSL_get_wbio(ssl_.get());
  char* bytes = nullptr;
  const long n = BIO_get_mem_data(output, &bytes);
  if (n <= 0) return;
  records_.append(std::string_view(bytes, static_cast<size_t>(n)));
  BIO_reset(output);
}

// False when the transport below is dead: that has been told then.
bool TlsTransport::flush() {
  if (failed_) return false;
  if (records_.empty()) return true;
  const Result<size_t> sent = below_->write(as_bytes(records_.view()));
  if (!sent) {
    fail(sent.error());
    return false;
  }
  records_.consume(*sent);
  return true;
}

void TlsTransport::end_of_input() {
  if (!std::exchange(read_ended_, true)) events_->on_read_eof();
}

void TlsTransport::fail(const Error& error) {
  if (std::exchange(failed_, true)) return;
  events_->on_transport_error(error);
}

}  // namespace

std::unique_ptr<Transport> wrap_tls_server(Loop& loop, std::shared_ptr<const TlsContext> context,
                                           std::unique_ptr<Transport> below) {
  auto transport = std::make_unique<TlsTransport>(loop, std::move(context), std::move(below));
  transport->accept();
  return transport;
}

std::unique_ptr<Transport> wrap_tls_client(Loop& loop, std::shared_ptr<const TlsContext> context,
                                           std::unique_ptr<Transport> below,
                                           const std::string& server_name) {
  auto transport = std::make_unique<TlsTransport>(loop, std::move(context), std::move(below));
  transport->connect(server_name);
  return transport;
}

}  // namespace remora
