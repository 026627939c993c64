// What the pod's Events say, and that an account without the right is left in peace.
#include "sidecar/app/pod_events.h"

#include <nlohmann/json.hpp>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_loop.h"

namespace remora {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

const PodIdentity kPod{.name = "agent-1", .namespace_name = "shop", .uid = "u-1", .node = "n1"};

Incident incident(IncidentStatus status, ClosedReason reason = ClosedReason::kNone) {
  Incident one;
  one.id = "20260101T000000.000Z-hang-1";
  one.fault = FaultKind::kHang;
  one.summary = "a request has been in the agent for 31 s";
  one.status = status;
  one.closed_reason = reason;
  one.began_at_unix_ns = 1'000'000'000;
  if (reason == ClosedReason::kRecovered) one.ready_at_unix_ns = 3'500'000'000;
  return one;
}

TEST(PodEventTest, SaysWhatWasFoundAtTheContainer) {
  const Json event =
      Json::parse(pod_event(kPod, "planner", incident(IncidentStatus::kOpen), 1'767'225'600));
  EXPECT_EQ(event["reason"], "RemoraFoundFault");
  EXPECT_EQ(event["type"], "Warning");
  EXPECT_EQ(event["message"], "container planner: hang: a request has been in the agent for 31 s");
  EXPECT_EQ(event["involvedObject"]["uid"], "u-1");
  EXPECT_EQ(event["involvedObject"]["fieldPath"], "spec.containers{planner}");
  EXPECT_EQ(event["metadata"]["namespace"], "shop");
  EXPECT_EQ(event["lastTimestamp"], "2026-01-01T00:00:00Z");
}

TEST(PodEventTest, SaysHowItEnded) {
  const Json healed = Json::parse(
      pod_event(kPod, "planner", incident(IncidentStatus::kClosed, ClosedReason::kRecovered), 0));
  EXPECT_EQ(healed["reason"], "RemoraHealed");
  EXPECT_EQ(healed["type"], "Normal");
  EXPECT_THAT(healed["message"].get<std::string>(), HasSubstr("ready 2.5 s after"));
  const Json gave_up = Json::parse(
      pod_event(kPod, "planner", incident(IncidentStatus::kClosed, ClosedReason::kGaveUp), 0));
  EXPECT_EQ(gave_up["reason"], "RemoraGaveUp");
  EXPECT_EQ(gave_up["type"], "Warning");
}

TEST(PodEventTest, LongAndBrokenTextsFit) {
  Incident one = incident(IncidentStatus::kOpen);
  one.summary = std::string(4000, 'x') + "\xff";
  EXPECT_LE(Json::parse(pod_event(kPod, "a", one, 0))["message"].get<std::string>().size(), 1024u);
  one.summary = "\xff\xfe";
  EXPECT_FALSE(Json::parse(pod_event(kPod, "a", one, 0)).empty());
}

// Answers when told to.
class FakeClient final : public k8s::ApiClient {
 public:
  struct Call final : k8s::ApiCall {};
  std::unique_ptr<k8s::ApiCall> call(k8s::ApiRequest request, Done done) override {
    requests.push_back(std::move(request));
    done_ = std::move(done);
    return std::make_unique<Call>();
  }
  std::unique_ptr<k8s::ApiCall> stream(k8s::ApiRequest, Data, Done) override { return nullptr; }
  k8s::ApiClientStats stats() const override { return {}; }
  void answer(int status) {
    std::exchange(done_, Done())(k8s::ApiReply{.status = status, .body = "{}"});
  }

  std::vector<k8s::ApiRequest> requests;

 private:
  Done done_;
};

class PodEventsTest : public testing::Test {
 protected:
  PodEventsTest() {
    auto client = std::make_unique<FakeClient>();
    client_ = client.get();
    events_ = std::make_unique<PodEvents>(loop_, std::move(client), kPod);
  }
  void tell(ClosedReason reason = ClosedReason::kNone) {
    events_->tell("planner", incident(reason == ClosedReason::kNone ? IncidentStatus::kOpen
                                                                    : IncidentStatus::kClosed,
                                      reason));
  }

  FakeLoop loop_;
  FakeClient* client_ = nullptr;
  std::unique_ptr<PodEvents> events_;
};

TEST_F(PodEventsTest, GoOutOneAfterAnother) {
  tell();
  tell(ClosedReason::kRecovered);
  tell(ClosedReason::kSuperseded);  // says nothing
  ASSERT_EQ(client_->requests.size(), 1u);
  EXPECT_EQ(client_->requests[0].path, "/api/v1/namespaces/shop/events");
  client_->answer(201);
  ASSERT_EQ(client_->requests.size(), 2u);
  EXPECT_THAT(client_->requests[1].body, HasSubstr("RemoraHealed"));
  client_->answer(500);  // lost
  EXPECT_EQ(client_->requests.size(), 2u);
  tell();
  EXPECT_EQ(client_->requests.size(), 3u) << "a failure is of one event only";
}

TEST_F(PodEventsTest, StopWhereTheyAreForbidden) {
  tell();
  tell();
  client_->answer(403);
  tell();
  EXPECT_EQ(client_->requests.size(), 1u);
}

TEST_F(PodEventsTest, WaitInBoundedNumber) {
  for (size_t i = 0; i < 3 * pod_events_waiting_max; ++i) tell();
  for (size_t i = 0; i < pod_events_waiting_max; ++i) client_->answer(201);
  EXPECT_EQ(client_->requests.size(), 1 + pod_events_waiting_max);
  client_->answer(201);
  EXPECT_EQ(client_->requests.size(), 1 + pod_events_waiting_max);
}

}  // namespace
}  // namespace remora
