// Incidents on disk: published whole, bounded, and closed by the next run when this one dies.
#include "sidecar/heal/incident_log.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "sidecar/base/log.h"
#include "sidecar/heal/durable_file.h"
#include "sidecar/heal/incident_cli.h"
#include "sidecar/net/event_loop.h"
#include "tests/fakes/fake_loop.h"
#include "tests/fakes/temp_directory.h"

namespace remora {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr int64_t now_ns = 1'795'580'100'000'000'000;

Incident incident_at(int64_t unix_ns, IncidentStatus status = IncidentStatus::kClosed) {
  Incident incident;
  incident.id = make_incident_id(unix_ns, FaultKind::kCrash, 7);
  incident.summary = "exited with code 1";
  incident.began_at_unix_ns = incident.detected_at_unix_ns = unix_ns;
  incident.steps = {{HealAction::kRestart, "first", unix_ns, 0, 0, ""}};
  incident.status = status;
  incident.closed_reason =
      status == IncidentStatus::kOpen ? ClosedReason::kNone : ClosedReason::kRecovered;
  return incident;
}

class DiskIncidentLogTest : public ::testing::Test {
 protected:
  DiskIncidentLogTest() { set_log_level(LogLevel::kOff); }
  ~DiskIncidentLogTest() override { set_log_level(LogLevel::kInfo); }
  DiskIncidentLogTest(const DiskIncidentLogTest&) = delete;
  DiskIncidentLogTest& operator=(const DiskIncidentLogTest&) = delete;

  std::unique_ptr<DiskIncidentLog> open() {
    auto log = DiskIncidentLog::open(loop_, store_, now_ns);
    EXPECT_TRUE(log) << log.error().message;
    return log ? std::move(*log) : nullptr;
  }
  Result<void> write(DiskIncidentLog& log, const Incident& incident) {
    std::optional<Result<void>> result;
    log.write(incident, [&](Result<void> r) {
      result = std::move(r);
      loop_.stop();
    });
    EXPECT_FALSE(result) << "called back from inside the call";
    loop_.run();
    return *result;
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(store_ + "/incidents")) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  std::vector<Incident> listed() const {
    const auto listing = list_incidents(store_);
    EXPECT_TRUE(listing);
    return listing ? listing->incidents : std::vector<Incident>{};
  }

  EventLoop loop_;
  const TempDirectory directory_;
  const std::string store_ = directory_.path() + "/store";
};

TEST_F(DiskIncidentLogTest, KeepsOneFilePerIncidentAndReplacesIt) {
  const auto log = open();
  Incident incident = incident_at(now_ns, IncidentStatus::kOpen);
  ASSERT_TRUE(write(*log, incident));
  incident.status = IncidentStatus::kClosed;
  incident.closed_reason = ClosedReason::kRecovered;
  ASSERT_TRUE(write(*log, incident));
  EXPECT_THAT(files(), ElementsAre(incident.id + ".json"));
  const auto read = load_incident(store_, incident.id);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->closed_reason, ClosedReason::kRecovered);
}

TEST_F(DiskIncidentLogTest, ClosesWhatADeadRemoraLeftOpenBeforeTheFirstWrite) {
  {
    ASSERT_TRUE(write(*open(), incident_at(now_ns - 1'000'000'000, IncidentStatus::kOpen)));
  }
  const auto log = open();
  ASSERT_TRUE(write(*log, incident_at(now_ns, IncidentStatus::kOpen)));
  const auto incidents = listed();
  ASSERT_EQ(incidents.size(), 2u);
  EXPECT_EQ(incidents[0].closed_reason, ClosedReason::kSuperseded);
  EXPECT_EQ(incidents[0].closed_at_unix_ns, now_ns);
  EXPECT_THAT(incidents[0].steps.at(0).outcome, HasSubstr("Remora itself ended"));
  EXPECT_EQ(incidents[1].status, IncidentStatus::kOpen);
}

TEST_F(DiskIncidentLogTest, KeepsTheNewestWhenThereAreTooMany) {
  fs::create_directories(store_ + "/incidents");
  for (size_t i = 0; i < incidents_kept_on_disk_max; ++i) {
    const Incident incident = incident_at(now_ns + static_cast<int64_t>(i) * 1'000'000);
    std::ofstream(store_ + "/incidents/" + incident.id + ".json") << incident_to_json(incident);
  }
  const auto log = open();
  ASSERT_TRUE(write(*log, incident_at(now_ns + 1'000'000'000'000)));
  const auto names = files();
  EXPECT_EQ(names.size(), incidents_kept_on_disk_max);
  EXPECT_EQ(names.front(), incident_at(now_ns + 1'000'000).id + ".json");
  EXPECT_EQ(names.back(), incident_at(now_ns + 1'000'000'000'000).id + ".json");
}

TEST_F(DiskIncidentLogTest, AWriteThatFailsLeavesTheOldFileWhole) {
  const auto log = open();
  const Incident incident = incident_at(now_ns);
  ASSERT_TRUE(write(*log, incident));
  // The temporary file can't be made: a directory has its name.
  fs::create_directory(store_ + "/incidents/." + incident.id + ".json.tmp");
  Incident changed = incident;
  changed.summary = "changed";
  const auto result = write(*log, changed);
  EXPECT_FALSE(result);
  const auto read = load_incident(store_, incident.id);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->summary, incident.summary);
}

TEST_F(DiskIncidentLogTest, SaysWhyAStoreCannotBeUsed) {
  std::ofstream(store_) << "a file";
  const auto log = DiskIncidentLog::open(loop_, store_, now_ns);
  ASSERT_FALSE(log);
  EXPECT_THAT(log.error().message, HasSubstr(store_ + "/incidents"));
}

TEST_F(DiskIncidentLogTest, DestroyedWithAWriteUnderWayCallsNobody) {
  auto log = open();
  bool called = false;
  log->write(incident_at(now_ns), [&](Result<void>) { called = true; });
  log.reset();
  const Subscription end = loop_.add_timer(20ms, [this] { loop_.stop(); });
  loop_.run();
  EXPECT_FALSE(called);
}

TEST_F(DiskIncidentLogTest, ListingPassesOverWhatIsNoIncidentAndNamesWhatIsBroken) {
  const auto log = open();
  ASSERT_TRUE(write(*log, incident_at(now_ns)));
  std::ofstream(store_ + "/incidents/broken.json") << "{";
  std::ofstream(store_ + "/incidents/notes.txt") << "hello";
  std::ofstream(store_ + "/incidents/.x.json.tmp") << "half";
  ASSERT_EQ(::mkfifo((store_ + "/incidents/fifo.json").c_str(), 0600), 0);
  const auto listing = list_incidents(store_);
  ASSERT_TRUE(listing);
  EXPECT_EQ(listing->incidents.size(), 1u);
  EXPECT_THAT(listing->unreadable, ElementsAre(HasSubstr("broken.json: not a readable incident"),
                                               HasSubstr("fifo.json")));
}

TEST_F(DiskIncidentLogTest, FindsByIdByItsBeginningAndTheLatest) {
  const auto log = open();
  const Incident first = incident_at(now_ns);
  const Incident second = incident_at(now_ns + 2'000'000'000);
  ASSERT_TRUE(write(*log, first));
  ASSERT_TRUE(write(*log, second));
  EXPECT_EQ(load_incident(store_, "latest")->id, second.id);
  EXPECT_EQ(load_incident(store_, first.id)->id, first.id);
  EXPECT_EQ(load_incident(store_, first.id.substr(0, 15))->id, first.id);
  EXPECT_EQ(load_incident(store_, "2026").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(load_incident(store_, "1999").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(load_incident(store_, "../secret").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(load_incident(store_ + "/none", "latest").error().code, ErrorCode::kNotFound);
}

class IncidentCliTest : public DiskIncidentLogTest {
 protected:
  int run(std::vector<std::string> words) {
    CLI::App app;
    int exit_code = -1;
    add_incident_commands(app, exit_code);
    std::reverse(words.begin(), words.end());
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    try {
      app.parse(words);
    } catch (const CLI::ParseError& error) {
      exit_code = 100;
    }
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
    return exit_code;
  }
  std::string out_;
  std::string err_;
};

TEST_F(IncidentCliTest, ListsAndShows) {
  const auto log = open();
  const Incident incident = incident_at(now_ns);
  ASSERT_TRUE(write(*log, incident));
  EXPECT_EQ(run({"incident", "list", "--store", store_}), 0);
  EXPECT_THAT(out_, HasSubstr(incident.id));
  EXPECT_EQ(run({"incident", "list", "--store", store_, "--json"}), 0);
  EXPECT_EQ(out_, "[\n" + incident_to_json(incident) + "\n]\n");
  EXPECT_EQ(run({"incident", "show", "--store", store_}), 0);
  EXPECT_THAT(out_, HasSubstr("Timeline"));
  EXPECT_EQ(run({"incident", "show", incident.id, "--json", "--store", store_}), 0);
  EXPECT_EQ(out_, incident_to_json(incident) + "\n");
}

TEST_F(IncidentCliTest, AnEmptyStoreHasNoIncidents) {
  fs::create_directory(store_);
  EXPECT_EQ(run({"incident", "list", "--store", store_}), 0);
  EXPECT_EQ(out_, "no incidents\n");
  EXPECT_EQ(run({"incident", "list", "--store", store_, "--json"}), 0);
  EXPECT_EQ(out_, "[]\n");
}

TEST_F(IncidentCliTest, FailsInOneLine) {
  EXPECT_EQ(run({"incident", "list", "--store", store_}), 1);
  EXPECT_EQ(std::count(err_.begin(), err_.end(), '\n'), 1);
  EXPECT_THAT(err_, HasSubstr("no such store"));
  EXPECT_EQ(run({"incident", "show", "nope", "--store", store_}), 1);
  EXPECT_EQ(run({"incident"}), 100);
  EXPECT_EQ(run({"incident", "list"}), 100);
}

TEST(MemoryIncidentLog, KeepsTheLast) {
  FakeLoop loop;
  MemoryIncidentLog log(loop);
  size_t done = 0;
  const auto count = [&](Result<void> result) { done += result ? 1u : 0u; };
  for (size_t i = 0; i < incidents_kept_in_memory_max + 5; ++i) {
    log.write(incident_at(now_ns + static_cast<int64_t>(i) * 1'000'000'000), count);
  }
  Incident again = incident_at(now_ns + 50'000'000'000);
  again.summary = "again";
  log.write(again, count);
  EXPECT_EQ(done, 0u);
  loop.run_ready();
  EXPECT_EQ(done, incidents_kept_in_memory_max + 6);
  EXPECT_EQ(log.incidents().size(), incidents_kept_in_memory_max);
  EXPECT_EQ(log.incidents().front().id, incident_at(now_ns + 5'000'000'000).id);
  EXPECT_EQ(log.incidents().at(45).summary, "again");
}

TEST(DurableFile, ReadsNoMoreThanItMay) {
  const std::string path = ::testing::TempDir() + "durable_file_test";
  std::ofstream(path) << std::string(1000, 'x');
  EXPECT_EQ(read_small_file(path, 1000)->size(), 1000u);
  EXPECT_EQ(read_small_file(path, 999).error().code, ErrorCode::kLimitExceeded);
  EXPECT_EQ(read_small_file(path + "-none", 999).error().code, ErrorCode::kNotFound);
  const std::string link = path + "-link";
  fs::remove(link);
  fs::create_symlink(path, link);
  EXPECT_FALSE(read_small_file(link, 1000)) << "a link is somebody else's file";
}

}  // namespace
}  // namespace remora
