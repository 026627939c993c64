// TLS over a real socket pair: our client with our server, and what both make of strangers.
#include "sidecar/net/tls.h"

#include <array>
#include <ctime>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sidecar/net/certificates.h"
#include "sidecar/net/tcp.h"
#include "tests/unit/net/recording_transport_events.h"

namespace remora {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr int64_t hour_s = 3'600;

class TlsTest : public testing::Test {
 protected:
  // OpenSSL compares with the real time of day.
  static Validity valid(int64_t from_s = -hour_s, int64_t to_s = hour_s) {
    const int64_t now = std::time(nullptr);
    return {now + from_s, now + to_s};
  }
  static TlsServerIdentity identity(const CertifiedKey& authority, const std::string& name,
                                    const Validity& validity = valid()) {
    const std::vector<std::string> names = {name};
    const auto issued = issue_server_certificate(authority, names, validity);
    EXPECT_TRUE(issued.has_value());
    return {issued->certificate_pem, issued->private_key_pem};
  }

  void connect(const TlsServerIdentity& server, std::string_view trusted, const std::string& name) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()), 0);
    const auto server_context = make_tls_server_context(server);
    const auto client_context = make_tls_client_context(trusted);
    ASSERT_TRUE(server_context.has_value()) << server_context.error().message;
    ASSERT_TRUE(client_context.has_value()) << client_context.error().message;
    server_ =
        wrap_tls_server(loop(), *server_context, adopt_socket(loop(), UniqueFd(ends[0]), "unix:"));
    auto connecting = std::make_unique<ConnectingTransport>(
        loop(), adopt_socket(loop(), UniqueFd(ends[1]), "unix:"));
    client_ = wrap_tls_client(loop(), *client_context, std::move(connecting), name);
    server_->start(server_events_);
    client_->start(client_events_);
  }
  void connect_trusting() {
    connect(identity(authority_, "hook.remora.svc"), authority_.certificate_pem, "hook.remora.svc");
    ASSERT_TRUE(runner_.run_until([&] { return client_events_.connected == 1; }));
  }
  EventLoop& loop() { return runner_.loop(); }

  // A socket pair is connected from the beginning; a client's transport says so once.
  class ConnectingTransport final : public Transport {
   public:
    ConnectingTransport(Loop& loop, std::unique_ptr<Transport> below)
        : loop_(loop), below_(std::move(below)) {}
    void start(TransportEvents& events) override {
      below_->start(events);
      connected_ = loop_.add_timer({}, [&events] { events.on_connected(); });
    }
    void set_events(TransportEvents& events) override { below_->set_events(events); }
    Result<size_t> write(std::span<const uint8_t> bytes) override { return below_->write(bytes); }
    void set_read_paused(bool paused) override { below_->set_read_paused(paused); }
    void shutdown_write() override { below_->shutdown_write(); }
    bool has_unread() const override { return below_->has_unread(); }
    const std::string& peer_address() const override { return below_->peer_address(); }

   private:
    Loop& loop_;
    std::unique_ptr<Transport> below_;
    Subscription connected_;
  };

  LoopRunner runner_;
  RecordingTransportEvents server_events_;
  RecordingTransportEvents client_events_;
  std::unique_ptr<Transport> server_;
  std::unique_ptr<Transport> client_;
  const CertifiedKey authority_ = *make_authority("Test authority", valid());
};

TEST_F(TlsTest, CarriesBytesBothWaysAndBothEnds) {
  connect_trusting();
  ASSERT_EQ(client_->write(as_bytes("question")).value(), 8u);
  ASSERT_TRUE(runner_.run_until([&] { return server_events_.read == "question"; }));
  ASSERT_EQ(server_->write(as_bytes("answer")).value(), 6u);
  server_->shutdown_write();
  ASSERT_TRUE(runner_.run_until([&] { return client_events_.eofs == 1; }));
  EXPECT_EQ(client_events_.read, "answer");
  client_->shutdown_write();
  ASSERT_TRUE(runner_.run_until([&] { return server_events_.eofs == 1; }));
  EXPECT_FALSE(client_events_.error);
  EXPECT_FALSE(server_events_.error);
}

TEST_F(TlsTest, LargeDataComesWholeThoughNeitherSideTakesItAtOnce) {
  connect_trusting();
  std::string data(3'000'000, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 % 251);
  size_t sent = 0;
  const auto send_more = [&] {
    while (sent < data.size()) {
      const auto taken = client_->write(as_bytes(std::string_view(data).substr(sent)));
      ASSERT_TRUE(taken.has_value());
      sent += *taken;
      if (sent < data.size()) return;  // on_writable comes
    }
  };
  client_events_.after_writable = send_more;
  server_->set_read_paused(true);
  send_more();
  EXPECT_LT(sent, data.size());
  runner_.run_for(20ms);
  EXPECT_TRUE(server_events_.read.empty()) << "read while paused";
  server_->set_read_paused(false);
  ASSERT_TRUE(runner_.run_until([&] { return server_events_.read.size() == data.size(); }));
  EXPECT_TRUE(server_events_.read == data);
}

TEST_F(TlsTest, PausedInTheMiddleOfWhatWasDecryptedItLosesNothing) {
  connect_trusting();
  bool paused_once = false;
  server_events_.after_read = [&] {
    if (!paused_once) server_->set_read_paused(true);
    paused_once = true;
  };
  // Several records that arrive as one piece.
  for (const char* word : {"one", "two", "three"}) {
    ASSERT_TRUE(client_->write(as_bytes(word)).has_value());
  }
  ASSERT_TRUE(runner_.run_until([&] { return paused_once; }));
  runner_.run_for(20ms);
  const std::string before = server_events_.read;
  EXPECT_LT(before.size(), 11u);
  server_->set_read_paused(false);
  ASSERT_TRUE(runner_.run_until([&] { return server_events_.read == "onetwothree"; }));
}

TEST_F(TlsTest, AnotherNameOrAuthorityOrTimeIsRefused) {
  const CertifiedKey other = *make_authority("Other", valid());
  struct Case {
    TlsServerIdentity server;
    std::string trusted;
  };
  const Case cases[] = {
      {identity(authority_, "other.remora.svc"), authority_.certificate_pem},
      {identity(authority_, "hook.remora.svc"), other.certificate_pem},
      {identity(authority_, "hook.remora.svc", valid(-2 * hour_s, -hour_s)),
       authority_.certificate_pem},
  };
  for (const Case& c : cases) {
    client_events_ = {};
    server_events_ = {};
    connect(c.server, c.trusted, "hook.remora.svc");
    ASSERT_TRUE(runner_.run_until([&] { return client_events_.error.has_value(); }));
    EXPECT_THAT(client_events_.error->message, HasSubstr("certificate verify failed"));
    EXPECT_EQ(client_events_.connected, 0);
    ASSERT_TRUE(runner_.run_until([&] { return server_events_.error.has_value(); }));
  }
}

TEST_F(TlsTest, WithoutTrustedAuthoritiesAnybodyWillDo) {
  connect(identity(authority_, "other", valid(-2 * hour_s, -hour_s)), {}, "10.0.0.1");
  ASSERT_TRUE(runner_.run_until([&] { return client_events_.connected == 1; }));
}

TEST_F(TlsTest, AddressesAreCheckedAsAddresses) {
  connect(identity(authority_, "10.0.0.1"), authority_.certificate_pem, "10.0.0.1");
  ASSERT_TRUE(runner_.run_until([&] { return client_events_.connected == 1; }));
}

TEST_F(TlsTest, PlainTextIsAnErrorAndNothingElse) {
  for (const std::string& garbage : {std::string("GET / HTTP/1.1\r\n\r\n"),
                                     std::string(100'000, '\xff'), std::string(5, '\0')}) {
    server_events_ = {};
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()), 0);
    const UniqueFd peer(ends[1]);
    const auto context = make_tls_server_context(identity(authority_, "a"));
    server_ = wrap_tls_server(loop(), *context, adopt_socket(loop(), UniqueFd(ends[0]), "unix:"));
    server_->start(server_events_);
    ASSERT_GT(::write(peer.get(), garbage.data(), garbage.size()), 0);
    ::shutdown(peer.get(), SHUT_WR);
    ASSERT_TRUE(runner_.run_until([&] { return server_events_.error.has_value(); }));
    EXPECT_TRUE(server_events_.read.empty());
    EXPECT_EQ(server_events_.eofs, 0);
  }
}

TEST(TlsContextTest, AnIdentityThatDoesNotFitIsNamed) {
  const Validity validity{0, std::int64_t{4'000'000'000}};
  const CertifiedKey one = *make_authority("one", validity);
  const CertifiedKey two = *make_authority("two", validity);
  EXPECT_EQ(make_tls_server_context({one.certificate_pem, two.private_key_pem}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(make_tls_server_context({"", two.private_key_pem}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(make_tls_client_context("nonsense").error().code, ErrorCode::kInvalidArgument);
}

TEST(CertificatesTest, NamesThatCannotStandInOneAreRefused) {
  const CertifiedKey authority = *make_authority("a", {0, 4'000'000'000});
  for (const char* bad : {"", "a,DNS:evil", "a b", "A.example", "dirName:x"}) {
    const std::vector<std::string> names = {bad};
    EXPECT_EQ(issue_server_certificate(authority, names, {0, 1}).error().code,
              ErrorCode::kInvalidArgument)
        << bad;
  }
}

TEST(CertificatesTest, ValidityIsWhatWasAskedFor) {
  const CertifiedKey authority = *make_authority("a", {1'700'000'000, 1'900'000'000});
  const auto validity = validity_of(authority.certificate_pem);
  ASSERT_TRUE(validity.has_value());
  EXPECT_EQ(validity->not_before_unix_s, 1'700'000'000);
  EXPECT_EQ(validity->not_after_unix_s, 1'900'000'000);
  EXPECT_FALSE(validity_of("nonsense").has_value());
}

}  // namespace
}  // namespace remora
