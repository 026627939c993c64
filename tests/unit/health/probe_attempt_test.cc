// One attempt of each kind, against real sockets and commands on a real loop.
#include "sidecar/health/probe_attempt.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "sidecar/base/buffer.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/net/tcp.h"
#include "tests/unit/health/child_process.h"

namespace remora {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr Duration kLong = 10s;  // never reached but by a failing test
constexpr Duration kShort = 50ms;

// Accepts on loopback and hands each connection over.
class Server {
 public:
  using OnAccept = std::move_only_function<void(UniqueFd)>;
  Server(Loop& loop, OnAccept on_accept, int backlog = 16)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const SocketAddress any = *parse_socket_address("127.0.0.1:0");
    EXPECT_EQ(::bind(fd_.get(), any.get(), any.length()), 0);
    EXPECT_EQ(::listen(fd_.get(), backlog), 0);
    if (!on_accept) return;
    watch_ = loop.watch_fd(
        fd_.get(), FdEvents::kRead, [this, on_accept = std::move(on_accept)](FdEvents) mutable {
          UniqueFd peer(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
          if (peer) on_accept(std::move(peer));
        });
  }
  SocketAddress address() const { return *local_address(fd_.get()); }

 private:
  UniqueFd fd_;
  std::unique_ptr<FdWatch> watch_;
};

// Says what it is given once asked, and closes or not.
class Conversation final : public TransportEvents, public Deferred {
 public:
  Conversation(Loop& loop, UniqueFd fd, std::string reply, bool closes, std::string& heard)
      : reply_(std::move(reply)),
        closes_(closes),
        heard_(heard),
        transport_(adopt_socket(loop, std::move(fd), "probe")) {
    transport_->start(*this);
  }
  void on_read(std::span<const uint8_t> bytes) override {
    heard_.append(as_text(bytes));
    if (reply_.empty()) return;
    EXPECT_TRUE(transport_->write(as_bytes(std::exchange(reply_, {}))));
    if (closes_) transport_->shutdown_write();
  }
  void on_read_eof() override {}
  void on_writable() override {}
  void on_transport_error(const Error&) override {}

 private:
  std::string reply_;
  const bool closes_;
  std::string& heard_;
  std::unique_ptr<Transport> transport_;
};

class Attempt : public testing::Test {
 protected:
  ProbeAnswer run(const ProbeAction& action, Duration timeout = kLong) {
    std::optional<ProbeAnswer> got;
    attempt_ = start_probe(loop_, action, timeout, [&](ProbeAnswer answer) {
      EXPECT_FALSE(got) << "answered twice";
      got = std::move(answer);
      attempt_.reset();  // as the prober does
      loop_.stop();
    });
    EXPECT_FALSE(got) << "answered from inside the call";
    const Subscription guard = loop_.add_timer(2 * kLong, [this] { loop_.stop(); });
    loop_.run();
    EXPECT_TRUE(got) << "never answered";
    return got.value_or(ProbeAnswer{.reason = "never answered"});
  }
  ProbeAnswer get(const std::string& reply, bool closes = true, Duration timeout = kLong) {
    Server server(loop_, [&](UniqueFd fd) {
      conversations_.push_back(
          std::make_unique<Conversation>(loop_, std::move(fd), reply, closes, heard_));
    });
    return run(HttpProbe{.address = server.address(),
                         .path = "/healthz?full=1",
                         .host = "agent.test",
                         .headers = {{"X-Probe", "yes"}}},
               timeout);
  }
  ProbeAnswer exec(std::vector<std::string> command, Duration timeout = kLong) {
    return run(ExecProbe{.command = std::move(command), .working_dir = {}, .environment = {}},
               timeout);
  }
  ProbeAnswer shell(const std::string& script, Duration timeout = kLong) {
    return exec({"/bin/sh", "-c", script}, timeout);
  }

  EventLoop loop_;
  std::string heard_;
  std::vector<std::unique_ptr<Conversation>> conversations_;
  std::unique_ptr<ProbeAttempt> attempt_;
};

MATCHER(Succeeded, "succeeded") {
  *result_listener << arg.reason;
  return arg.ok && !arg.timed_out && arg.reason.empty();
}
MATCHER_P(FailedBecause, why, "failed") {
  *result_listener << arg.reason << (arg.timed_out ? " (timed out)" : "");
  return !arg.ok && !arg.timed_out && testing::Matches(why)(arg.reason);
}
MATCHER_P(TimedOut, why, "timed out") {
  *result_listener << arg.reason;
  return !arg.ok && arg.timed_out && testing::Matches(why)(arg.reason);
}

std::string reply_with(int status, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) +
         " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

// --- HTTP ---

TEST_F(Attempt, HttpAsksWhatItWasTold) {
  EXPECT_THAT(get(reply_with(200, "fine")), Succeeded());
  EXPECT_THAT(heard_, StartsWith("GET /healthz?full=1 HTTP/1.1\r\n"));
  EXPECT_THAT(heard_, HasSubstr("agent.test\r\n"));
  EXPECT_THAT(heard_, HasSubstr("X-Probe: yes\r\n"));
}

TEST_F(Attempt, HttpFrom200To399IsHealthy) {
  for (const int status : {200, 204, 302, 399}) {
    EXPECT_THAT(get(reply_with(status, status == 204 ? "" : "x")), Succeeded()) << status;
  }
  for (const int status : {400, 404, 500, 503}) {
    EXPECT_THAT(get(reply_with(status, "")),
                FailedBecause("GET /healthz?full=1: HTTP " + std::to_string(status)));
  }
}

TEST_F(Attempt, HttpInterimResponsesAreNoAnswer) {
  EXPECT_THAT(get("HTTP/1.1 103 Early Hints\r\n\r\n" + reply_with(503, "no")),
              FailedBecause(EndsWith("HTTP 503: no")));
}

TEST_F(Attempt, HttpTakesTheReasonFromTheBody) {
  EXPECT_THAT(get(reply_with(500, "database\r\n\x1b[2J unreachable\n")),
              FailedBecause("GET /healthz?full=1: HTTP 500: database   [2J unreachable"));
  EXPECT_THAT(get("HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfor\r\n4\r\n you\r\n"
                  "0\r\n\r\n"),
              FailedBecause(EndsWith("HTTP 503: for you")));
  EXPECT_THAT(get("HTTP/1.1 500 X\r\n\r\nuntil the end"),
              FailedBecause(EndsWith("HTTP 500: until the end")));
}

TEST_F(Attempt, HttpReasonsAreBounded) {
  const ProbeAnswer answer = get(reply_with(500, std::string(1'000'000, 'x')));
  EXPECT_THAT(answer, FailedBecause(EndsWith(": " + std::string(probe_reason_bytes_max, 'x'))));
}

TEST_F(Attempt, HttpSilenceTimesOut) {
  EXPECT_THAT(get("", false, kShort), TimedOut("GET /healthz?full=1: no answer within 0.1 s"));
  EXPECT_THAT(get("HTTP/1.1 200 OK\r\nX: ", false, kShort), TimedOut(HasSubstr("no answer")));
  EXPECT_THAT(get("HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nhalf", false, kShort),
              TimedOut(HasSubstr("no answer")));
}

TEST_F(Attempt, HttpGarbageIsAFailure) {
  EXPECT_THAT(get("220 mail.test ESMTP\r\n\r\n", false), FailedBecause(StartsWith("GET /healthz")));
  EXPECT_THAT(get(std::string(1'000'000, '\0'), false), FailedBecause(StartsWith("GET /healthz")));
  EXPECT_THAT(get("SSH-2.0-OpenSSH_9.2\r\n"), FailedBecause(StartsWith("GET /healthz")));
  EXPECT_THAT(get("HTTP/1.1 200 OK\r\n"), FailedBecause(StartsWith("GET /healthz"))) << "cut short";
  EXPECT_THAT(get("SSH-2.0-OpenSSH_9.2\r\n", false, kShort), TimedOut(HasSubstr("no answer")))
      << "it may still become a head";
}

TEST_F(Attempt, HttpClosedWithoutAWord) {
  Server server(loop_, [](UniqueFd fd) { fd.reset(); });
  EXPECT_THAT(run(HttpProbe{.address = server.address(), .host = {}, .headers = {}}),
              FailedBecause(StartsWith("GET /: ")));
}

// The agent has died in the same turn of the loop in which the probe's connection ends. Whoever
// hears of the death first abandons the attempt, which must hear nothing any more.
TEST_F(Attempt, AbandonedInTheTurnInWhichItsConnectionEnds) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const auto death = loop_.watch_fd(reader.get(), FdEvents::kRead, [&](FdEvents) {
    attempt_.reset();
    loop_.post([&] { loop_.stop(); });  // once this turn's events are through
  });
  UniqueFd peer;
  std::unique_ptr<FdWatch> request;
  Server server(loop_, [&](UniqueFd fd) {
    peer = std::move(fd);
    request = loop_.watch_fd(peer.get(), FdEvents::kRead, [&](FdEvents) {
      request->set_events(FdEvents::kNone);
      // Ready in this order, so that they are told in this order.
      writer.reset();
      peer.reset();
    });
  });
  attempt_ =
      start_probe(loop_, HttpProbe{.address = server.address(), .host = {}, .headers = {}}, kLong,
                  [](ProbeAnswer) { ADD_FAILURE() << "an abandoned attempt speaks"; });
  loop_.run();
  EXPECT_EQ(attempt_, nullptr);
}

// --- TCP ---

TEST_F(Attempt, TcpNeedsOnlyToConnect) {
  Server server(loop_, nullptr);
  EXPECT_THAT(run(TcpProbe{.address = server.address()}), Succeeded());
}

TEST_F(Attempt, ARefusalIsAnAnswer) {
  SocketAddress nobody;
  {
    const Server server(loop_, nullptr);
    nobody = server.address();
  }
  const std::string refused = "connect to " + nobody.to_string();
  EXPECT_THAT(run(TcpProbe{.address = nobody}),
              FailedBecause(AllOf(StartsWith(refused), HasSubstr("Connection refused"))));
  EXPECT_THAT(run(HttpProbe{.address = nobody, .host = {}, .headers = {}}),
              FailedBecause(HasSubstr("Connection refused")));
  EXPECT_THAT(run(GrpcProbe{.address = nobody, .service = {}}),
              FailedBecause(HasSubstr("Connection refused")));
}

// A full backlog: the kernel drops the SYN, as it does for an agent that no longer accepts.
TEST_F(Attempt, AConnectionThatDoesNotOpenTimesOut) {
  Server server(loop_, nullptr, 0);
  const SocketAddress full = server.address();
  std::vector<UniqueFd> held;
  for (int i = 0; i < 4; ++i) {
    held.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ::connect(held.back().get(), full.get(), full.length());
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(run(TcpProbe{.address = full}, kShort), TimedOut(HasSubstr("no answer within")));
  }
}

// --- commands ---

TEST_F(Attempt, CommandsSpeakByTheirExitCode) {
  EXPECT_THAT(exec({"true"}), Succeeded());
  EXPECT_THAT(exec({"false"}), FailedBecause("exec false: exit code 1"));
  EXPECT_THAT(shell("exit 42"), FailedBecause("exec /bin/sh: exit code 42"));
  EXPECT_THAT(shell("kill -9 $$"), FailedBecause("exec /bin/sh: killed by signal 9"));
  EXPECT_THAT(exec({"/no/such/program"}), FailedBecause(HasSubstr("No such file or directory")));
}

TEST_F(Attempt, CommandsGiveTheirOutputAsReason) {
  EXPECT_THAT(shell("echo out; echo err >&2; exit 1"),
              FailedBecause("exec /bin/sh: exit code 1: out err"));
  EXPECT_THAT(shell("cat; echo said; exit 1"), FailedBecause(EndsWith(": said")))
      << "stdin is empty";
  const ProbeAnswer flood = shell("head -c 3000000 /dev/zero | tr '\\0' y; exit 1");
  EXPECT_THAT(flood, FailedBecause(EndsWith(": " + std::string(probe_reason_bytes_max, 'y'))));
}

TEST_F(Attempt, CommandsRunWhereAndWithWhatTheyWereTold) {
  ASSERT_EQ(::setenv("REMORA_PROBE_TEST", "remora's", 1), 0);
  EXPECT_THAT(run(ExecProbe{.command = {"/bin/sh", "-c", "echo $PWD $REMORA_PROBE_TEST; exit 1"},
                            .working_dir = "/usr",
                            .environment = {"REMORA_PROBE_TEST=its own"}}),
              FailedBecause(EndsWith(": /usr its own")));
  EXPECT_THAT(shell("env | grep -c ^REMORA_PROBE_TEST=; exit 1"), FailedBecause(EndsWith(": 1")));
  EXPECT_THAT(run(ExecProbe{.command = {"/bin/sh", "-c",
                                        "tr '\\0' '\\n' </proc/$$/environ | grep -c "
                                        "^REMORA_PROBE_TEST=; exit 1"},
                            .working_dir = {},
                            .environment = {"REMORA_PROBE_TEST=its own"}}),
              FailedBecause(EndsWith(": 1")))
      << "given twice, each program takes another";
  ::unsetenv("REMORA_PROBE_TEST");
}

class Command : public Attempt {
 protected:
  Command() : file_(testing::TempDir() + "remora_probe_" + std::to_string(::getpid())) {}
  ~Command() override { std::filesystem::remove(file_); }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  // The PID that the command has written.
  pid_t written() const {
    pid_t pid = 0;
    EXPECT_TRUE(eventually([&] { return static_cast<bool>(std::ifstream(file_) >> pid); }));
    return pid;
  }
  // What it left behind is nobody's child here: gone, or a zombie that its new parent has still to
  // collect.
  static bool is_dead(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text(std::istreambuf_iterator<char>(stat), {});
    return text.empty() || text.substr(text.rfind(')'), 3) == ") Z";
  }
  const std::string file_;
};

TEST_F(Command, ThatIsTooSlowIsKilledWithItsGroup) {
  EXPECT_THAT(shell("sleep 1000 & echo $! > " + file_ + "; wait", 300ms),
              TimedOut("exec /bin/sh: still running after 0.3 s"));
  EXPECT_TRUE(eventually([pid = written()] { return is_dead(pid); }));
}

TEST_F(Command, ThatEndsLeavesNothingOfItsGroup) {
  EXPECT_THAT(shell("sleep 1000 & echo $! > " + file_), Succeeded());
  EXPECT_TRUE(eventually([pid = written()] { return is_dead(pid); }));
}

TEST_F(Command, ThatIsAbandonedIsKilled) {
  attempt_ =
      start_probe(loop_,
                  ExecProbe{.command = {"/bin/sh", "-c", "echo $$ > " + file_ + "; sleep 99"},
                            .working_dir = {},
                            .environment = {}},
                  kLong, [](ProbeAnswer) { ADD_FAILURE() << "abandoned"; });
  const pid_t pid = written();
  attempt_.reset();
  EXPECT_EQ(::kill(pid, 0), -1) << "collected too";
}

// --- what gets into a reason ---

TEST(AnswerExcerpt, IsOneBoundedLineOfWholeCharacters) {
  EXPECT_EQ(answer_excerpt(""), "");
  EXPECT_EQ(answer_excerpt(" \r\n\t"), "");
  EXPECT_EQ(answer_excerpt("\n a\nb\x7f\x01 c \n"), "a b   c");
  EXPECT_EQ(answer_excerpt("grün"), "grün");
  const std::string umlauts = [] {
    std::string text = "x";
    for (size_t i = 0; i < probe_reason_bytes_max; ++i) text += "ü";
    return text;
  }();
  EXPECT_EQ(answer_excerpt(umlauts), umlauts.substr(0, probe_reason_bytes_max - 1));
  EXPECT_THAT(answer_excerpt(std::string(1000, '\xBF')),
              SizeIs(testing::Le(probe_reason_bytes_max)));
}

}  // namespace
}  // namespace remora
