// An API server over TLS and HTTP/2 for one test: it keeps what it was asked, and the test answers,
// in one piece or in many, or breaks off.
#pragma once

#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "k8s/api/server.h"
#include "sidecar/base/buffer.h"
#include "sidecar/http/codec.h"
#include "sidecar/net/certificates.h"
#include "sidecar/net/listener.h"
#include "sidecar/net/tls.h"

namespace remora::k8s {

class FakeH2Api {
 public:
  class Link;
  struct Asked {
    std::string method;
    std::string path;
    std::string authorization;
    std::string body;
    Link* link = nullptr;
    http::StreamId stream = 0;

    void respond(int status, std::string_view text,
                 std::vector<std::pair<std::string, std::string>> headers = {}) const {
      begin(status, std::move(headers));
      send(text, true);
    }
    void begin(int status, std::vector<std::pair<std::string, std::string>> headers = {}) const {
      http::ResponseHead head;
      head.status = status;
      for (const auto& [name, value] : headers) head.headers.add(name, value);
      link->codec->send_response(stream, head, false);
      link->flush();
    }
    void send(std::string_view text, bool end = false) const {
      link->codec->send_data(stream, as_bytes(text), end);
      link->flush();
    }
  };
  using Answer = std::function<void(const Asked&)>;

  // One connection; the test may end it.
  class Link final : public Deferred, TransportEvents, http::CodecEvents {
   public:
    Link(FakeH2Api& api, std::unique_ptr<Transport> below)
        : codec(http::make_h2_codec(http::Role::kServer, *this, {})),
          api_(api),
          transport_(std::move(below)) {
      transport_->start(*this);
    }
    void flush() {
      while (!deaf) {
        const std::string_view output = codec->pending_output();
        if (output.empty()) return;
        const Result<size_t> taken = transport_->write(as_bytes(output));
        if (!taken) return;
        codec->wrote(*taken);
        if (*taken < output.size()) return;
      }
    }
    void close() { transport_->shutdown_write(); }

    std::unique_ptr<http::Codec> codec;
    bool deaf = false;  // neither hears nor says anything any more

   private:
    void on_read(std::span<const uint8_t> bytes) override {
      if (deaf) return;
      static_cast<void>(codec->receive(bytes));
      flush();
    }
    void on_read_eof() override {}
    void on_writable() override { flush(); }
    void on_transport_error(const Error& /*error*/) override {}
    void on_request(http::StreamId id, http::RequestHead head, bool end) override {
      Asked& begun = open_[id];
      begun = {.method = std::string(head.method),
               .path = std::string(head.path),
               .authorization = std::string(head.headers.find("authorization").value_or("")),
               .body = {},
               .link = this,
               .stream = id};
      if (end) on_end(id);
    }
    void on_data(http::StreamId id, std::span<const uint8_t> bytes) override {
      codec->consume(id, bytes.size());
      open_[id].body += as_text(bytes);
    }
    void on_trailers(http::StreamId /*id*/, ArenaPtr /*arena*/, http::HeaderMap /*map*/) override {}
    void on_end(http::StreamId id) override {
      api_.asked.push_back(open_[id]);
      if (api_.answer) api_.answer(Asked(open_[id]));
    }
    void on_stream_error(http::StreamId id, http::StreamErrorKind /*kind*/,
                         const Error& /*error*/) override {
      api_.given_up.push_back(open_[id].path);
    }
    void on_drained(http::StreamId /*id*/) override {}

    FakeH2Api& api_;
    std::unique_ptr<Transport> transport_;
    std::map<http::StreamId, Asked> open_;
  };

  explicit FakeH2Api(Loop& loop, Answer how = {}) : answer(std::move(how)), loop_(loop) {
    const int64_t now = std::time(nullptr);
    authority_ = *make_authority("a", {now - 100, now + 1000});
    const std::vector<std::string> names = {"127.0.0.1"};
    const CertifiedKey own = *issue_server_certificate(authority_, names, {now - 100, now + 1000});
    tls_ = *make_tls_server_context({own.certificate_pem, own.private_key_pem}, {"h2"});
    listen(*parse_socket_address("127.0.0.1:0"));
  }
  // Comes back at its old address after stop().
  void start() { listen(address_); }
  void stop() {
    listener_.reset();
    links.clear();
  }

  ApiServer server() const {
    ApiServer server;
    server.address = address_;
    server.name = "127.0.0.1";
    server.trusted_pem = authority_.certificate_pem;
    return server;
  }
  const CertifiedKey& authority() const { return authority_; }

  Answer answer;
  std::vector<Asked> asked;
  std::vector<std::string> given_up;  // paths of streams that the client has reset
  std::vector<std::unique_ptr<Link>> links;

 private:
  void listen(const SocketAddress& address) {
    auto listener = Listener::open(loop_, address, [this](std::unique_ptr<Transport> transport) {
      links.push_back(
          std::make_unique<Link>(*this, wrap_tls_server(loop_, tls_, std::move(transport))));
    });
    ASSERT_TRUE(listener.has_value()) << listener.error().message;
    listener_ = std::move(*listener);
    address_ = listener_->address();
  }

  Loop& loop_;
  CertifiedKey authority_;
  std::shared_ptr<const TlsContext> tls_;
  SocketAddress address_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace remora::k8s
