// Whose an agent's identity is: judged, and kept in Leases that are stored as an API server stores
// them.
#include "k8s/agents/identity_leases.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_api_client.h"
#include "tests/fakes/fake_loop.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

const WallTime now{};

TEST(JudgeHoldTest, TheFirstOneHasIt) {
  const HoldVerdict verdict = judge_hold(std::nullopt, "a_1", 3, false, now);
  ASSERT_TRUE(verdict.write.has_value());
  EXPECT_EQ(verdict.write->holder, "a_1");
  EXPECT_EQ(verdict.write->transitions, 3);
  EXPECT_EQ(verdict.write->duration_s, identity_lease_duration_s);
  EXPECT_FALSE(verdict.is_lost);
}

TEST(JudgeHoldTest, AHigherEpochTakesItAndALowerOneHasLostIt) {
  const LeaseRecord first = *judge_hold(std::nullopt, "a_1", 3, false, now).write;
  EXPECT_EQ(judge_hold(first, "a_1", 4, true, now).write->transitions, 4) << "begun anew";
  const LeaseRecord second = *judge_hold(first, "b_2", 4, true, now).write;
  EXPECT_EQ(second.holder, "b_2");
  for (const uint64_t epoch : {3, 4}) {
    const HoldVerdict stale = judge_hold(second, "a_1", epoch, true, now);
    EXPECT_TRUE(stale.is_lost);
    EXPECT_FALSE(stale.write.has_value());
  }
}

TEST(JudgeHoldTest, AStoreThatWasMadeAnewBeginsWhereTheLeaseIs) {
  const LeaseRecord old = *judge_hold(std::nullopt, "a_1", 7, false, now).write;
  const HoldVerdict verdict = judge_hold(old, "b_2", 1, /*holder_lives=*/false, now);
  ASSERT_TRUE(verdict.write.has_value());
  EXPECT_EQ(verdict.write->holder, "b_2");
  EXPECT_EQ(verdict.write->transitions, 8) << "it only grows";
}

TEST(FenceLeaseTest, TheFencedOneHasLostItAndWhoeverComesNextGetsIt) {
  const LeaseRecord held = *judge_hold(std::nullopt, "a_1", 3, false, now).write;
  const auto fenced = fence_lease(held, "a_1", 3, now);
  ASSERT_TRUE(fenced.has_value());
  EXPECT_TRUE(is_fenced(*fenced));
  EXPECT_EQ(fenced->transitions, 4);
  EXPECT_EQ(uid_of_holder(*fenced), "1");
  // Its container may begin anew, and so claim a higher epoch in the store.
  for (const uint64_t epoch : {3, 4, 9}) {
    EXPECT_TRUE(judge_hold(*fenced, "a_1", epoch, true, now).is_lost);
  }
  const HoldVerdict next = judge_hold(*fenced, "b_2", 4, true, now);
  EXPECT_EQ(next.write->holder, "b_2");
  EXPECT_EQ(next.write->transitions, 4);
  EXPECT_TRUE(judge_hold(*fenced, "z_0", 2, true, now).is_lost) << "one from before that";
  EXPECT_FALSE(fence_lease(*fenced, "a_1", 3, now).has_value()) << "it is already";
  EXPECT_FALSE(fence_lease(*next.write, "a_1", 3, now).has_value()) << "another one has it";
  EXPECT_EQ(unfence_lease(*fenced, "a_1", now)->holder, "a_1");
  EXPECT_EQ(unfence_lease(*fenced, "a_1", now)->transitions, 4);
  EXPECT_FALSE(unfence_lease(*next.write, "a_1", now).has_value());
  EXPECT_TRUE(is_fenced(*fence_lease(std::nullopt, "a_1", 3, now))) << "nobody had said so yet";
}

class IdentityLeasesTest : public testing::Test {
 protected:
  IdentityLeasesTest() {
    client_.answer = [this](const ApiRequest& request) { return answer(request); };
  }
  std::optional<Result<ApiReply>> answer(const ApiRequest& request) {
    if (failures_left_ > 0) {
      --failures_left_;
      return make_error(ErrorCode::kUnavailable, ErrorSource::kUpstream, "down", true);
    }
    const std::string collection = "/apis/coordination.k8s.io/v1/namespaces/remora-system/leases";
    const std::string name =
        request.path == collection ? "" : request.path.substr(collection.size() + 1);
    if (request.method == "GET") {
      const auto found = stored_.find(name);
      if (found == stored_.end()) return reply(404, "{}");
      return reply(200, write_lease(found->second, "remora-system", name));
    }
    if (request.method == "DELETE") return reply(stored_.erase(name) > 0 ? 200 : 404, "{}");
    LeaseRecord wanted = *read_lease(request.body);
    if (before_write_) std::exchange(before_write_, nullptr)();
    const std::string key = request.method == "POST" ? identity_.lease() : name;
    const bool there = stored_.contains(key);
    const bool fits = request.method == "POST"
                          ? !there
                          : there && stored_[key].resource_version == wanted.resource_version;
    if (!fits) return reply(409, R"({"reason":"Conflict"})");
    store(std::move(wanted));
    return reply(200, write_lease(stored_[key], "remora-system", key));
  }
  void store(LeaseRecord record) {
    record.resource_version = std::to_string(++version_);
    stored_[identity_.lease()] = std::move(record);
  }
  static Result<ApiReply> reply(int status, std::string body) {
    return ApiReply{.status = status, .body = std::move(body)};
  }
  const LeaseRecord& lease() { return stored_.at(identity_.lease()); }

  FakeLoop loop_;
  MetricRegistry registry_;
  FakeApiClient client_{loop_};
  bool may_write_ = true;
  std::vector<std::string> pods_{"1", "2"};
  IdentityLeases leases_{loop_,
                         client_,
                         {.namespace_name = "remora-system",
                          .may_write = [this] { return may_write_; },
                          .pod_exists =
                              [this](const std::string&, const std::string& uid) {
                                return std::ranges::find(pods_, uid) != pods_.end();
                              }},
                         registry_};
  const Identity identity_{
      .namespace_name = "shop", .agent = "state.agent", .pod = "a", .pod_uid = "1"};
  const Identity next_{
      .namespace_name = "shop", .agent = "state.agent", .pod = "b", .pod_uid = "2"};
  std::map<std::string, LeaseRecord> stored_;
  int version_ = 0;
  int failures_left_ = 0;
  std::function<void()> before_write_;
  std::vector<std::string> lost_;
};

TEST_F(IdentityLeasesTest, IsHeldFencedAndTakenOver) {
  const auto lost = [this](const LeaseRecord& newer) { lost_.push_back(newer.holder); };
  leases_.hold(identity_, 3, lost);
  loop_.run_for(1s);
  EXPECT_EQ(lease().holder, "a_1");
  EXPECT_EQ(lease().transitions, 3);
  std::optional<int64_t> fenced;
  leases_.fence(identity_, 3, [&](const Result<int64_t>& epoch) { fenced = *epoch; });
  loop_.run_for(1s);
  EXPECT_EQ(fenced, 4);
  EXPECT_TRUE(is_fenced(lease()));
  leases_.hold(identity_, 3, lost);
  loop_.run_for(1s);
  EXPECT_THAT(lost_, ElementsAre("fenced:a_1"));
  leases_.hold(next_, 4, lost);
  loop_.run_for(1s);
  EXPECT_EQ(lease().holder, "b_2");
  leases_.fence(identity_, 3, [&](const Result<int64_t>& epoch) { fenced = *epoch; });
  loop_.run_for(1s);
  EXPECT_EQ(fenced, 0) << "there is nothing left to fence";
  EXPECT_EQ(lease().holder, "b_2");
  leases_.end("shop", "state.agent");
  loop_.run_for(1s);
  EXPECT_THAT(stored_, IsEmpty());
}

TEST_F(IdentityLeasesTest, AFenceIsWrittenOnceHoweverOftenItIsAsked) {
  leases_.hold(identity_, 3, {});
  loop_.run_for(1s);
  std::vector<int64_t> epochs;
  for (int i = 0; i < 2; ++i) {
    leases_.fence(identity_, 3, [&](const Result<int64_t>& epoch) { epochs.push_back(*epoch); });
    loop_.run_for(1s);
  }
  EXPECT_THAT(epochs, ElementsAre(4, 4));
}

TEST_F(IdentityLeasesTest, WhatHasChangedMeanwhileIsDecidedAnew) {
  leases_.hold(identity_, 3, {});
  loop_.run_for(1s);
  before_write_ = [this] { store(*judge_hold(lease(), "b_2", 4, true, now).write); };
  std::optional<int64_t> fenced;
  leases_.fence(identity_, 3, [&](const Result<int64_t>& epoch) { fenced = *epoch; });
  loop_.run_for(2s);
  EXPECT_EQ(fenced, 0);
  EXPECT_EQ(lease().holder, "b_2") << "the new owner was not fenced for the old one";
}

TEST_F(IdentityLeasesTest, AnApiServerThatIsAwayIsAskedAgainAndThenGivenUp) {
  failures_left_ = 3;
  std::optional<Result<int64_t>> fenced;
  leases_.fence(identity_, 3, [&](const Result<int64_t>& epoch) { fenced = epoch; });
  loop_.run_for(5s);
  ASSERT_TRUE(fenced.has_value());
  EXPECT_TRUE(fenced->has_value());
  failures_left_ = 100;
  fenced.reset();
  leases_.fence(next_, 3, [&](const Result<int64_t>& epoch) { fenced = epoch; });
  loop_.run_for(5s);
  ASSERT_TRUE(fenced.has_value());
  EXPECT_FALSE(fenced->has_value()) << "then the pod is not moved";
}

TEST_F(IdentityLeasesTest, WhoDoesNotLeadWritesNothing) {
  may_write_ = false;
  std::optional<Result<int64_t>> fenced;
  leases_.fence(identity_, 3, [&](const Result<int64_t>& epoch) { fenced = epoch; });
  loop_.run_for(5s);
  ASSERT_TRUE(fenced.has_value());
  EXPECT_EQ(fenced->error().code, ErrorCode::kCancelled);
  EXPECT_THAT(stored_, IsEmpty());
}

TEST(IdentityLeaseNameTest, FitsAndTellsIdentitiesApart) {
  EXPECT_THAT(identity_lease_name("shop", "state.agent"), HasSubstr("agent-shop-state-agent-"));
  EXPECT_NE(identity_lease_name("a", "b.c"), identity_lease_name("a.b", "c"));
  EXPECT_LE(identity_lease_name(std::string(63, 'n'), std::string(253, 'a')).size(), 253U);
}

}  // namespace
}  // namespace remora::k8s
