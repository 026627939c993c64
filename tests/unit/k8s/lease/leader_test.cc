// Leader election in virtual time, against a Lease that is stored as an API server stores it.
#include "k8s/lease/leader.h"

#include <algorithm>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_api_client.h"
#include "tests/fakes/fake_loop.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

// The one Lease, with versions and conflicts.
class LeaseStore {
 public:
  std::optional<Result<ApiReply>> answer(const ApiRequest& request) {
    if (silent) return std::nullopt;
    if (down) return make_error(ErrorCode::kUnavailable, ErrorSource::kUpstream, "down", true);
    if (request.method == "GET") {
      return stored_ ? reply(200, text()) : reply(404, "{}");
    }
    LeaseRecord wanted = *read_lease(request.body);
    if (request.method == "POST" && stored_) return reply(409, R"({"reason":"AlreadyExists"})");
    if (request.method == "PUT" && (!stored_ || wanted.resource_version != version())) {
      return reply(409, R"({"reason":"Conflict"})");
    }
    store(std::move(wanted));
    ++writes;
    if (loses_answers) {
      return make_error(ErrorCode::kReset, ErrorSource::kUpstream, "cut off", true);
    }
    return reply(request.method == "POST" ? 201 : 200, text());
  }
  void store(LeaseRecord record) {
    ++version_;
    record.resource_version = version();
    stored_ = std::move(record);
  }
  const LeaseRecord& record() const { return *stored_; }
  bool exists() const { return stored_.has_value(); }

  bool silent = false;
  bool down = false;
  bool loses_answers = false;
  int writes = 0;

 private:
  static Result<ApiReply> reply(int status, std::string body) {
    return ApiReply{.status = status, .body = std::move(body)};
  }
  std::string version() const { return std::to_string(version_); }
  std::string text() const { return write_lease(*stored_, "remora-system", "remora-operator"); }

  std::optional<LeaseRecord> stored_;
  int version_ = 0;
};

class LeaderTest : public testing::Test {
 protected:
  LeaderTest()
      : client_(loop_),
        leader_(
            loop_, client_,
            {.namespace_name = "remora-system", .name = "remora-operator", .identity = "me"},
            [this] { ++elected_; }, [this] { ++lost_; }) {
    client_.answer = [this](const ApiRequest& request) { return store_.answer(request); };
  }
  LeaseRecord others() const {
    LeaseRecord record;
    record.holder = "other";
    record.duration_s = 15;
    record.acquire_time = record.renew_time = "2026-01-01T00:00:00.000000Z";
    record.transitions = 3;
    return record;
  }
  void lead() {
    leader_.start();
    loop_.run_for(1s);
    ASSERT_TRUE(leader_.leads());
    ASSERT_EQ(elected_, 1);
  }

  FakeLoop loop_;
  LeaseStore store_;
  FakeApiClient client_;
  int elected_ = 0;
  int lost_ = 0;
  Leader leader_;
};

TEST_F(LeaderTest, WithoutALeaseItIsMadeAndRenewed) {
  lead();
  EXPECT_EQ(store_.record().holder, "me");
  EXPECT_EQ(store_.record().duration_s, 15);
  EXPECT_EQ(store_.record().transitions, 0);
  const LeaseRecord first = store_.record();
  loop_.run_for(60s);
  EXPECT_EQ(elected_, 1);
  EXPECT_EQ(lost_, 0);
  EXPECT_NEAR(store_.writes, 31, 1);
  EXPECT_EQ(store_.record().acquire_time, first.acquire_time);
  EXPECT_NE(store_.record().renew_time, first.renew_time);
}

TEST_F(LeaderTest, AnotherHoldersLeaseIsLeftUntilItHasBeenStillForItsWholeDuration) {
  store_.store(others());
  leader_.start();
  loop_.run_for(14s);
  EXPECT_EQ(store_.writes, 0);
  LeaseRecord renewed = others();
  renewed.renew_time = "2026-01-01T00:00:14.000000Z";
  store_.store(renewed);
  loop_.run_for(14s);
  EXPECT_EQ(store_.writes, 0) << "it was renewed in between";
  loop_.run_for(6s);
  EXPECT_TRUE(leader_.leads());
  EXPECT_EQ(store_.record().holder, "me");
  EXPECT_EQ(store_.record().transitions, 4);
}

TEST_F(LeaderTest, ALeaseThatWasGivenBackIsTakenAtOnce) {
  LeaseRecord free = others();
  free.holder.clear();
  store_.store(free);
  leader_.start();
  loop_.run_for(1s);
  EXPECT_TRUE(leader_.leads());
}

TEST_F(LeaderTest, ALeaderThatWasStoppedPastItsLeaseWritesNothingAndHasLost) {
  lead();
  // Its next write is under way when it is stopped, and another waits for its turn.
  const size_t sent = client_.sent.size();
  loop_.freeze_for(20s);
  store_.store(others());
  EXPECT_FALSE(leader_.may_write());
  EXPECT_FALSE(leader_.leads());
  loop_.run_for(60s);
  EXPECT_EQ(lost_, 1);
  EXPECT_EQ(store_.record().holder, "other");
  for (size_t i = sent; i < client_.sent.size(); ++i) {
    EXPECT_THAT(client_.sent[i], testing::StartsWith("GET ")) << "written after the lease was lost";
  }
}

TEST_F(LeaderTest, AtAnyMomentOfAStopNothingIsWrittenPastTheDeadline) {
  for (int ms = 0; ms < 4'000; ms += 50) {
    FakeLoop loop(static_cast<uint64_t>(ms) + 1);
    LeaseStore store;
    FakeApiClient client(loop);
    client.answer = [&](const ApiRequest& request) { return store.answer(request); };
    int lost = 0;
    Leader leader(
        loop, client, {.namespace_name = "n", .name = "l", .identity = "me"}, [] {},
        [&] { ++lost; });
    leader.start();
    loop.run_for(1s + std::chrono::milliseconds(ms));
    ASSERT_TRUE(leader.leads());
    const int writes = store.writes;
    loop.freeze_for(std::chrono::milliseconds(lease_renew_deadline_ms));
    loop.run_for(30s);
    EXPECT_EQ(store.writes, writes) << ms;
    EXPECT_EQ(lost, 1) << ms;
  }
}

TEST_F(LeaderTest, AShortStopLosesNothing) {
  lead();
  loop_.freeze_for(7s);
  loop_.run_for(60s);
  EXPECT_TRUE(leader_.leads());
  EXPECT_EQ(lost_, 0);
}

TEST_F(LeaderTest, AnApiServerThatIsDownCostsTheLeadAfterTheRenewDeadline) {
  lead();
  store_.down = true;
  loop_.run_for(7s);
  EXPECT_TRUE(leader_.leads());
  loop_.run_for(4s);
  EXPECT_FALSE(leader_.leads());
  EXPECT_EQ(lost_, 1);
}

TEST_F(LeaderTest, AnApiServerThatDoesNotAnswerCostsItToo) {
  lead();
  store_.silent = true;
  loop_.run_for(11s);
  EXPECT_EQ(lost_, 1);
}

TEST_F(LeaderTest, AShortOutageIsSurvived) {
  lead();
  store_.down = true;
  loop_.run_for(6s);
  store_.down = false;
  loop_.run_for(60s);
  EXPECT_TRUE(leader_.leads());
  EXPECT_EQ(lost_, 0);
}

TEST_F(LeaderTest, ARenewalWhoseAnswerWasLostIsFoundAgain) {
  lead();
  store_.loses_answers = true;
  loop_.run_for(4s);
  store_.loses_answers = false;
  loop_.run_for(60s);
  EXPECT_TRUE(leader_.leads());
  EXPECT_EQ(lost_, 0);
}

TEST_F(LeaderTest, WhoseLeaseWasTakenHasLost) {
  lead();
  store_.store(others());
  loop_.run_for(5s);
  EXPECT_EQ(lost_, 1);
  EXPECT_EQ(store_.record().holder, "other");
}

TEST_F(LeaderTest, ADeletedLeaseIsMadeAnew) {
  lead();
  store_ = {};
  loop_.run_for(6s);
  EXPECT_TRUE(leader_.leads());
  EXPECT_EQ(store_.record().holder, "me");
}

TEST_F(LeaderTest, ResigningGivesTheLeaseBack) {
  lead();
  bool done = false;
  leader_.resign([&] { done = true; });
  loop_.run_for(1s);
  EXPECT_TRUE(done);
  EXPECT_EQ(store_.record().holder, "");
  EXPECT_FALSE(leader_.leads());
  loop_.run_for(60s);
  EXPECT_EQ(lost_, 0);
  EXPECT_EQ(store_.record().holder, "") << "taken again after it was given back";
}

TEST_F(LeaderTest, AFollowerResignsWithoutAWord) {
  store_.store(others());
  leader_.start();
  loop_.run_for(3s);
  bool done = false;
  leader_.resign([&] { done = true; });
  loop_.run_for(60s);
  EXPECT_TRUE(done);
  EXPECT_EQ(store_.writes, 0);
  EXPECT_EQ(elected_, 0);
}

TEST_F(LeaderTest, ResigningToAServerThatIsSilentEnds) {
  lead();
  store_.silent = true;
  bool done = false;
  leader_.resign([&] { done = true; });
  loop_.run_for(3s);
  EXPECT_TRUE(done);
}

TEST(LeaseRecordTest, IsReadAsItIsWritten) {
  LeaseRecord record;
  record.holder = "me";
  record.duration_s = 15;
  record.acquire_time = "2026-01-01T00:00:00.000000Z";
  record.renew_time = "2026-01-01T00:00:02.000001Z";
  record.transitions = 7;
  record.resource_version = "12";
  const std::string text = write_lease(record, "n", "l");
  EXPECT_THAT(text, HasSubstr(R"("kind":"Lease")"));
  const LeaseRecord read = *read_lease(text);
  EXPECT_TRUE(read.same_as(record));
  EXPECT_EQ(read.duration_s, 15);
  EXPECT_EQ(read.resource_version, "12");
  for (const char* bad : {"", "[]", "{}", R"({"metadata":[]})"}) {
    EXPECT_EQ(read_lease(bad).error().code, ErrorCode::kProtocol) << bad;
  }
  EXPECT_EQ(read_lease(R"({"metadata":{},"spec":{"holderIdentity":5}})")->holder, "");
}

TEST(LeaseRecordTest, TimesAreKubernetesMicroTime) {
  EXPECT_EQ(micro_time(WallTime(1'767'225'600s + 1'234us)), "2026-01-01T00:00:00.001234Z");
  EXPECT_EQ(micro_time(WallTime(0s)), "1970-01-01T00:00:00.000000Z");
}

}  // namespace
}  // namespace remora::k8s
