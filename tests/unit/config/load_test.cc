// Each kind of problem in a file: its place, its message and its mend; and what a good file gives.
#include "config/load.h"

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace remora::config {
namespace {

using testing::HasSubstr;

std::string report(const LoadResult& result) {
  std::string out;
  for (const Problem& problem : result.problems) out += format_problem(problem) + "\n";
  return out;
}

struct Case {
  std::string name;
  std::string yaml;
  int line;
  int column;
  std::string path;
  std::string message;  // is part of the message
  std::string mend;     // is part of the mend
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class OneProblemTest : public testing::TestWithParam<Case> {};

TEST_P(OneProblemTest, IsReportedOnceWithPlaceAndMend) {
  const Case& c = GetParam();
  const LoadResult result = load_yaml(c.yaml, "remora.yaml");
  ASSERT_EQ(result.problems.size(), 1u) << report(result);
  const Problem& problem = result.problems[0];
  EXPECT_EQ(problem.file, "remora.yaml");
  EXPECT_EQ(problem.line, c.line) << report(result);
  EXPECT_EQ(problem.column, c.column) << report(result);
  EXPECT_EQ(problem.path, c.path);
  EXPECT_THAT(problem.message, HasSubstr(c.message));
  EXPECT_THAT(problem.mend, HasSubstr(c.mend));
}

const std::vector<Case> document_cases = {
    {"NotAMapping", "- a\n- b\n", 1, 1, "", "is a list", "begin with a key"},
    {"TextOnly", "hello", 1, 1, "", "\"hello\"", "begin with a key"},
    {"SyntaxError", "agent:\n  command: [a, b\nlog: {}\n", 3, 4, "", "not YAML", "brackets"},
    {"TabIndent", "agent:\n\tappPort: 1\n", 2, 9, "", "not YAML", "no tabs"},
    {"TwoDocuments", "log: {}\n---\nlog: {}\n", 2, 1, "", "second YAML document", "keep one"},
    {"NotUtf8", "log: {}\nagent: {stateDir: \xff}\n", 2, 19, "", "not UTF-8", "UTF-8 text"},
    {"NulByte", std::string("log: {}\n\0", 9), 2, 1, "", "NUL byte", "UTF-8 text"},
    {"UnknownAlias", "agent: *nobody\n", 1, 8, "", "not YAML", "check"},
    {"AliasInItsAnchor", "agent: &a\n  command: *a\n", 2, 12, "", "inside the value", "write"},
    {"Tag", "log: {level: !!binary aGk=}\n", 1, 14, "", "tag", "remove the tag"},
    {"MergeKey", "log: &l {level: info}\n<<: *l\n", 2, 1, "<<", "merge keys", "write the keys out"},
    {"KeyThatIsAList", "? [a, b]\n: 1\n", 1, 3, "", "a key is a list", "write a name"},
};
INSTANTIATE_TEST_SUITE_P(Document, OneProblemTest, testing::ValuesIn(document_cases),
                         [](const auto& each) { return each.param.name; });

const std::vector<Case> key_cases = {
    {"Unknown", "agent:\n  colour: red\n", 2, 3, "agent.colour", "unknown key", "one of command"},
    {"Mistyped", "agent:\n  appPrt: 1\n", 2, 3, "agent.appPrt", "unknown", "mean appPort?"},
    {"SnakeCase", "agent:\n  app_port: 80\n", 2, 3, "agent.app_port", "unknown", "mean appPort?"},
    {"WrongCase", "Agent: {}\n", 1, 1, "Agent", "unknown", "did you mean agent?"},
    {"ElsewhereInTheSchema", "appPort: 80\n", 1, 1, "appPort", "unknown key here",
     "did you mean agent.appPort?"},
    {"Duplicate", "log: {}\nagent: {}\nlog: {}\n", 3, 1, "log", "in line 1", "keep one"},
    {"DuplicateInMap", "agent:\n  env:\n    A: x\n    A: y\n", 4, 5, "agent.env.A", "in line 3",
     "keep one"},
    {"RequiredMissing", "inbound:\n  idempotent:\n    - method: POST\n", 3, 7,
     "inbound.idempotent[0].pathPrefix", "is missing", "add it"},
    {"RequiredEmpty", "livenessProbe:\n  exec:\n    command: []\n", 3, 5,
     "livenessProbe.exec.command", "is empty", "give it a value"},
};
INSTANTIATE_TEST_SUITE_P(Keys, OneProblemTest, testing::ValuesIn(key_cases),
                         [](const auto& each) { return each.param.name; });

const std::vector<Case> value_cases = {
    {"TextForList", "agent:\n  command: python agent.py\n", 2, 12, "agent.command", "not a list",
     "[python, agent.py]"},
    {"MapForList", "healing:\n  ladders:\n    fault: crash\n", 3, 5, "healing.ladders",
     "is a mapping", "\"- \""},
    {"ListForMap", "agent:\n  - command: [a]\n", 2, 3, "agent", "is a list", "remove the \"- \""},
    {"TextForSection", "inbound: 8080\n", 1, 10, "inbound", "not a mapping", "write a mapping"},
    {"ListForText", "agent: {stateDir: [a]}\n", 1, 19, "agent.stateDir", "is a list",
     "write one value"},
    {"ItemThatIsText", "inbound: {idempotent: [POST]}\n", 1, 24, "inbound.idempotent[0]",
     "not a mapping", "NAME: VALUE"},
    {"NoValue", "agent:\n  appPort:\n", 2, 3, "agent.appPort", "has no value", "remove the key"},
    {"NullText", "agent: {stateDir: ~}\n", 1, 9, "agent.stateDir", "has no value", "\"\""},
    {"NotANumber", "agent: {appPort: http}\n", 1, 18, "agent.appPort", "not a whole number",
     "digits"},
    {"QuotedNumber", "agent: {appPort: '80'}\n", 1, 18, "agent.appPort", "is text, not a number",
     "remove the quotes"},
    {"QuotedBoolean", "detection: {deadlock: 'true'}\n", 1, 23, "detection.deadlock", "is text",
     "remove the quotes"},
    {"YesForTrue", "detection: {deadlock: yes}\n", 1, 23, "detection.deadlock", "neither true",
     "true or false"},
    {"AboveMaximum", "agent: {appPort: 70000}\n", 1, 18, "agent.appPort",
     "70000 is above the maximum 65535", "use 1 to 65535"},
    {"BelowMinimum", "snapshots:\n  store: /s\n  keepLast: 0\n", 3, 13, "snapshots.keepLast",
     "0 is below the minimum 1", "use 1 to 10000"},
    {"DurationAboveMaximum", "inbound: {hold: {wait: 11m}}\n", 1, 24, "inbound.hold.wait",
     "11m is above the maximum 10m", "use 0s to 10m"},
    {"BareDuration", "inbound: {hold: {wait: 30}}\n", 1, 24, "inbound.hold.wait", "no unit", "30s"},
    {"WrongByteUnit", "agent: {logTailBytes: 64KB}\n", 1, 23, "agent.logTailBytes",
     "unknown unit \"KB\"", "KiB"},
    {"BytesAboveMaximum", "agent: {logTailBytes: 2MiB}\n", 1, 23, "agent.logTailBytes",
     "above the maximum 1MiB", "use 0 to 1MiB"},
    {"NoSuchChoice", "log: {level: loud}\n", 1, 14, "log.level", "\"loud\" is not a choice",
     "debug, info, warn, error or off"},
    {"NulCharacter", "agent: {workingDir: \"a\\0b\"}\n", 1, 21, "agent.workingDir", "NUL",
     "remove it"},
};
INSTANTIATE_TEST_SUITE_P(Values, OneProblemTest, testing::ValuesIn(value_cases),
                         [](const auto& each) { return each.param.name; });

TEST(LoadTest, EmptyFilesGiveTheDefaults) {
  for (const std::string text : {"", "\n", "# nothing\n", "---\n", "~\n", "agent:\ninbound:\n"}) {
    const LoadResult result = load_yaml(text, "f");
    ASSERT_TRUE(result.ok()) << text << report(result);
    EXPECT_EQ(result.config.inbound().listen(), "127.0.0.1:8080");
    EXPECT_EQ(result.config.inbound().limits().request_header_bytes_max(), 64 * 1024);
    EXPECT_EQ(to_duration(result.config.inbound().hold().wait()), std::chrono::seconds(60));
    EXPECT_EQ(result.config.agent().app_port(), 0);
    EXPECT_TRUE(result.config.detection().deadlock());
    EXPECT_EQ(result.config.log().level(), "info");
    EXPECT_FALSE(result.config.has_liveness_probe());
  }
}

TEST(LoadTest, ReadsEveryFormOfValue) {
  const LoadResult result = load_yaml(R"(
agent:
  command: [python3, "-c", 1.10]
  appPort: 8000
  env: {A: 1, B: "two words", C: ""}
  logTailBytes: 4096
inbound:
  hold: {wait: 1m30s, replayBodyBytesMax: 1MiB}
detection:
  deadlock: false
livenessProbe:
  httpGet:
    path: /live?x=1
    httpHeaders: [{name: X-Probe, value: yes}]
)",
                                      "f");
  ASSERT_TRUE(result.ok()) << report(result);
  const Config& config = result.config;
  EXPECT_THAT(config.agent().command(), testing::ElementsAre("python3", "-c", "1.10"));
  EXPECT_EQ(config.agent().env().at("A"), "1");
  EXPECT_EQ(config.agent().env().at("B"), "two words");
  EXPECT_EQ(config.agent().env().at("C"), "");
  EXPECT_EQ(config.agent().log_tail_bytes(), 4096);
  EXPECT_EQ(to_duration(config.inbound().hold().wait()), std::chrono::seconds(90));
  EXPECT_EQ(config.inbound().hold().replay_body_bytes_max(), 1 << 20);
  EXPECT_FALSE(config.detection().deadlock());
  // A probe that is there gets Kubernetes' defaults.
  EXPECT_EQ(config.liveness_probe().period_seconds(), 10);
  EXPECT_EQ(config.liveness_probe().failure_threshold(), 3);
  EXPECT_EQ(config.liveness_probe().http_get().scheme(), "HTTP");
  EXPECT_EQ(config.liveness_probe().http_get().http_headers(0).value(), "yes");
  EXPECT_FALSE(config.liveness_probe().has_exec());
}

TEST(LoadTest, AnchorsAndAliasesWork) {
  const LoadResult result = load_yaml(
      "agent: {appPort: 80}\n"
      "startupProbe: &p\n  httpGet: {path: /up}\nlivenessProbe: *p\n",
      "f");
  ASSERT_TRUE(result.ok()) << report(result);
  EXPECT_EQ(result.config.liveness_probe().http_get().path(), "/up");
}

TEST(LoadTest, ReportsEverythingAtOnceInOrderOfPlace) {
  const LoadResult result = load_yaml(R"(agent:
  command: run.sh
  appPort: 0
  sateDir: /x
inbound:
  listen: nowhere
  hold: {wait: 5}
healing:
  backoff: {step: 2m}
log:
  level: chatty
)",
                                      "remora.yaml");
  std::vector<int> lines;
  for (const Problem& problem : result.problems) {
    lines.push_back(problem.line);
    EXPECT_FALSE(problem.mend.empty()) << problem.path;
  }
  EXPECT_THAT(lines, testing::ElementsAre(2, 3, 4, 6, 7, 9, 11)) << report(result);
}

TEST(LoadTest, FormatsAProblemAsOneLine) {
  EXPECT_EQ(format_problem({"a.yaml", 3, 7, "log.level", "is wrong", "mend it"}),
            "a.yaml:3:7: log.level: is wrong; mend it");
  EXPECT_EQ(format_problem({"--app-port", 0, 0, "agent.appPort", "is wrong", "mend it"}),
            "--app-port: agent.appPort: is wrong; mend it");
  EXPECT_EQ(format_problem({"a.yaml", 0, 0, "", "is wrong", "mend it"}),
            "a.yaml: is wrong; mend it");
}

TEST(LoadTest, KeepsSecretsOutOfProblems) {
  const LoadResult result = load_yaml("agent: {env: TOKEN=hunter2, command: {}}\n", "f");
  EXPECT_FALSE(result.ok());
  EXPECT_THAT(report(result), testing::Not(HasSubstr("hunter2")));
}

TEST(OverrideTest, WinsOverTheFileAndIsCheckedTheSame) {
  const std::vector<Override> good = {{"agent.appPort", {"9000"}, "--app-port"},
                                      {"agent.command", {"a", "b c"}, "--"}};
  const LoadResult result = load_yaml("agent: {appPort: 80, command: [x]}\n", "f", good);
  ASSERT_TRUE(result.ok()) << report(result);
  EXPECT_EQ(result.config.agent().app_port(), 9000);
  EXPECT_THAT(result.config.agent().command(), testing::ElementsAre("a", "b c"));

  const std::vector<Override> bad = {{"agent.appPort", {"99999"}, "--app-port"}};
  const LoadResult refused = load_yaml("", "f", bad);
  ASSERT_EQ(refused.problems.size(), 1u);
  EXPECT_EQ(format_problem(refused.problems[0]),
            "--app-port: agent.appPort: 99999 is above the maximum 65535; use 1 to 65535");
}

TEST(OverrideTest, TakesPartInCrossChecks) {
  const std::vector<Override> port = {{"agent.appPort", {"80"}, "--app-port"}};
  const std::string probe = "livenessProbe: {tcpSocket: {}}\n";
  EXPECT_FALSE(load_yaml(probe, "f").ok());
  EXPECT_TRUE(load_yaml(probe, "f", port).ok());

  const std::vector<Override> store = {{"snapshots.store", {"/data/state/store"}, "--store"}};
  const LoadResult nested = load_yaml("agent: {stateDir: /data/state}\n", "f", store);
  ASSERT_EQ(nested.problems.size(), 1u) << report(nested);
  EXPECT_EQ(nested.problems[0].file, "--store");
}

TEST(OverrideTest, UnknownKeysAndWrongCountsAreProblems) {
  for (const Override& from :
       {Override{"agent.nothing", {"1"}, "--x"}, Override{"agent", {"1"}, "--x"},
        Override{"agent.env", {"1"}, "--x"}, Override{"healing.ladders.fault", {"1"}, "--x"},
        Override{"agent.appPort", {}, "--x"}, Override{"agent.appPort", {"1", "2"}, "--x"}}) {
    const LoadResult result = load_yaml("", "f", std::vector{from});
    ASSERT_EQ(result.problems.size(), 1u) << from.key;
    EXPECT_EQ(result.problems[0].file, "--x");
  }
}

TEST(LimitTest, RefusesHugeFiles) {
  const LoadResult result = load_yaml(std::string(config_bytes_max + 1, '#'), "f");
  ASSERT_EQ(result.problems.size(), 1u);
  EXPECT_THAT(result.problems[0].message, HasSubstr("larger than"));
}

TEST(LimitTest, RefusesDeepNesting) {
  for (const std::string piece : {"[", "{a: "}) {
    std::string text = "agent: ";
    for (int i = 0; i < 10'000; ++i) text += piece;
    const LoadResult result = load_yaml(text, "f");
    ASSERT_EQ(result.problems.size(), 1u) << piece;
    EXPECT_THAT(result.problems[0].message, HasSubstr("nested more than 32 deep"));
  }
}

TEST(LimitTest, RefusesAliasBombs) {
  // 2,000 uses of a list of 2,000: four million values from a small file.
  std::string text = "healing:\n  ladders:\n    - fault: crash\n      steps: &s [";
  for (int i = 0; i < 2000; ++i) text += "restart,";
  text += "restart]\n";
  for (int i = 0; i < 2000; ++i) text += "    - {fault: hang, steps: *s}\n";
  const LoadResult result = load_yaml(text, "f");
  EXPECT_THAT(report(result), HasSubstr("values with aliases"));
  EXPECT_LE(result.config.ByteSizeLong(), 16u * config_nodes_max);
}

TEST(LimitTest, KeepsAHundredProblemsAndSaysSo) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "unknown" + std::to_string(i) + ": 1\n";
  const LoadResult result = load_yaml(text, "f");
  ASSERT_EQ(result.problems.size(), config_problems_max + 1);
  EXPECT_THAT(result.problems.back().message, HasSubstr("more than 100 problems"));
}

TEST(LoadFileTest, ReadsAFile) {
  const std::string path = testing::TempDir() + "remora_load_test_" + std::to_string(getpid());
  std::ofstream(path) << "agent:\n  appPort: 0\n";
  const Result<LoadResult> result = load_file(path);
  std::remove(path.c_str());
  ASSERT_TRUE(result.has_value());
  ASSERT_EQ(result->problems.size(), 1u);
  EXPECT_EQ(result->problems[0].file, path);
}

TEST(LoadFileTest, UnreadableFilesAreErrorsThatNameTheFile) {
  const Result<LoadResult> missing = load_file("/nonexistent/remora.yaml");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/remora.yaml"));
  EXPECT_FALSE(load_file("/").has_value());
}

}  // namespace
}  // namespace remora::config
