// What a configuration that says little means, and what can't be meant.
#include "sidecar/app/options_from_config.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/app/all_options.h"

namespace remora {
namespace {

using testing::Contains;
using testing::StartsWith;
using namespace std::chrono_literals;

TEST(OptionsFromConfigTest, ProxyDefaultsAreTheStructs) {
  const AllOptions o = options_of(config_of(""));
  const ProxyOptions d;
  EXPECT_EQ(o.proxy.name, "inbound");
  EXPECT_EQ(o.proxy.listen.to_string(), "127.0.0.1:8080");
  EXPECT_EQ(o.proxy.protocol, d.protocol);
  EXPECT_EQ(o.proxy.connections_max, d.connections_max);
  EXPECT_EQ(o.proxy.timeouts.idle, d.timeouts.idle);
  EXPECT_EQ(o.proxy.timeouts.headers, d.timeouts.headers);
  EXPECT_EQ(o.proxy.timeouts.detect, d.timeouts.detect);
  EXPECT_EQ(o.proxy.timeouts.connect, d.timeouts.connect);
  EXPECT_EQ(o.proxy.downstream_limits.header_bytes_max, d.downstream_limits.header_bytes_max);
  EXPECT_EQ(o.proxy.upstream.connect_timeout, d.upstream.connect_timeout);
  EXPECT_EQ(o.proxy.upstream.connections_max, d.upstream.connections_max);
  EXPECT_EQ(o.proxy.router.app_protocol, d.router.app_protocol);
  EXPECT_TRUE(o.proxy.router.idempotent.empty());
  EXPECT_EQ(o.proxy.exchange.hold_wait, d.exchange.hold_wait);
  EXPECT_EQ(o.proxy.exchange.replay_body_bytes_max, d.exchange.replay_body_bytes_max);
  EXPECT_EQ(o.proxy.exchange.replays_max, d.exchange.replays_max);

  const InboundFilterOptions filters;
  EXPECT_EQ(o.filters.deadline.request_timeout, filters.deadline.request_timeout);
  EXPECT_EQ(o.filters.limits.request_body_bytes_max, filters.limits.request_body_bytes_max);
  EXPECT_EQ(o.filters.limits.requests_in_flight_max, filters.limits.requests_in_flight_max);
  EXPECT_EQ(o.filters.access_log, filters.access_log);
}

TEST(OptionsFromConfigTest, HealingDefaultsAreTheStructs) {
  const AllOptions o = options_of(config_of(""));
  const SupervisorOptions d;
  const HealingPolicy& policy = o.supervisor.policy;
  EXPECT_EQ(policy.ladders, d.policy.ladders);
  EXPECT_EQ(policy.backoff_base, d.policy.backoff_base);
  EXPECT_EQ(policy.backoff_step, d.policy.backoff_step);
  EXPECT_EQ(policy.backoff_max, d.policy.backoff_max);
  EXPECT_EQ(policy.restarts_max, d.policy.restarts_max);
  EXPECT_EQ(policy.restarts_window, d.policy.restarts_window);
  EXPECT_EQ(policy.step_timeout, d.policy.step_timeout);
  EXPECT_EQ(policy.stable_after, d.policy.stable_after);
  EXPECT_EQ(o.supervisor.detection.hang_window, d.detection.hang_window);
  EXPECT_EQ(o.supervisor.detection.deadlock, d.detection.deadlock);
  EXPECT_EQ(o.supervisor.stop_grace, d.stop_grace);
  EXPECT_EQ(o.supervisor.drain_wait, d.drain_wait);

  const ProgressOptions progress;
  EXPECT_EQ(o.progress.sample_interval, progress.sample_interval);
  EXPECT_EQ(o.progress.hang_window, progress.hang_window);
  EXPECT_EQ(o.progress.deadlock, progress.deadlock);
}

TEST(OptionsFromConfigTest, AgentProbeAndLogDefaultsAreTheStructs) {
  const AllOptions o = options_of(config_of("readinessProbe: {httpGet: {port: 80}}"));
  const ChildAgentOptions child;
  EXPECT_EQ(o.child.command, child.command);
  EXPECT_EQ(o.child.environment, child.environment);
  EXPECT_EQ(o.child.working_dir, child.working_dir);
  EXPECT_EQ(o.child.log_tail_bytes, child.log_tail_bytes);
  EXPECT_EQ(o.log, log_level());

  ASSERT_TRUE(o.probes.readiness);
  const ProbeSpec spec;
  EXPECT_EQ(o.probes.readiness->initial_delay, spec.initial_delay);
  EXPECT_EQ(o.probes.readiness->period, spec.period);
  EXPECT_EQ(o.probes.readiness->timeout, spec.timeout);
  EXPECT_EQ(o.probes.readiness->success_threshold, spec.success_threshold);
  EXPECT_EQ(o.probes.readiness->failure_threshold, spec.failure_threshold);
  const auto& http = std::get<HttpProbe>(o.probes.readiness->action);
  EXPECT_EQ(http.path, HttpProbe{}.path);
  EXPECT_EQ(http.address.to_string(), "127.0.0.1:80");
}

TEST(OptionsFromConfigTest, EveryNameOfAProtocolAndOfALevelIsKnown) {
  const auto callers = [](const std::string& name) {
    return options_of(config_of("inbound: {protocol: " + name + "}")).proxy.protocol;
  };
  EXPECT_EQ(callers("auto"), ListenerProtocol::kAuto);
  EXPECT_EQ(callers("http1"), ListenerProtocol::kHttp1);
  EXPECT_EQ(callers("http2"), ListenerProtocol::kHttp2);
  EXPECT_EQ(callers("tcp"), ListenerProtocol::kTcp);
  const auto agent = [](const std::string& name) {
    return options_of(config_of("agent: {appProtocol: " + name + "}")).proxy;
  };
  EXPECT_EQ(agent("auto").router.app_protocol, AppProtocol::kAuto);
  EXPECT_EQ(agent("http1").router.app_protocol, AppProtocol::kHttp1);
  EXPECT_EQ(agent("http2").router.app_protocol, AppProtocol::kHttp2);
  const auto level = [](const std::string& name) {
    return options_of(config_of("log: {level: '" + name + "'}")).log;
  };
  EXPECT_EQ(level("debug"), LogLevel::kDebug);
  EXPECT_EQ(level("info"), LogLevel::kInfo);
  EXPECT_EQ(level("warn"), LogLevel::kWarn);
  EXPECT_EQ(level("error"), LogLevel::kError);
  EXPECT_EQ(level("off"), LogLevel::kOff);
}

TEST(OptionsFromConfigTest, AnOpaqueAgentMakesEveryCallerOpaque) {
  const AllOptions o = options_of(config_of("agent: {appProtocol: tcp}"));
  EXPECT_EQ(o.proxy.protocol, ListenerProtocol::kTcp);
}

TEST(OptionsFromConfigTest, ALadderReplacesItsFaultsOnly) {
  const AllOptions o = options_of(
      config_of("healing: {ladders: [{fault: crash, steps: [give_up]}, {fault: deadlock, steps: "
                "[restart]}]}"));
  Ladders expected = default_ladders();
  expected[static_cast<size_t>(FaultKind::kCrash)] = {HealStep::kGiveUp};
  expected[static_cast<size_t>(FaultKind::kDeadlock)] = {HealStep::kRestart};
  EXPECT_EQ(o.supervisor.policy.ladders, expected);
}

TEST(OptionsFromConfigTest, RestoringNeedsBothAStoreAndAState) {
  const auto can_restore = [](const std::string& yaml) {
    return options_of(config_of(yaml)).supervisor.policy.can_restore;
  };
  EXPECT_FALSE(can_restore(""));
  EXPECT_FALSE(can_restore("agent: {stateDir: /data}"));
  EXPECT_FALSE(can_restore("snapshots: {store: /store}"));
  EXPECT_TRUE(can_restore("agent: {stateDir: /data}\nsnapshots: {store: /store}"));
}

TEST(OptionsFromConfigTest, TheAgentFindsItsStateWhereverItIsStarted) {
  const AllOptions o = options_of(config_of("agent: {stateDir: state, workingDir: /srv}"));
  const std::string absolute = (std::filesystem::current_path() / "state").string();
  EXPECT_THAT(o.child.environment, Contains("REMORA_STATE_DIR=" + absolute));
}

TEST(OptionsFromConfigTest, WithoutAStartupProbeThePortSaysWhenItHasStarted) {
  const AllOptions o = options_of(config_of("agent: {appPort: 8000}"));
  ASSERT_TRUE(o.probes.startup);
  EXPECT_EQ(std::get<TcpProbe>(o.probes.startup->action).address.to_string(), "127.0.0.1:8000");
  // It never fails: how long a start may take is the healing step's limit.
  EXPECT_EQ(o.probes.startup->failure_threshold, std::numeric_limits<uint32_t>::max());
  EXPECT_FALSE(o.probes.liveness);
  EXPECT_FALSE(o.probes.readiness);
  EXPECT_FALSE(options_of(config_of("")).probes.startup);
  const AllOptions own =
      options_of(config_of("agent: {appPort: 8000}\nstartupProbe: {tcpSocket: {port: 9000}}"));
  EXPECT_EQ(std::get<TcpProbe>(own.probes.startup->action).address.port(), 9000);
}

TEST(OptionsFromConfigTest, ProbesAskTheAgentUnlessToldOtherwise) {
  const std::string agent =
      "agent: {appPort: 8000, appHost: '::1', env: {A: '1'}, workingDir: /}\n";
  const auto readiness = [&](const std::string& action) {
    return options_of(config_of(agent + "readinessProbe: {" + action + "}"))
        .probes.readiness.value();
  };
  EXPECT_EQ(std::get<HttpProbe>(readiness("httpGet: {}").action).address.to_string(), "[::1]:8000");
  EXPECT_EQ(std::get<TcpProbe>(readiness("tcpSocket: {}").action).address.to_string(),
            "[::1]:8000");
  EXPECT_EQ(std::get<GrpcProbe>(readiness("grpc: {}").action).address.to_string(), "[::1]:8000");
  const ProbeSpec exec = readiness("exec: {command: ['true']}");
  EXPECT_EQ(std::get<ExecProbe>(exec.action).working_dir, "/");
  EXPECT_THAT(std::get<ExecProbe>(exec.action).environment, Contains("A=1"));
}

// The loader refuses these, too; whoever passes it by gets an error that names the key.
TEST(OptionsFromConfigTest, AddressesThatDontParseNameTheirKey) {
  config::Config config = config_of("agent: {appPort: 8000}");
  config.mutable_inbound()->set_listen("nowhere");
  EXPECT_THAT(proxy_options(config).error().message, StartsWith("inbound.listen: "));
  config = config_of("agent: {appPort: 8000}\nlivenessProbe: {tcpSocket: {}}");
  config.mutable_liveness_probe()->mutable_tcp_socket()->set_host("nowhere");
  EXPECT_THAT(probe_set(config).error().message, StartsWith("livenessProbe: "));
  config = config_of("agent: {appPort: 8000}");
  config.mutable_agent()->set_app_host("nowhere");
  EXPECT_THAT(proxy_options(config).error().message, StartsWith("agent.appHost: "));
  EXPECT_THAT(probe_set(config).error().message, StartsWith("agent.appHost: "));
}

}  // namespace
}  // namespace remora
