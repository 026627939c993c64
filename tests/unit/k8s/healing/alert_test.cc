// What people are told of Incidents, and that nothing waits for it.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/healing/alert_sender.h"
#include "k8s/healing/alert_text.h"
#include "tests/fakes/fake_api_client.h"
#include "tests/fakes/fake_loop.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

IncidentRecord alerted(const std::string& name = "a-1") {
  IncidentRecord incident;
  incident.name = name;
  incident.uid = "uid-" + name;
  incident.spec.mutable_pod()->set_name("a");
  incident.spec.set_fault("crash_loop");
  incident.spec.set_summary("ends with code 3");
  incident.spec.set_detected_at("2026-01-01T00:00:00Z");
  for (const char* step : {"wait", "alert"}) {
    v1alpha1::IncidentStep& added = *incident.status.add_steps();
    added.set_name(step);
    added.set_state("done");
  }
  return incident;
}

IncidentRecord resolved(IncidentRecord incident) {
  incident.status.set_ended_at("2026-01-01T00:10:00Z");
  return incident;
}

class AlertSenderTest : public testing::Test {
 protected:
  AlertSenderTest() {
    std::vector<AlertReceiver> receivers;
    for (const char* name : {"alertmanager", "webhook"}) {
      auto client = std::make_unique<FakeApiClient>(loop_);
      client->answer = [this, name](const ApiRequest& request) -> std::optional<Result<ApiReply>> {
        if (status_ == 0) return std::nullopt;
        (std::string(name) == "webhook" ? hooks_ : alerts_).push_back(request.body);
        return ApiReply{.status = status_, .body = {}};
      };
      receivers.push_back(
          {.name = name, .path = std::string("/") + name, .client = std::move(client)});
    }
    sender_ = std::make_unique<AlertSender>(loop_, std::move(receivers), registry_, 1);
  }
  // As looks do it, every few seconds.
  void show(const IncidentRecord& incident, Duration span, const v1alpha1::Alerts& alerts = {}) {
    for (Duration passed{}; passed < span; passed += 5s) {
      sender_->see("n", incident, &alerts);
      loop_.run_for(5s);
    }
  }

  FakeLoop loop_;
  MetricRegistry registry_;
  int status_ = 200;
  std::vector<std::string> alerts_;
  std::vector<std::string> hooks_;
  std::unique_ptr<AlertSender> sender_;
};

TEST_F(AlertSenderTest, AnIncidentWithoutAStepLeftIsToldUntilItIsOver) {
  IncidentRecord healing = alerted();
  healing.status.mutable_steps()->RemoveLast();
  show(healing, 60s);
  EXPECT_THAT(alerts_, IsEmpty());
  show(alerted(), 150s);
  EXPECT_EQ(hooks_.size(), 1u);
  EXPECT_EQ(alerts_.size(), 3u) << "Alertmanager forgets what it doesn't hear of again";
  show(resolved(alerted()), 150s);
  ASSERT_EQ(hooks_.size(), 2u);
  EXPECT_EQ(Json::parse(hooks_[1])["event"], "resolved");
  ASSERT_EQ(alerts_.size(), 4u);
  EXPECT_EQ(Json::parse(alerts_[3])[0]["endsAt"], "2026-01-01T00:10:00Z");
  EXPECT_THAT(registry_.render(), HasSubstr("remora_operator_alerts_total"));
}

TEST_F(AlertSenderTest, AnEndWhoseBeginningNobodyHeardOfIsNotTold) {
  show(resolved(alerted()), 60s);
  EXPECT_THAT(alerts_, IsEmpty());
  EXPECT_THAT(hooks_, IsEmpty());
}

TEST_F(AlertSenderTest, WhatCanNotBeDeliveredIsTriedAgainAndLetGoInTheEnd) {
  status_ = 503;
  show(alerted(), 5s);
  loop_.run_for(10min);
  EXPECT_EQ(hooks_.size(), alert_attempts_max);
  status_ = 200;
  show(alerted("b-1"), 5s);
  EXPECT_EQ(hooks_.size(), alert_attempts_max + 1);
}

TEST_F(AlertSenderTest, WhatIsRefusedForGoodIsNotTriedAgain) {
  status_ = 400;
  show(alerted(), 5s);
  loop_.run_for(10min);
  EXPECT_EQ(hooks_.size(), 1u);
}

TEST_F(AlertSenderTest, AReceiverThatIsSilentHoldsUpNothingAndTakesBoundedRoom) {
  status_ = 0;
  for (size_t i = 0; i < 3 * alerts_waiting_max; ++i) {
    sender_->see("n", alerted("a-" + std::to_string(i)), nullptr);
  }
  loop_.run_for(1s);
  status_ = 200;
  loop_.run_for(1min);
  EXPECT_LE(hooks_.size(), alerts_waiting_max);
  EXPECT_GE(hooks_.size(), alerts_waiting_max - 1);
}

TEST_F(AlertSenderTest, APolicyChoosesReceiversAndAddsLabels) {
  v1alpha1::Alerts alerts;
  alerts.add_receivers("alertmanager");
  (*alerts.mutable_labels())["team/on-call"] = "shop";
  (*alerts.mutable_labels())["severity"] = "critical";
  (*alerts.mutable_labels())["alertname"] = "Mine";
  show(alerted(), 5s, alerts);
  EXPECT_THAT(hooks_, IsEmpty());
  const Json labels = Json::parse(alerts_.at(0))[0]["labels"];
  EXPECT_EQ(labels["team_on_call"], "shop");
  EXPECT_EQ(labels["severity"], "critical");
  EXPECT_EQ(labels["alertname"], "RemoraIncident");
  EXPECT_EQ(labels["incident"], "a-1");
}

}  // namespace
}  // namespace remora::k8s
