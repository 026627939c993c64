// Alerts run a command with the incident on its stdin, never for longer than allowed.
#include "sidecar/heal/alert.h"

#include <chrono>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sidecar/base/log.h"
#include "sidecar/net/event_loop.h"
#include "tests/fakes/temp_directory.h"

namespace remora {
namespace {

using namespace std::chrono_literals;

class ExecAlerterTest : public ::testing::Test {
 protected:
  ExecAlerterTest() {
    set_log_level(LogLevel::kOff);
    incident_.id = make_incident_id(1, FaultKind::kCrash, 1);
    incident_.log_tail.assign(300'000, 'x');  // more than a pipe holds
  }
  ~ExecAlerterTest() override { set_log_level(LogLevel::kInfo); }
  ExecAlerterTest(const ExecAlerterTest&) = delete;
  ExecAlerterTest& operator=(const ExecAlerterTest&) = delete;

  void alert(std::vector<std::string> command) {
    ExecAlerter alerter(loop_, std::move(command));
    bool done = false;
    alerter.alert(incident_, [&] {
      done = true;
      loop_.stop();
    });
    EXPECT_FALSE(done) << "called back from inside the call";
    const Subscription guard = loop_.add_timer(20s, [this] { loop_.stop(); });
    loop_.run();
    EXPECT_TRUE(done);
  }
  std::string output() const {
    std::ifstream in(file_);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  EventLoop loop_;
  Incident incident_;
  const TempDirectory directory_;
  const std::string file_ = directory_.path() + "/out";
};

TEST_F(ExecAlerterTest, FeedsTheIncidentToTheCommand) {
  alert({"/bin/sh", "-c", "cat > " + file_});
  EXPECT_EQ(output(), incident_to_json(incident_) + "\n");
}

TEST_F(ExecAlerterTest, TakesACommandThatDoesNotRead) {
  alert({"/bin/sh", "-c", "exec <&-; sleep 0.05; echo told > " + file_});
  EXPECT_EQ(output(), "told\n");
}

TEST_F(ExecAlerterTest, FailuresAreNotFatal) {
  alert({"/no/such/command"});
  alert({"false"});
  alert({});
  EXPECT_EQ(output(), "");
}

TEST_F(ExecAlerterTest, DestroyedWhileTheCommandHangsKillsIt) {
  const SystemClock clock;
  const MonotonicTime began = clock.now();
  {
    ExecAlerter alerter(loop_, {"/bin/sh", "-c", "echo $$ > " + file_ + "; exec sleep 300"});
    alerter.alert(incident_, [] { FAIL() << "called although destroyed"; });
    Subscription poll;
    std::move_only_function<void()> look = [&] {
      if (!output().empty()) return loop_.stop();
      poll = loop_.add_timer(2ms, [&] { look(); });
    };
    look();
    loop_.run();
  }
  EXPECT_LT(clock.now() - began, std::chrono::milliseconds(alert_command_wait_ms_max) / 2);
  EXPECT_NE(::kill(std::stoi(output()), 0), 0) << "still running";
}

}  // namespace
}  // namespace remora
