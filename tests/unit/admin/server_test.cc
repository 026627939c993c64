// The real server on a real loop, over a Unix socket and a loopback port.
#include "sidecar/admin/server.h"

#include <CLI/CLI.hpp>
#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sidecar/admin/client.h"
#include "sidecar/admin/status_cli.h"
#include "sidecar/base/exit_codes.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/serve/http_connection.h"

namespace remora {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using namespace std::chrono_literals;

// The loop runs on a thread of its own; tests talk to it as clients do.
class AdminServerTest : public testing::Test {
 protected:
  AdminServerTest() {
    folder_ = testing::TempDir() + "remora_admin_" + std::to_string(::getpid()) + "_" +
              std::to_string(next_folder++);
    std::filesystem::create_directories(folder_);
    socket_ = folder_ + "/admin.sock";
  }
  AdminServerTest(const AdminServerTest&) = delete;
  AdminServerTest& operator=(const AdminServerTest&) = delete;
  ~AdminServerTest() override {
    stop();
    std::filesystem::remove_all(folder_);
  }

  AdminSource make_source() {
    AdminSource source;
    source.readiness = [this] {
      return ready_ ? AdminReadiness{true, {}} : AdminReadiness{false, {"starting"}};
    };
    source.status = [this] {
      AdminStatus status;
      status.agents.emplace_back().phase = "serving";
      status.readiness.ready = ready_;
      return status;
    };
    source.metrics = [] { return std::string(200'000, 'm'); };
    source.config = [](bool) { return std::string("log: {}\n"); };
    source.drain = [this](bool pod_ends) {
      ++drains_;
      drained_for_pod_ = pod_ends;
    };
    source.snapshot = [this](std::string_view, AdminDone done) {
      loop_->post([done = std::move(done)]() mutable { done(std::string("{}\n")); });
    };
    source.incidents = [this](AdminDone done) { kept_.push_back(std::move(done)); };
    return source;
  }

  void start(bool with_tcp = false) {
    loop_ = std::make_unique<EventLoop>();
    AdminOptions options;
    options.socket_path = socket_;
    if (with_tcp) options.listen = *parse_socket_address("127.0.0.1:0");
    auto server = AdminServer::start(*loop_, options, make_source());
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = *std::move(server);
    thread_ = std::thread([this] { loop_->run(); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    loop_->post_from_any_thread([this] { loop_->stop(); });
    thread_.join();
    server_.reset();
    kept_.clear();
    loop_.reset();
  }

  Result<AdminReply> ask(std::string_view method, std::string_view path, Duration wait = 10s) {
    return admin_request(socket_, method, path, wait);
  }

  UniqueFd connect_unix() const {
    const auto address = unix_socket_address(socket_);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return ::connect(fd.get(), address->get(), address->length()) == 0 ? std::move(fd) : UniqueFd();
  }
  UniqueFd connect_tcp() const {
    const auto address = server_->tcp_address();
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return ::connect(fd.get(), address->get(), address->length()) == 0 ? std::move(fd) : UniqueFd();
  }
  static void send_all(const UniqueFd& fd, std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      text.remove_prefix(static_cast<size_t>(n));
    }
  }
  static std::string read_all(const UniqueFd& fd) {
    std::string all;
    char chunk[4096];
    for (ssize_t n = 0; (n = ::recv(fd.get(), chunk, sizeof chunk, 0)) > 0;) {
      all.append(chunk, static_cast<size_t>(n));
    }
    return all;
  }

  static inline std::atomic<int> next_folder = 0;
  std::string folder_;
  std::string socket_;
  std::atomic<bool> ready_ = true;
  std::atomic<int> drains_ = 0;
  std::atomic<bool> drained_for_pod_ = false;
  std::vector<AdminDone> kept_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<AdminServer> server_;
  std::thread thread_;
};

TEST_F(AdminServerTest, AnswersOverTheSocket) {
  start();
  const auto health = ask("GET", "/healthz");
  ASSERT_TRUE(health.has_value()) << health.error().message;
  EXPECT_EQ(health->status, 200);
  EXPECT_EQ(health->body, "ok\n");
  ready_ = false;
  EXPECT_EQ(ask("GET", "/readyz")->status, 503);
  EXPECT_EQ(ask("POST", "/drain")->status, 202);
  EXPECT_EQ(drains_, 1);
  EXPECT_EQ(ask("POST", "/snapshot")->body, "{}\n");
  EXPECT_EQ(ask("GET", "/nothing")->status, 404);
  const auto head = ask("HEAD", "/healthz");
  ASSERT_TRUE(head.has_value()) << head.error().message;
  EXPECT_EQ(head->body, "");
}

TEST_F(AdminServerTest, LargeAnswersArriveWhole) {
  start();
  EXPECT_EQ(ask("GET", "/metrics")->body.size(), 200'000u);
}

TEST_F(AdminServerTest, KeepsTheConnectionForMoreRequests) {
  start();
  const UniqueFd fd = connect_unix();
  send_all(fd,
           "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n"
           "Connection: close\r\n\r\n");
  const std::string replies = read_all(fd);
  size_t found = 0;
  for (size_t at = replies.find("HTTP/1.1 200"); at != std::string::npos;
       at = replies.find("HTTP/1.1 200", at + 1)) {
    ++found;
  }
  EXPECT_EQ(found, 2u) << replies;
}

TEST_F(AdminServerTest, TheSocketIsForItsOwnerOnly) {
  start();
  struct stat info{};
  ASSERT_EQ(::stat(socket_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  stop();
  EXPECT_NE(::stat(socket_.c_str(), &info), 0) << "the file is removed at the end";
}

TEST_F(AdminServerTest, ASocketInUseIsRefusedAndAStaleOneReplaced) {
  start();
  EventLoop other_loop;
  AdminOptions options;
  options.socket_path = socket_;
  const auto second = AdminServer::start(other_loop, options, make_source());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kAlreadyExists);
  EXPECT_THAT(second.error().message, HasSubstr(socket_));
  EXPECT_EQ(ask("GET", "/healthz")->status, 200) << "the first one still serves";
  stop();

  {
    // What a killed process leaves behind.
    const auto address = unix_socket_address(socket_);
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(fd.get(), address->get(), address->length()), 0);
  }
  start();
  EXPECT_EQ(ask("GET", "/healthz")->status, 200);
}

TEST_F(AdminServerTest, PathsThatAreTooLongAndForeignAddressesAreRefused) {
  EventLoop loop;
  AdminOptions options;
  options.socket_path = "/" + std::string(200, 'x');
  const auto too_long = AdminServer::start(loop, options, make_source());
  ASSERT_FALSE(too_long.has_value());
  EXPECT_EQ(too_long.error().code, ErrorCode::kInvalidArgument);

  options.socket_path.clear();
  options.listen = *parse_socket_address("0.0.0.0:0");
  const auto foreign = AdminServer::start(loop, options, make_source());
  ASSERT_FALSE(foreign.has_value());
  EXPECT_THAT(foreign.error().message, HasSubstr("loopback"));
}

TEST_F(AdminServerTest, TheTcpPortIsForScrapersOnly) {
  start(true);
  const auto get = [&](const std::string& path, const std::string& host) {
    const UniqueFd fd = connect_tcp();
    send_all(fd, "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n");
    return read_all(fd);
  };
  EXPECT_THAT(get("/readyz", "127.0.0.1"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(get("/config", "127.0.0.1"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(get("/readyz", "rebound.example"), StartsWith("HTTP/1.1 421"));
}

TEST_F(AdminServerTest, BadRequestsAreRefusedAndClosed) {
  start();
  const std::string big(server_request_header_bytes_max + 1000, 'x');
  const std::pair<std::string, std::string> cases[] = {
      {"nonsense\r\n\r\n", "HTTP/1.1 400"},
      {"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + big + "\r\n\r\n", "HTTP/1.1 431"},
      {"GET /" + std::string(4000, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 414"},
      {"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" +
           std::string(100'000, 'b'),
       "HTTP/1.1 413"},
  };
  for (const auto& [request, reply] : cases) {
    const UniqueFd fd = connect_unix();
    send_all(fd, request);
    EXPECT_THAT(read_all(fd), StartsWith(reply));
  }
  EXPECT_EQ(drains_, 0);
}

TEST_F(AdminServerTest, IdleConnectionsDoNotLockOutTheSocket) {
  start(true);
  // As many as the port takes, and more: they wait in the kernel.
  std::vector<UniqueFd> idle;
  for (size_t i = 0; i < admin_connections_max + 4; ++i) idle.push_back(connect_tcp());
  EXPECT_EQ(ask("GET", "/healthz")->status, 200);
  // One leaves: the next waiting one is served.
  send_all(idle.back(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  for (size_t i = 0; i < 4; ++i) idle[i].reset();
  EXPECT_THAT(read_all(idle.back()), StartsWith("HTTP/1.1 200"));
}

TEST_F(AdminServerTest, AnswersThatComeAfterTheCallerHasLeftAreDropped) {
  start();
  const auto impatient = ask("GET", "/incidents", 100ms);
  ASSERT_FALSE(impatient.has_value());
  EXPECT_EQ(impatient.error().code, ErrorCode::kTimeout);
  // The connection is gone by the time this has been answered; then the late answer comes.
  EXPECT_EQ(ask("GET", "/healthz")->status, 200);
  loop_->post_from_any_thread([this] {
    for (AdminDone& done : kept_) done(std::string("[]"));
  });
  EXPECT_EQ(ask("GET", "/healthz")->status, 200);
}

TEST_F(AdminServerTest, NobodyThereIsSaidPlainly) {
  const auto missing = ask("GET", "/healthz");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr(socket_));
}

class StatusCommandTest : public AdminServerTest {
 protected:
  // Runs the command line; fills out_ and err_.
  int run(std::vector<std::string> arguments) {
    CLI::App app("remora");
    app.require_subcommand(1);
    int exit_code = -1;
    add_status_commands(app, exit_code);
    std::reverse(arguments.begin(), arguments.end());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    app.parse(arguments);
    std::fflush(stdout);
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return exit_code;
  }
  std::string out_;
  std::string err_;
};

TEST_F(StatusCommandTest, ShowsTheStatus) {
  start();
  EXPECT_EQ(run({"status", "--admin", socket_}), exit_ok);
  EXPECT_THAT(out_, HasSubstr("ready      yes"));
  EXPECT_EQ(run({"status", "--store", folder_, "--json"}), exit_ok);
  EXPECT_THAT(out_, HasSubstr("\"phase\": \"serving\""));
  ready_ = false;
  EXPECT_EQ(run({"status", "--admin", socket_}), exit_not_good);
}

TEST_F(StatusCommandTest, Drains) {
  start();
  EXPECT_EQ(run({"drain", "--admin", socket_}), exit_ok);
  EXPECT_EQ(drains_, 1);
  EXPECT_FALSE(drained_for_pod_);
  EXPECT_EQ(run({"drain", "--pod-ends", "--admin", socket_}), exit_ok);
  EXPECT_EQ(drains_, 2);
  EXPECT_TRUE(drained_for_pod_);
}

TEST_F(StatusCommandTest, SaysWhatIsMissing) {
  EXPECT_EQ(run({"status", "--admin", socket_}), exit_failed);
  EXPECT_THAT(err_, HasSubstr("is remora running"));
  ::unsetenv("REMORA_ADMIN");
  EXPECT_EQ(run({"status"}), exit_usage);
  EXPECT_THAT(err_, HasSubstr("--admin SOCKET"));
  start();
  ::setenv("REMORA_ADMIN", socket_.c_str(), 1);
  EXPECT_EQ(run({"status"}), exit_ok);
  ::unsetenv("REMORA_ADMIN");
}

}  // namespace
}  // namespace remora
