// AgentSnapshots: what sidecars hold, and requests that are carried out once.
#include "k8s/agents/agent_plan.h"

#include <nlohmann/json.hpp>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/agents/report.h"
#include "k8s/healing/facts.h"
#include "k8s/inject/json_view.h"

namespace remora::k8s {
namespace {

using testing::SizeIs;
using namespace std::chrono_literals;

const WallTime now = *parse_time("2026-01-01T00:00:00Z");

ConnectedAgent agent() {
  ConnectedAgent made{.pod = {"shop", "a-0", "uid-1", "n1"}, .container = "agent", .claim = {}};
  link::v1::SnapshotReport report;
  for (const char* id : {"00000001-aa", "00000002-bb", "00000003-cc"}) {
    link::v1::Snapshot& one = *report.add_snapshots();
    one.set_id(id);
    one.set_taken_at_unix_ns(1'767'225'600'000'000'000);
    one.set_bytes(10);
  }
  report.mutable_snapshots(2)->set_problem("its record is cut off");
  made.snapshots = stored_snapshots(report);
  made.snapshot_count = 3;
  return made;
}

// As the API server would hand it back.
AgentRecord stored(const ConnectedAgent& connected, v1alpha1::AgentSnapshotStatus status = {}) {
  Json body = Json::parse(new_agent_text(connected));
  body["metadata"]["uid"] = "u";
  body["metadata"]["resourceVersion"] = "1";
  AgentRecord record = *read_agent(*make_object(body));
  body["status"] = Json::parse(agent_status_text(record, status))["status"];
  return *read_agent(*make_object(std::move(body)));
}

AgentRecord settled(const ConnectedAgent& connected) {
  return stored(connected, *next_status(stored(connected), &connected, false, now));
}

void ask(AgentRecord& record, const std::string& id, const std::string& action = "Restore",
         const std::string& snapshot = "00000001-aa") {
  record.spec.mutable_request()->set_id(id);
  record.spec.mutable_request()->set_action(action);
  record.spec.mutable_request()->set_snapshot(snapshot);
}

TEST(AgentPlanTest, TheCatalogueIsWhatTheSidecarSays) {
  const AgentRecord record = settled(agent());
  EXPECT_EQ(record.name, "a-0.agent");
  EXPECT_EQ(record.status.pod().uid(), "uid-1");
  EXPECT_TRUE(record.status.connected());
  EXPECT_THAT(record.status.snapshots(), SizeIs(3));
  EXPECT_EQ(record.status.latest(), "00000002-bb") << "the newest intact one";
  EXPECT_FALSE(record.status.snapshots(2).intact());
  EXPECT_EQ(record.status.snapshots(2).problem(), "its record is cut off");
  const ConnectedAgent again = agent();
  EXPECT_FALSE(next_status(record, &again, false, now + 1h)) << "nothing new, nothing written";
}

TEST(AgentPlanTest, WhatTheStoreRemovesGoesFromTheCatalogue) {
  const AgentRecord record = settled(agent());
  ConnectedAgent later = agent();
  later.snapshots->erase(later.snapshots->begin());
  later.snapshot_count = 2;
  const auto status = next_status(record, &later, false, now + 1h);
  ASSERT_TRUE(status);
  EXPECT_THAT(status->snapshots(), SizeIs(2));
  EXPECT_EQ(status->observed_at(), "2026-01-01T01:00:00Z");
}

TEST(AgentPlanTest, AnObjectOfThePodGoesWithItAndOneOfAClaimStays) {
  ConnectedAgent connected = agent();
  EXPECT_EQ(Json::parse(new_agent_text(connected))["metadata"]["ownerReferences"][0]["uid"],
            "uid-1");
  connected.claim = "data-a-0";
  const Json kept = Json::parse(new_agent_text(connected));
  EXPECT_FALSE(kept["metadata"].contains("ownerReferences")) << "whose it is can't be known";
  EXPECT_EQ(kept["metadata"]["name"], "data-a-0.agent");
  EXPECT_EQ(kept["spec"]["claim"], "data-a-0");
  EXPECT_TRUE(needs_claim(connected));
  connected.claim_uid = claim_uid_of(R"({"metadata": {"uid": "uid-claim"}})");
  EXPECT_FALSE(needs_claim(connected));
  const Json owner = Json::parse(new_agent_text(connected))["metadata"]["ownerReferences"][0];
  EXPECT_EQ(owner["kind"], "PersistentVolumeClaim");
  EXPECT_EQ(owner["name"], "data-a-0");
  EXPECT_EQ(owner["uid"], "uid-claim");
  connected.claim.clear();
  connected.pod.pod = std::string(253, 'p');
  EXPECT_LE(connected.object_name().size(), 253u);
}

TEST(AgentPlanTest, ARequestIsWrittenDownThenSentThenAnswered) {
  ConnectedAgent connected = agent();
  AgentRecord record = settled(connected);
  ask(record, "r1");
  EXPECT_FALSE(next_command(record, connected)) << "not before it is written down";
  record.status = *next_status(record, &connected, false, now);
  EXPECT_EQ(record.status.request().state(), "Sent");
  // Somebody writes another one meanwhile: that waits.
  ask(record, "r2", "Restart", "");
  const auto command = next_command(record, connected);
  ASSERT_TRUE(command);
  EXPECT_EQ(command->id(), "r1");
  EXPECT_EQ(command->action(), "Restore");
  EXPECT_EQ(command->snapshot(), "00000001-aa");
  connected.sent = "r1";
  EXPECT_FALSE(next_command(record, connected)) << "once for each call of the sidecar";
  EXPECT_FALSE(next_status(record, &connected, false, now + 1min));

  connected.outcome.emplace();
  connected.outcome->set_id("r1");
  connected.outcome->set_done(true);
  connected.outcome->set_snapshot("00000001-aa");
  record.status = *next_status(record, &connected, false, now + 1min);
  EXPECT_EQ(record.status.request().state(), "Done");
  EXPECT_EQ(record.status.request().ended_at(), "2026-01-01T00:01:00Z");
  record.status = *next_status(record, &connected, false, now + 1min);
  EXPECT_EQ(record.status.request().id(), "r2") << "now it is its turn";
  EXPECT_EQ(record.status.request().state(), "Sent");
}

TEST(AgentPlanTest, ASentRequestIsSentAgainToASidecarThatCallsAgainAndNoneTwiceAfterItsEnd) {
  ConnectedAgent connected = agent();
  AgentRecord record = settled(connected);
  ask(record, "r1");
  record.status = *next_status(record, &connected, false, now);
  connected.sent = "r1";
  ConnectedAgent again = agent();  // a new call
  EXPECT_TRUE(next_command(record, again));
  again.outcome.emplace();
  again.outcome->set_id("r1");
  again.outcome->set_message("no such snapshot");
  record.status = *next_status(record, &again, false, now);
  EXPECT_EQ(record.status.request().state(), "Failed");
  EXPECT_EQ(record.status.request().message(), "no such snapshot");
  EXPECT_FALSE(next_status(record, &again, false, now));
  EXPECT_FALSE(next_command(record, again));
}

TEST(AgentPlanTest, ARequestWaitsForASidecarThatIsAway) {
  AgentRecord record = settled(agent());
  ask(record, "r1");
  EXPECT_FALSE(next_status(record, nullptr, false, now)) << "it may only have changed operators";
  const auto gone = next_status(record, nullptr, true, now);
  ASSERT_TRUE(gone);
  EXPECT_FALSE(gone->connected());
  EXPECT_FALSE(gone->has_request());
}

}  // namespace
}  // namespace remora::k8s
