// Incidents as text: what is written is read back, and what strangers wrote never hurts.
#include "sidecar/heal/incident.h"

#include <nlohmann/json.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sidecar/heal/incident_text.h"

namespace remora {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t second = 1'000'000'000;
constexpr int64_t began = 1'795'580'100 * second;  // 2026-11-25T04:15:00Z

Incident sample() {
  Incident incident;
  incident.id = make_incident_id(began + 2 * second, FaultKind::kDeadlock, 0x123456789);
  incident.fault = FaultKind::kDeadlock;
  incident.summary = "threads 11 and 12 wait for each other";
  incident.generation = 3;
  incident.evidence = {{"thread", "thread 11 (worker) waits for mutex 0x7f held by thread 12"},
                       {"lock", "mutex 0x7f"}};
  incident.log_tail = "one\ntwo\n";
  incident.requests_in_flight = {"POST /invoke, 31.2 s"};
  incident.steps = {{HealAction::kRestart, "deadlock, attempt 1", began + 2 * second,
                     began + 3 * second, began + 5 * second, "ready"}};
  incident.began_at_unix_ns = began;
  incident.detected_at_unix_ns = began + 2 * second;
  incident.decided_at_unix_ns = began + 2 * second;
  incident.acted_at_unix_ns = began + 3 * second;
  incident.ready_at_unix_ns = began + 5 * second;
  incident.closed_at_unix_ns = began + 5 * second;
  incident.status = IncidentStatus::kClosed;
  incident.closed_reason = ClosedReason::kRecovered;
  return incident;
}

TEST(IncidentId, IsReadableAndSortsByTime) {
  const std::string id = make_incident_id(began + 123'000'000, FaultKind::kCrash, 0xabcdef012345);
  EXPECT_EQ(id, "20261125T041500.123Z-crash-012345");
  EXPECT_TRUE(is_incident_id(id));
  EXPECT_LT(make_incident_id(began, FaultKind::kStateDamaged, ~0ull),
            make_incident_id(began + 1'000'000, FaultKind::kCrash, 0));
}

TEST(IncidentId, IsSafeAsAFileName) {
  const std::vector<std::string> bad_ids = {
      "", ".", "..", ".hidden", "a/b", "../x", "a b", "a\n", "caf\xc3\xa9", std::string("a\0b", 3)};
  for (const std::string& bad : bad_ids) {
    EXPECT_FALSE(is_incident_id(bad)) << bad;
  }
  EXPECT_FALSE(is_incident_id(std::string(101, 'a')));
  EXPECT_TRUE(is_incident_id(std::string(100, 'a')));
}

TEST(IncidentJson, RoundTrips) {
  const Incident incident = sample();
  const std::string text = incident_to_json(incident);
  const auto read = incident_from_json(text);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(incident_to_json(*read), text);
  EXPECT_EQ(read->fault, FaultKind::kDeadlock);
  EXPECT_EQ(read->steps.at(0).outcome, "ready");
  EXPECT_EQ(read->evidence.at(1).text, "mutex 0x7f");
}

TEST(IncidentJson, HasTheFaultInAFieldOfItsOwnAndTheDerivedTimes) {
  const auto object = nlohmann::json::parse(incident_to_json(sample()));
  EXPECT_EQ(object["fault"], "deadlock");
  EXPECT_EQ(object["status"], "closed");
  EXPECT_EQ(object["closed_reason"], "recovered");
  EXPECT_DOUBLE_EQ(object["detect_s"], 2);
  EXPECT_DOUBLE_EQ(object["decide_s"], 0);
  EXPECT_DOUBLE_EQ(object["act_s"], 1);
  EXPECT_DOUBLE_EQ(object["ready_s"], 2);
  EXPECT_DOUBLE_EQ(object["mttr_s"], 5);
}

TEST(IncidentJson, TimesThatDidNotHappenAreNull) {
  Incident incident = sample();
  incident.ready_at_unix_ns = 0;
  incident.acted_at_unix_ns = 0;
  const auto object = nlohmann::json::parse(incident_to_json(incident));
  EXPECT_TRUE(object["act_s"].is_null());
  EXPECT_TRUE(object["ready_s"].is_null());
  EXPECT_TRUE(object["mttr_s"].is_null());
}

TEST(IncidentJson, MendsTextThatIsNotUtf8) {
  Incident incident = sample();
  incident.log_tail = "bad \xff\xfe bytes";
  incident.summary = std::string(incident_text_bytes_max, '\xff');
  const auto read = incident_from_json(incident_to_json(incident));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_THAT(read->log_tail, HasSubstr("bad \xef\xbf\xbd\xef\xbf\xbd bytes"));
}

TEST(IncidentJson, LeavesOutWhatIsTooMuchAndSaysSo) {
  Incident incident = sample();
  incident.summary.assign(incident_text_bytes_max + 7, 's');
  incident.log_tail.assign(incident_log_tail_bytes_max + 1000, 'l');
  incident.evidence.assign(incident_evidence_max + 5, {"thread", "t"});
  incident.requests_in_flight.assign(incident_requests_max + 3, "GET /");
  incident.steps.assign(incident_steps_max + 2, incident.steps.at(0));
  incident.steps.back().outcome = "the last";
  const auto read = incident_from_json(incident_to_json(incident));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_THAT(read->summary, HasSubstr("[7 bytes left out]"));
  EXPECT_EQ(read->log_tail.size(), incident_log_tail_bytes_max);
  EXPECT_EQ(read->evidence.size(), incident_evidence_max + 1);
  EXPECT_EQ(read->evidence.back().text, "5 more left out");
  EXPECT_EQ(read->requests_in_flight.back(), "3 more left out");
  EXPECT_EQ(read->steps.size(), incident_steps_max);
  EXPECT_EQ(read->steps.back().outcome, "the last");
}

TEST(IncidentJson, RefusesANewerFormat) {
  auto object = nlohmann::json::parse(incident_to_json(sample()));
  object["format"] = 2;
  const auto read = incident_from_json(object.dump());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kUnsupportedVersion);
}

TEST(IncidentJson, RefusesWhatIsNoIncident) {
  const auto changed = [](const char* key, nlohmann::json value) {
    auto object = nlohmann::json::parse(incident_to_json(sample()));
    object[key] = std::move(value);
    return object.dump();
  };
  const std::vector<std::pair<std::string, std::string>> table = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"[]", "not an object"},
      {"{}", "format is missing"},
      {std::string(100'000, '['), "not JSON"},
      {changed("id", "../../etc/passwd"), "id is not an incident's"},
      {changed("id", 5), "id is no text"},
      {changed("fault", "sadness"), "unknown fault \"sadness\""},
      {changed("status", "open"), "disagree"},
      {changed("status", "half"), "neither open nor closed"},
      {changed("closed_reason", "bored"), "unknown closed_reason"},
      {changed("generation", -1), "generation is no non-negative integer"},
      {changed("generation", 1e300), "generation is no non-negative integer"},
      {changed("began_at_unix_ns", UINT64_MAX), "began_at_unix_ns is no non-negative integer"},
      {changed("evidence", 3), "evidence is no list"},
      {changed("evidence", nlohmann::json::array({1})), "not an object"},
      {changed("steps", nlohmann::json::array({{{"action", "dance"}}})), "unknown action"},
      {changed("requests_in_flight", nlohmann::json::array({1})), "something else than text"},
      {changed("log_tail", nullptr), "log_tail is no text"},
  };
  for (const auto& [text, why] : table) {
    const auto read = incident_from_json(text);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt) << text;
    EXPECT_THAT(read.error().message, HasSubstr(why)) << text.substr(0, 200);
  }
}

TEST(IncidentText, ShowsATimelineWithEvidence) {
  const std::string text = incident_timeline(sample());
  EXPECT_THAT(text, HasSubstr("deadlock: threads 11 and 12 wait for each other\n"));
  EXPECT_THAT(text, HasSubstr("recovered, agent generation 3\n"));
  EXPECT_THAT(text, HasSubstr("Timeline (2026-11-25 04:15:00 UTC)\n"
                              "  04:15:00.000    +0.000 s  began: the earliest sign\n"
                              "  04:15:02.000    +2.000 s  detected: threads"));
  EXPECT_THAT(text, HasSubstr("  04:15:03.000    +3.000 s  agent started\n"));
  EXPECT_THAT(text, HasSubstr("detect 2.000 s, decide 0.000 s, act 1.000 s, ready 2.000 s; "
                              "in all 5.000 s\n"));
  EXPECT_THAT(text, HasSubstr("Evidence\n  thread     thread 11 (worker) waits for mutex"));
  EXPECT_THAT(text, HasSubstr("Requests in flight (1)\n  POST /invoke, 31.2 s\n"));
  EXPECT_THAT(text, HasSubstr("The agent's last output\n  | one\n  | two\n"));
}

TEST(IncidentText, ATerminalObeysNothingThatTheAgentPrinted) {
  Incident incident = sample();
  incident.log_tail = "\x1b[2Jgone\rback\n";
  incident.summary = "name\x1b]0;title\x07";
  for (const std::string& text : {incident_timeline(incident), incident_table({&incident, 1})}) {
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
    EXPECT_THAT(text, Not(HasSubstr("\r")));
  }
  EXPECT_THAT(incident_timeline(incident), HasSubstr("\\x1b[2Jgone\\x0dback"));
}

TEST(IncidentText, ListsOneLineEach) {
  Incident open = sample();
  open.status = IncidentStatus::kOpen;
  open.closed_reason = ClosedReason::kNone;
  open.ready_at_unix_ns = 0;
  const std::vector<Incident> incidents = {sample(), open};
  const std::string text = incident_table(incidents);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_THAT(text, HasSubstr("deadlock"));
  EXPECT_THAT(text, HasSubstr("5.000 s"));
  EXPECT_THAT(text, HasSubstr("open"));
}

}  // namespace
}  // namespace remora
