// What a line looks like, and that a reader of stderr that stalls stalls neither the caller nor the
// end of the process.
#include "sidecar/base/log.h"

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <unistd.h>

#include "sidecar/base/handle.h"

namespace remora {
namespace {

using nlohmann::json;

// 2026-11-25T04:15:00.123456789Z
constexpr int64_t some_time_ns = 1'795'580'100'123'456'789;

TEST(LogLineTest, IsOneJsonObjectALine) {
  EXPECT_EQ(
      render_log_line(some_time_ns, LogLevel::kInfo, "listening", {{"address", "127.0.0.1:80"}}),
      R"({"time":"2026-11-25T04:15:00.123456Z","level":"info","event":"listening",)"
      R"("address":"127.0.0.1:80"})"
      "\n");
}

TEST(LogLineTest, KeepsTheTypeOfEachValue) {
  const std::string text = "owned";
  const json line = json::parse(render_log_line(some_time_ns, LogLevel::kWarn, "types",
                                                {{"literal", "a"},
                                                 {"view", std::string_view("b")},
                                                 {"string", text},
                                                 {"yes", true},
                                                 {"negative", -5},
                                                 {"lowest", std::numeric_limits<int64_t>::min()},
                                                 {"largest", std::numeric_limits<uint64_t>::max()},
                                                 {"small", uint8_t{7}},
                                                 {"seconds", 0.25}}));
  EXPECT_EQ(line["literal"], "a");
  EXPECT_EQ(line["view"], "b");
  EXPECT_EQ(line["string"], "owned");
  EXPECT_EQ(line["yes"], true);
  EXPECT_EQ(line["negative"], -5);
  EXPECT_EQ(line["lowest"], std::numeric_limits<int64_t>::min());
  EXPECT_EQ(line["largest"], std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(line["small"], 7);
  EXPECT_EQ(line["seconds"], 0.25);
  EXPECT_EQ(line["level"], "warn");
}

TEST(LogLineTest, NamesEachLevel) {
  for (const auto& [level, name] :
       {std::pair{LogLevel::kDebug, "debug"}, std::pair{LogLevel::kInfo, "info"},
        std::pair{LogLevel::kWarn, "warn"}, std::pair{LogLevel::kError, "error"}}) {
    EXPECT_EQ(json::parse(render_log_line(0, level, "e", {}))["level"], name);
  }
}

TEST(LogLineTest, HostileTextStaysInsideItsString) {
  const std::string line = render_log_line(0, LogLevel::kInfo, "e\"\n",
                                           {{"k\"", "a\"}\n{\"level\":\"error\""}, {"x", "\xff"}});
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const json parsed = json::parse(line);
  EXPECT_EQ(parsed["k\""], "a\"}\n{\"level\":\"error\"");
  EXPECT_EQ(parsed["x"], "\uFFFD");
  EXPECT_EQ(parsed["level"], "info");
}

// JSON has no such numbers.
TEST(LogLineTest, WhatIsNoNumberIsNull) {
  const json line = json::parse(render_log_line(
      0, LogLevel::kInfo, "e",
      {{"nan", std::nan("")}, {"infinite", -std::numeric_limits<double>::infinity()}}));
  EXPECT_TRUE(line["nan"].is_null());
  EXPECT_TRUE(line["infinite"].is_null());
}

// Standard error goes into a pipe that nobody reads until read_all().
class StalledStderr {
 public:
  StalledStderr() : saved_(::dup(STDERR_FILENO)) {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    read_.reset(ends[0]);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[1]);
  }
  ~StalledStderr() { restore(); }
  StalledStderr(const StalledStderr&) = delete;
  StalledStderr& operator=(const StalledStderr&) = delete;

  // What the log has to say until everything is written.
  std::string read_all() {
    std::string out;
    std::thread reader([&] {
      char chunk[4096];
      for (ssize_t n = 0; (n = ::read(read_.get(), chunk, sizeof chunk)) > 0;) {
        out.append(chunk, static_cast<size_t>(n));
      }
    });
    flush_log();
    restore();  // closes the last write end: the reader meets the end
    reader.join();
    return out;
  }

 private:
  void restore() {
    if (saved_) ::dup2(saved_.get(), STDERR_FILENO);
    saved_.reset();
  }
  UniqueFd saved_;
  UniqueFd read_;
};

TEST(LogTest, AStalledReaderCostsLinesNotTime) {
  constexpr uint64_t lines = 3000;
  const std::string kilobyte(1000, 'x');
  StalledStderr stalled;
  // More than the pipe and the backlog hold. A caller that waited would wait here for ever.
  for (uint64_t i = 0; i < lines; ++i) log_error("line", {{"n", i}, {"text", kilobyte}});
  const std::string all = stalled.read_all();

  uint64_t seen = 0;
  uint64_t dropped = 0;
  uint64_t next = 0;
  std::istringstream in(all);
  for (std::string text; std::getline(in, text);) {
    const json line = json::parse(text);
    if (line["event"] == "log_lines_dropped") {
      dropped += line["count"].get<uint64_t>();
      continue;
    }
    ++seen;
    EXPECT_GE(line["n"].get<uint64_t>(), next) << "out of order";
    next = line["n"].get<uint64_t>() + 1;
  }
  EXPECT_GT(dropped, 0u);
  EXPECT_GE(seen, log_backlog_bytes_max / 1200);
  EXPECT_EQ(seen + dropped, lines);
}

TEST(LogTest, LinesBelowTheLevelAreNotWritten) {
  StalledStderr captured;
  set_log_level(LogLevel::kWarn);
  log_info("too_low");
  log_warn("high_enough");
  set_log_level(LogLevel::kOff);
  log_error("off");
  set_log_level(LogLevel::kInfo);
  log_debug("below_the_default");
  const std::string all = captured.read_all();
  EXPECT_EQ(all.find("too_low"), std::string::npos);
  EXPECT_NE(all.find("high_enough"), std::string::npos);
  EXPECT_EQ(all.find("\"off\""), std::string::npos);
  EXPECT_EQ(all.find("below_the_default"), std::string::npos);
}

TEST(LogTest, LinesOfManyThreadsStayWhole) {
  StalledStderr captured;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 50; ++i) log_info("line", {{"thread", t}, {"n", i}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::istringstream in(captured.read_all());
  int count = 0;
  for (std::string text; std::getline(in, text); ++count) {
    EXPECT_EQ(json::parse(text)["event"], "line");
  }
  EXPECT_EQ(count, 200);
}

// In a process of its own, because it ends.
TEST(LogDeathTest, AStalledReaderDoesNotKeepTheProcessFromEnding) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const StalledStderr stalled;
        for (int i = 0; i < 1000; ++i) log_error("line", {{"text", std::string(1000, 'x')}});
        flush_log();
        std::exit(7);
      },
      testing::ExitedWithCode(7), "");
}

TEST(LogDeathTest, TheLastLineIsWrittenAtExit) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        log_error("last_words");
        std::exit(0);
      },
      testing::ExitedWithCode(0), "last_words");
}

}  // namespace
}  // namespace remora
