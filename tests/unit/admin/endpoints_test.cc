// Which answer belongs to which request.
#include "sidecar/admin/endpoints.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sidecar/admin/status.h"

namespace remora {
namespace {

using testing::HasSubstr;

class EndpointsTest : public testing::Test {
 protected:
  EndpointsTest() {
    source_.readiness = [this] { return readiness_; };
    source_.started = [this] { return started_; };
    source_.status = [] {
      AdminStatus status;
      status.agents.emplace_back();
      return status;
    };
    source_.metrics = [] { return std::string("m 1\n"); };
    source_.config = [](bool as_json) { return std::string(as_json ? "{}" : "log: {}\n"); };
    source_.drain = [this](bool pod_ends) { ++(pod_ends ? pod_ends_ : drains_); };
    source_.snapshot = [this](std::string_view agent, AdminDone done) {
      snapshot_agent_ = agent;
      snapshot_done_ = std::move(done);
    };
    source_.incidents = [](AdminDone done) { done(std::string("[]\n")); };
  }

  std::optional<ServerResponse> ask(std::string_view method, std::string_view path,
                                    bool over_tcp = false, std::string_view host = "localhost") {
    std::optional<ServerResponse> result;
    answer_admin_request(source_, {method, path, host, over_tcp},
                         [&result](ServerResponse response) { result = std::move(response); });
    return result;
  }
  int status(std::string_view method, std::string_view path, bool over_tcp = false,
             std::string_view host = "localhost") {
    const auto response = ask(method, path, over_tcp, host);
    return response ? response->status : 0;
  }

  AdminSource source_;
  AdminReadiness readiness_{true, {}};
  AdminReadiness started_{true, {}};
  AdminDone snapshot_done_;
  std::string snapshot_agent_;
  int drains_ = 0;
  int pod_ends_ = 0;
};

TEST_F(EndpointsTest, SaysWhyNobodyMayBeginYet) {
  EXPECT_EQ(status("GET", "/started"), 200);
  started_ = {false, {"agent: its state is being checked"}};
  EXPECT_EQ(status("GET", "/started"), 503);
  EXPECT_THAT(ask("GET", "/started")->body, HasSubstr("its state is being checked"));
  EXPECT_EQ(status("GET", "/started", true), 404) << "for the socket only";
}

TEST_F(EndpointsTest, AnswersEachEndpointOnTheSocket) {
  for (const char* path : {"/healthz", "/readyz", "/metrics", "/config", "/status", "/incidents"}) {
    EXPECT_EQ(status("GET", path), 200) << path;
    EXPECT_EQ(status("HEAD", path), 200) << path;
    EXPECT_EQ(status("POST", path), 405) << path;
  }
  EXPECT_EQ(status("POST", "/drain"), 202);
  EXPECT_EQ(drains_, 1);
  EXPECT_EQ(status("GET", "/drain"), 405);
  EXPECT_EQ(ask("GET", "/drain")->allow, "POST");
  EXPECT_EQ(drains_, 1);
  EXPECT_EQ(pod_ends_, 0);
  EXPECT_EQ(status("POST", "/drain?pod=ends"), 202);
  EXPECT_EQ(drains_, 1);
  EXPECT_EQ(pod_ends_, 1);
}

TEST_F(EndpointsTest, ReadyzSaysWhyNot) {
  readiness_ = {false, {"the agent \"x\" is being restarted", "draining"}};
  const auto response = ask("GET", "/readyz");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 503);
  const auto json = nlohmann::json::parse(response->body);
  EXPECT_EQ(json["ready"], false);
  EXPECT_EQ(json["reasons"][0], "the agent \"x\" is being restarted");
}

TEST_F(EndpointsTest, ConfigComesInTwoForms) {
  EXPECT_EQ(ask("GET", "/config")->content_type, "application/yaml");
  EXPECT_EQ(ask("GET", "/config?format=json")->content_type, "application/json");
}

TEST_F(EndpointsTest, TheTcpPortHasOnlyHealthAndMetrics) {
  for (const char* path : {"/healthz", "/readyz", "/metrics"}) {
    EXPECT_EQ(status("GET", path, true), 200) << path;
  }
  for (const char* path : {"/config", "/status", "/incidents"}) {
    EXPECT_EQ(status("GET", path, true), 404) << path;
  }
  EXPECT_EQ(status("POST", "/drain", true), 404);
  EXPECT_EQ(status("POST", "/snapshot", true), 404);
  EXPECT_EQ(drains_, 0);
}

TEST_F(EndpointsTest, TheTcpPortRefusesForeignHosts) {
  for (const char* host : {"127.0.0.1", "127.0.0.1:9901", "localhost", "LOCALHOST:1", "[::1]",
                           "[::1]:80", "127.9.9.9", ""}) {
    EXPECT_EQ(status("GET", "/metrics", true, host), 200) << host;
  }
  for (const char* host :
       {"evil.example", "evil.example:9901", "10.0.0.1", "localhost.evil.example",
        "127.0.0.1.evil.example", ":80", "[::2]:80", "::1", "[", "]", ":"}) {
    EXPECT_EQ(status("GET", "/metrics", true, host), 421) << host;
    EXPECT_EQ(status("GET", "/metrics", false, host), 200) << host;
  }
}

TEST_F(EndpointsTest, UnknownPathsListWhatThereIs) {
  const auto response = ask("GET", "/stauts");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 404);
  const auto json = nlohmann::json::parse(response->body);
  EXPECT_THAT(json["detail"], HasSubstr("GET /status"));
  EXPECT_THAT(std::string(ask("GET", "/x", true)->body), testing::Not(HasSubstr("/drain")));
  EXPECT_EQ(status("GET", "/"), 404);
  EXPECT_EQ(status("GET", ""), 404);
}

TEST_F(EndpointsTest, SlowAnswersComeLater) {
  std::optional<ServerResponse> result;
  answer_admin_request(source_, {"POST", "/snapshot?agent=coder", "localhost", false},
                       [&result](ServerResponse response) { result = std::move(response); });
  EXPECT_FALSE(result.has_value());
  EXPECT_EQ(snapshot_agent_, "coder");
  snapshot_done_(std::string("{\"id\":\"a\"}\n"));
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->status, 200);
  EXPECT_EQ(result->body, "{\"id\":\"a\"}\n");
}

TEST_F(EndpointsTest, FailuresOfTheSourceBecomeProblems) {
  const std::pair<ErrorCode, int> codes[] = {{ErrorCode::kNotFound, 404},
                                             {ErrorCode::kAlreadyExists, 409},
                                             {ErrorCode::kTimeout, 503},
                                             {ErrorCode::kNoSpace, 507},
                                             {ErrorCode::kIo, 500}};
  for (const auto& [code, expected] : codes) {
    source_.incidents = [failure = code](AdminDone done) {
      done(make_error(failure, ErrorSource::kStorage, "read incidents: \"bad\""));
    };
    const auto response = ask("GET", "/incidents");
    EXPECT_EQ(response->status, expected);
    EXPECT_EQ(nlohmann::json::parse(response->body)["detail"], "read incidents: \"bad\"");
  }
}

TEST_F(EndpointsTest, WithoutAStoreThereAreNoSnapshots) {
  source_.snapshot = nullptr;
  source_.incidents = nullptr;
  EXPECT_EQ(status("POST", "/snapshot"), 404);
  EXPECT_EQ(status("GET", "/incidents"), 404);
}

TEST(StatusTest, TheSummarySaysWhatMatters) {
  AdminStatus status;
  status.version = "0.1.0";
  status.readiness = {true, {}};
  AdminAgent& agent = status.agents.emplace_back();
  agent.name = "coder";
  agent.phase = "serving";
  agent.pid = 77;
  agent.generation = 3;
  agent.uptime_s = 130;
  agent.listen = "127.0.0.1:8080";
  agent.requests_held = 4;
  agent.restarts = 2;
  agent.last_incident =
      AdminIncident{"20261125T041500.123Z-crash-3fa91c", "crash",           "closed", "recovered",
                    "killed by SIGKILL\x1b[2J",          1'000'000'000'000, 0.42};
  agent.snapshots = AdminSnapshots{10, "3fa9", 1'110'000'000'000, "failed", "disk full"};
  const auto summary = summarise_status(status_to_json(status), 1'120'000'000'000);
  ASSERT_TRUE(summary.has_value());
  EXPECT_TRUE(summary->ready);
  EXPECT_THAT(summary->text,
              HasSubstr("agent      coder: serving, pid 77, generation 3, up 2m10s\n"));
  EXPECT_THAT(summary->text, HasSubstr("4 held"));
  EXPECT_THAT(summary->text, HasSubstr("crash, recovered in 420ms, 2m ago: killed by SIGKILL"));
  EXPECT_THAT(summary->text, HasSubstr("10 kept, last 3fa9 10s ago, the last try failed: disk"));
  // What another process wrote can't steer the terminal.
  EXPECT_THAT(summary->text, testing::Not(HasSubstr("\x1b")));
}

TEST(StatusTest, NotReadyGivesTheReasons) {
  AdminStatus status;
  status.agents.emplace_back().phase = "backing_off";
  status.readiness = {false, {"the agent is being restarted", "draining"}};
  const auto summary = summarise_status(status_to_json(status), 0);
  ASSERT_TRUE(summary.has_value());
  EXPECT_FALSE(summary->ready);
  EXPECT_THAT(summary->text, HasSubstr("ready      no: the agent is being restarted; draining\n"));
  EXPECT_THAT(summary->text, HasSubstr("backing_off, not running"));
  EXPECT_THAT(summary->text, HasSubstr("incident   none"));
  EXPECT_THAT(summary->text, HasSubstr("snapshots  off"));
}

TEST(StatusTest, WhatIsNoStatusIsRefused) {
  const std::string deep(100'000, '[');
  for (const std::string_view text : {std::string_view(), std::string_view("[]"),
                                      std::string_view("{}"), std::string_view("{\"agents\":[]}"),
                                      std::string_view("nonsense"), std::string_view(deep)}) {
    const auto summary = summarise_status(text, 0);
    ASSERT_FALSE(summary.has_value());
    EXPECT_EQ(summary.error().code, ErrorCode::kCorrupt);
  }
  // Other versions may lack or add keys, or change a type: the rest is still shown.
  EXPECT_TRUE(
      summarise_status("{\"agents\":[7,{\"restarts\":{},\"requests\":[]}],\"ready\":{}}", 0));
}

TEST(StatusTest, ShortDurations) {
  EXPECT_EQ(short_duration(0), "0ms");
  EXPECT_EQ(short_duration(0.85), "850ms");
  EXPECT_EQ(short_duration(1.26), "1.2s");
  EXPECT_EQ(short_duration(59.9), "59s");
  EXPECT_EQ(short_duration(60), "1m");
  EXPECT_EQ(short_duration(200), "3m20s");
  EXPECT_EQ(short_duration(18'600), "5h10m");
  EXPECT_EQ(short_duration(266'400), "3d2h");
  EXPECT_EQ(short_duration(-1), "?");
  EXPECT_EQ(short_duration(1e300), "?");
}

}  // namespace
}  // namespace remora
