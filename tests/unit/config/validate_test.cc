// The checks between keys: each with a file that fails it and the place that is blamed.
#include "config/validate.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/load.h"

namespace remora::config {
namespace {

struct Case {
  std::string name;
  std::string yaml;
  int line;
  std::string path;
  std::string message;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class CrossCheckTest : public testing::TestWithParam<Case> {};

TEST_P(CrossCheckTest, BlamesTheKeyInItsLine) {
  const Case& c = GetParam();
  const LoadResult result = load_yaml(c.yaml, "remora.yaml");
  std::string report;
  for (const Problem& each : result.problems) report += format_problem(each) + "\n";
  ASSERT_EQ(result.problems.size(), 1u) << report;
  const Problem& problem = result.problems[0];
  EXPECT_EQ(problem.line, c.line);
  EXPECT_EQ(problem.path, c.path);
  EXPECT_THAT(problem.message, testing::HasSubstr(c.message));
  EXPECT_FALSE(problem.mend.empty());
}

const std::vector<Case> probe_cases = {
    {"NoCheck", "livenessProbe:\n  periodSeconds: 5\n", 1, "livenessProbe", "has no check"},
    {"EmptyProbe", "livenessProbe:\n", 1, "livenessProbe", "has no check"},
    {"TwoChecks", "agent: {appPort: 80}\nlivenessProbe:\n  tcpSocket: {}\n  httpGet: {}\n", 3,
     "livenessProbe.tcpSocket", "one kind of check, and httpGet is there too"},
    {"StartupSuccessThreshold", "startupProbe:\n  exec: {command: [a]}\n  successThreshold: 2\n", 3,
     "startupProbe.successThreshold", "must be 1"},
    {"LivenessSuccessThreshold", "livenessProbe:\n  successThreshold: 3\n  exec: {command: [a]}\n",
     2, "livenessProbe.successThreshold", "must be 1"},
    {"NoPortAnywhere", "readinessProbe:\n  grpc: {service: x}\n", 2, "readinessProbe.grpc",
     "has no port"},
    {"HostIsAName", "livenessProbe:\n  tcpSocket:\n    port: 80\n    host: db\n", 4,
     "livenessProbe.tcpSocket.host", "not an IP address"},
    {"PathWithoutSlash", "livenessProbe:\n  httpGet:\n    port: 80\n    path: live\n", 4,
     "livenessProbe.httpGet.path", "not a path"},
    {"HeaderName",
     "livenessProbe:\n  httpGet:\n    port: 80\n    httpHeaders:\n      - name: 'a b'\n", 5,
     "livenessProbe.httpGet.httpHeaders[0].name", "not a field name"},
    {"HeaderValueWithLineBreak",
     "livenessProbe:\n  httpGet:\n    port: 80\n    httpHeaders:\n      - name: a\n"
     "        value: \"x\\r\\nEvil: 1\"\n",
     6, "livenessProbe.httpGet.httpHeaders[0].value", "line break"},
    {"ExecWithoutProgram", "livenessProbe:\n  exec:\n    command: ['', x]\n", 3,
     "livenessProbe.exec.command[0]", "empty"},
};
INSTANTIATE_TEST_SUITE_P(Probes, CrossCheckTest, testing::ValuesIn(probe_cases),
                         [](const auto& each) { return each.param.name; });

const std::vector<Case> agent_cases = {
    {"AppHostIsAName", "agent:\n  appHost: agent.local\n", 2, "agent.appHost", "not an IP"},
    {"CommandWithoutProgram", "agent:\n  command: ['']\n", 2, "agent.command[0]", "empty"},
    {"EnvName", "agent:\n  env:\n    A=B: c\n", 3, "agent.env.A=B", "environment variable"},
    {"ListenWithoutPort", "inbound:\n  listen: 127.0.0.1\n", 2, "inbound.listen", "no port"},
    {"ListenPortTooLarge", "inbound:\n  listen: 127.0.0.1:80800\n", 2, "inbound.listen",
     "0 to 65535"},
    {"ListenOnTheAgentsPort", "agent: {appPort: 9000}\ninbound:\n  listen: 127.0.0.1:9000\n", 3,
     "inbound.listen", "same port 9000"},
    {"ListenEverywhereOnTheAgentsPort",
     "agent: {appPort: 9000}\ninbound:\n  listen: 0.0.0.0:9000\n", 3, "inbound.listen",
     "same port 9000"},
    {"AgentOnTheDefaultListenPort", "agent:\n  appPort: 8080\n", 2, "agent.appPort",
     "same port 8080"},
    {"MethodInSmallLetters", "inbound:\n  idempotent:\n    - method: post\n      pathPrefix: /a\n",
     3, "inbound.idempotent[0].method", "match nothing"},
    {"NoMethod", "inbound:\n  idempotent:\n    - method: 'P OST'\n      pathPrefix: /a\n", 3,
     "inbound.idempotent[0].method", "not a method"},
    {"PrefixWithoutSlash", "inbound:\n  idempotent:\n    - method: POST\n      pathPrefix: a\n", 4,
     "inbound.idempotent[0].pathPrefix", "not a path"},
};
INSTANTIATE_TEST_SUITE_P(Agent, CrossCheckTest, testing::ValuesIn(agent_cases),
                         [](const auto& each) { return each.param.name; });

const std::string stateful = "agent: {stateDir: /a}\n";
const std::vector<Case> healing_cases = {
    {"SampleLongerThanWindow", "detection:\n  hangWindow: 1s\n  sampleInterval: 2s\n", 3,
     "detection.sampleInterval", "longer than the hang window"},
    {"LadderTwice",
     "healing:\n  ladders:\n    - {fault: hang, steps: [restart]}\n"
     "    - {fault: hang, steps: [give_up]}\n",
     4, "healing.ladders[1].fault", "already has healing.ladders[0]"},
    {"StepsAfterGivingUp",
     "healing:\n  ladders:\n    - fault: hang\n      steps: [give_up, restart]\n", 4,
     "healing.ladders[0].steps[0]", "give_up ends the ladder"},
    {"RestoreWithoutStore",
     stateful + "healing:\n  ladders:\n    - fault: crash\n      steps:\n        - restart\n"
                "        - restore\n",
     7, "healing.ladders[0].steps[1]", "restore needs snapshots.store"},
    {"RestoreWithoutStateDir",
     "snapshots: {store: /s}\nhealing:\n  ladders:\n    - {fault: crash, steps: [restore]}\n", 4,
     "healing.ladders[0].steps[0]", "restore needs agent.stateDir"},
    {"BaseLongerThanMax", "healing:\n  backoff:\n    base: 5m\n", 3, "healing.backoff.base",
     "longer than max"},
    {"MaxShorterThanTheDefaultStep", "healing:\n  backoff:\n    max: 500ms\n", 3,
     "healing.backoff.max", "step (1s) is longer"},
    {"IntervalWithoutStore", stateful + "snapshots:\n  interval: 5s\n", 3, "snapshots.interval",
     "without snapshots.store"},
    {"ExcludeWithoutStateDir", "snapshots:\n  store: /s\n  exclude: [a]\n", 3, "snapshots.exclude",
     "without agent.stateDir"},
    {"StoreInsideState", stateful + "snapshots:\n  store: /a/b/../store\n", 3, "snapshots.store",
     "inside agent.stateDir"},
    {"StoreIsState", stateful + "snapshots:\n  store: /a/\n", 3, "snapshots.store",
     "inside agent.stateDir"},
    {"StateInsideStore", "agent:\n  stateDir: /s/a\nsnapshots:\n  store: /s\n", 2, "agent.stateDir",
     "inside snapshots.store"},
    {"ExcludeOutside", stateful + "snapshots:\n  store: /s\n  exclude:\n    - ../x\n", 5,
     "snapshots.exclude[0]", "can match nothing"},
    {"AdminNotLoopback", "admin:\n  listen: 0.0.0.0:9901\n", 2, "admin.listen", "other machines"},
    {"AdminOnInbound", "inbound: {listen: '127.0.0.1:81'}\nadmin:\n  listen: 127.0.0.1:81\n", 3,
     "admin.listen", "same address"},
    {"AdminSocketTooLong", "admin:\n  socket: /" + std::string(120, 'x') + "\n", 2, "admin.socket",
     "at most 107"},
};
INSTANTIATE_TEST_SUITE_P(Healing, CrossCheckTest, testing::ValuesIn(healing_cases),
                         [](const auto& each) { return each.param.name; });

TEST(ValidateTest, NeighbouringDirectoriesAreFine) {
  EXPECT_TRUE(load_yaml("agent: {stateDir: /a}\nsnapshots: {store: /a-store}\n", "f").ok());
}

TEST(ValidateTest, StoreWithoutStateDirKeepsIncidentsOnly) {
  EXPECT_TRUE(load_yaml("snapshots: {store: /s}\n", "f").ok());
}

TEST(ValidateTest, OneMistakeIsReportedOnce) {
  // The port is wrong, so "probe without a port" would be noise.
  const LoadResult port = load_yaml("agent: {appPort: x}\nlivenessProbe: {tcpSocket: {}}\n", "f");
  EXPECT_EQ(port.problems.size(), 1u);
  // The check is mistyped, so "probe without a check" would be noise.
  const LoadResult check = load_yaml("livenessProbe: {exce: {command: [a]}}\n", "f");
  EXPECT_EQ(check.problems.size(), 1u);
}

}  // namespace
}  // namespace remora::config
