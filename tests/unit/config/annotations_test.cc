// The vocabulary remora.dev/*: one source, complete, consistent; values by the rules of the file;
// everything wrong said at once with a mend.
#include "config/annotations.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "config/annotation_reference.h"
#include "config/load.h"

namespace remora::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

std::vector<std::string> lines(const Problems& problems) {
  std::vector<std::string> out;
  for (const Problem& problem : problems) out.push_back(format_problem(problem));
  return out;
}

// The file of a pod's ConfigMap with the pod's annotations over it, as the sidecar reads them.
LoadResult loaded(const std::string& yaml, const Annotations& annotations,
                  std::string_view agent = {}) {
  LoadResult result = load_yaml(yaml, "remora.yaml", annotation_overrides(annotations, agent));
  Problems names = check_annotation_names(annotations);
  result.problems.insert(result.problems.begin(), names.begin(), names.end());
  return result;
}

Config overlaid(const std::string& yaml, const Annotations& annotations,
                std::string_view agent = {}) {
  LoadResult result = loaded(yaml, annotations, agent);
  EXPECT_THAT(lines(result.problems), IsEmpty());
  return std::move(result.config);
}

std::vector<std::string> problems_of(const Annotations& annotations, const std::string& yaml = "") {
  return lines(loaded(yaml, annotations).problems);
}

TEST(AnnotationVocabularyTest, NamesAreUniqueAndKubernetesTakesThem) {
  std::set<std::string> names;
  for (const AnnotationEntry& entry : annotation_vocabulary()) {
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_LE(entry.name.size(), 40u) << entry.name << " leaves no room for a container's name";
    EXPECT_TRUE(std::ranges::all_of(entry.name, [](char c) {
      return (c >= 'a' && c <= 'z') || c == '-';
    })) << entry.name;
  }
  EXPECT_GT(names.size(), 60u);
}

TEST(AnnotationVocabularyTest, EveryFieldOfThePodsOwnSettingsHasAName) {
  const MessageDescriptor& type = *PodSettings::descriptor();
  int named = 0;
  for (const AnnotationEntry& entry : annotation_vocabulary()) named += entry.pod_only ? 1 : 0;
  EXPECT_EQ(named, type.field_count());
  for (int i = 0; i < type.field_count(); ++i) {
    EXPECT_FALSE(rules_of(*type.field(i)).help().empty()) << type.field(i)->full_name();
  }
}

TEST(AnnotationVocabularyTest, TheCommittedReferenceIsUpToDate) {
  std::ifstream file(std::string(REMORA_SOURCE_DIR) + "/docs/annotations.md", std::ios::binary);
  const std::string committed{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(committed == render_annotation_reference())
      << "run: remora inject --annotations > docs/annotations.md";
}

TEST(AnnotationVocabularyTest, TheReferenceNamesEveryAnnotation) {
  const std::string reference = render_annotation_reference();
  for (const AnnotationEntry& entry : annotation_vocabulary()) {
    EXPECT_THAT(reference, HasSubstr("| `remora.dev/" + entry.name + "`"));
  }
}

// Each annotation does something: for a value other than the default the configuration differs.
TEST(AnnotationVocabularyTest, EveryAnnotationOfTheConfigurationReachesItsKey) {
  for (const AnnotationEntry& entry : annotation_vocabulary()) {
    if (entry.pod_only) continue;
    const FieldRules& field_rules = rules_of(*entry.field);
    std::string value = field_rules.max();
    if (field_form(*entry.field) == FieldForm::kMessage) {
      value = entry.name == "idempotent" ? "[{method: POST, pathPrefix: /a}]"
              : entry.name == "ladders"  ? "[{fault: hang, steps: [restart]}]"
                                         : "{tcpSocket: {port: 7}}";
    } else if (field_form(*entry.field) == FieldForm::kBool) {
      value = field_rules.default_() == "true" ? "false" : "true";
    } else if (!field_rules.one_of().empty()) {
      value = field_rules.one_of(field_rules.one_of_size() - 1);
    } else if (value.empty()) {
      value = entry.name.ends_with("ports") ? "7" : "10.0.0.7";
    }
    Config config;
    const Problems problems =
        check_annotation_values({{"remora.dev/" + entry.name, value}}, {}, config);
    EXPECT_THAT(lines(problems), IsEmpty()) << entry.name << ": " << value;
    Config untouched;
    EXPECT_THAT(check_annotation_values({}, {}, untouched), IsEmpty());
    EXPECT_NE(config.SerializeAsString(), untouched.SerializeAsString()) << entry.name;
  }
}

TEST(OverlayTest, ScalarsFollowTheRulesOfTheFile) {
  const Config config =
      overlaid("detection: {hangWindow: 10s}", {{"remora.dev/hang-window", "1m30s"},
                                                {"remora.dev/app-port", " 8000 "},
                                                {"remora.dev/deadlock-detection", "false"},
                                                {"remora.dev/request-body-bytes-max", "2MiB"},
                                                {"remora.dev/log-level", "debug"}});
  EXPECT_EQ(to_duration(config.detection().hang_window()), std::chrono::seconds(90));
  EXPECT_EQ(config.agent().app_port(), 8000);
  EXPECT_FALSE(config.detection().deadlock());
  EXPECT_EQ(config.inbound().limits().request_body_bytes_max(), 2 << 20);
  EXPECT_EQ(config.log().level(), "debug");
}

TEST(OverlayTest, WhatTheFileSaysAndNoAnnotationTouchesStays) {
  const Config config = overlaid("detection: {hangWindow: 10s, sampleInterval: 2s}",
                                 {{"remora.dev/sample-interval", "3s"}});
  EXPECT_EQ(to_duration(config.detection().hang_window()), std::chrono::seconds(10));
  EXPECT_EQ(to_duration(config.detection().sample_interval()), std::chrono::seconds(3));
}

TEST(OverlayTest, ListsAreWordsOrYaml) {
  for (const std::string value : {"a/*, b/*", "[\"a/*\", 'b/*']", "- a/*\n- b/*\n", "a/*,b/*,"}) {
    const Config config = overlaid("agent: {stateDir: /data}\nsnapshots: {store: /store}",
                                   {{"remora.dev/snapshot-exclude", value}});
    EXPECT_THAT(config.snapshots().exclude(), ElementsAre("a/*", "b/*")) << value;
  }
}

TEST(OverlayTest, NumbersMayStandInLists) {
  const Config config = overlaid("", {{"remora.dev/exclude-uids", "0, 1337"},
                                      {"remora.dev/exclude-outbound-ports", "5432,8000-8080"}});
  EXPECT_THAT(config.interception().exclude_uids(), ElementsAre(0, 1337));
  EXPECT_THAT(config.interception().exclude_outbound_ports(), ElementsAre("5432", "8000-8080"));
  EXPECT_EQ(config.interception().inbound_port(), 15006) << "the section has its defaults";
}

TEST(OverlayTest, SectionsAreYamlOrJsonAndGetTheirDefaults) {
  for (const std::string value : {R"({"httpGet":{"path":"/x","port":81},"periodSeconds":2})",
                                  "httpGet:\n  path: /x\n  port: 81\nperiodSeconds: 2\n"}) {
    const Config config = overlaid("readinessProbe: {tcpSocket: {port: 9}, timeoutSeconds: 7}",
                                   {{"remora.dev/readiness-probe", value}});
    EXPECT_EQ(config.readiness_probe().http_get().path(), "/x");
    EXPECT_EQ(config.readiness_probe().period_seconds(), 2);
    EXPECT_EQ(config.readiness_probe().timeout_seconds(), 1) << "the file's probe is replaced";
    EXPECT_FALSE(config.readiness_probe().has_tcp_socket());
  }
}

TEST(OverlayTest, AnAnnotationForOneContainerWinsThereOnly) {
  const Annotations annotations = {{"remora.dev/hang-window", "10s"},
                                   {"remora.dev/hang-window.planner", "20s"}};
  const auto window = [&](std::string_view agent) {
    return to_duration(overlaid("", annotations, agent).detection().hang_window());
  };
  EXPECT_EQ(window("planner"), std::chrono::seconds(20));
  EXPECT_EQ(window("other"), std::chrono::seconds(10));
  EXPECT_EQ(window({}), std::chrono::seconds(10));
}

TEST(OverlayTest, WhatAPolicySetIsBelowTheFileAndAboveTheDefaults) {
  const Annotations annotations = {
      {"remora.dev/hang-window", "45s"},
      {"remora.dev/restarts-max", "4"},
      {"remora.dev/snapshot-exclude", "a, b"},
      {"remora.dev/ladders", R"([{"fault": "crash", "steps": ["give_up"]}])"},
      {"remora.dev/restarts-max.planner", "9"},
      {"remora.dev/policy",
       R"({"name": "agents", "generation": 1,
           "settings": ["hang-window", "restarts-max", "snapshot-exclude", "ladders"]})"}};
  const std::string file =
      "detection: {hangWindow: 10s}\nagent: {stateDir: /d}\nsnapshots: {store: /s, exclude: [c]}";
  const Config config = overlaid(file, annotations);
  EXPECT_EQ(config.detection().hang_window().seconds(), 10);
  EXPECT_THAT(config.snapshots().exclude(), ElementsAre("c"));
  EXPECT_EQ(config.healing().budget().restarts_max(), 4);
  EXPECT_EQ(config.healing().ladders_size(), 1);
  EXPECT_EQ(overlaid(file, annotations, "planner").healing().budget().restarts_max(), 9)
      << "the pod's own, for one container";
}

TEST(OverlayTest, ARecordOfAPolicyThatNobodyCanReadIsNone) {
  const Annotations annotations = {{"remora.dev/hang-window", "45s"},
                                   {"remora.dev/policy", "agents"}};
  EXPECT_EQ(
      overlaid("detection: {hangWindow: 10s}", annotations).detection().hang_window().seconds(),
      45);
}

TEST(OverlayTest, EveryProblemIsReportedAtOnceWithItsMend) {
  EXPECT_THAT(
      problems_of({{"remora.dev/hang-window", "5x"},
                   {"remora.dev/app-port", "70000"},
                   {"remora.dev/interception", "magic"},
                   {"remora.dev/exclude-uids", "root"},
                   {"remora.dev/log-level", ""},
                   {"other.dev/hang-window", "5x"}}),
      UnorderedElementsAre(
          "annotation remora.dev/hang-window: detection.hangWindow: \"5x\" is not a duration; "
          "write a number with h, m, s or ms, such as 30s or 1h30m",
          "annotation remora.dev/app-port: agent.appPort: 70000 is above the maximum 65535; use 1 "
          "to 65535",
          "annotation remora.dev/interception: interception.mode: \"magic\" is not a choice; write "
          "transparent, explicit or none",
          "annotation remora.dev/exclude-uids: interception.excludeUids: \"root\" is not a whole "
          "number; write digits only, such as 8080",
          "annotation remora.dev/log-level: log.level: \"\" is not a choice; write debug, info, "
          "warn, error or off"));
}

TEST(OverlayTest, ProblemsInsideASectionNameTheirPlaceInTheValue) {
  EXPECT_THAT(problems_of({{"remora.dev/readiness-probe", "{httpGet: {port: 1, pth: /}}"}}),
              ElementsAre("annotation remora.dev/readiness-probe:1:21: "
                          "readinessProbe.httpGet.pth: unknown key; did you mean path?"));
  EXPECT_THAT(problems_of({{"remora.dev/ladders", "[{fault: hang"}}),
              ElementsAre(HasSubstr("annotation remora.dev/ladders:1:")));
  EXPECT_THAT(problems_of({{"remora.dev/ladders", ""}}),
              ElementsAre("annotation remora.dev/ladders: healing.ladders: has no value; write a "
                          "list of mappings"));
}

TEST(OverlayTest, WhatDoesNotFitTheFileIsSaidOfTheAnnotation) {
  EXPECT_THAT(problems_of({{"remora.dev/hang-window", "1s"}}, "detection: {sampleInterval: 2s}"),
              ElementsAre(HasSubstr("longer than the hang window")));
  EXPECT_THAT(
      problems_of({{"remora.dev/inbound-port", "15020"}, {"remora.dev/health-port", "15020"}}),
      ElementsAre("annotation remora.dev/health-port: pod.healthPort: the port 15020 is "
                  "also that of interception.inboundPort; choose another port"));
}

TEST(OverlayTest, ExclusionsThatAreNoneAreNamed) {
  EXPECT_THAT(problems_of({{"remora.dev/exclude-outbound-addresses",
                            "10.0.0.0/8, 10.0.0.0/33, fd00::/8, db.local, localhost"},
                           {"remora.dev/exclude-inbound-ports", "9090, 80-, 0, 9-8, 8000-8080"}}),
              UnorderedElementsAre(HasSubstr("\"10.0.0.0/33\" is neither an address nor"),
                                   HasSubstr("\"db.local\" is neither"),
                                   HasSubstr("\"localhost\" is neither"),
                                   HasSubstr("\"80-\" is neither a port nor"),
                                   HasSubstr("\"0\" is neither"), HasSubstr("\"9-8\" is neither")));
}

TEST(OverlayTest, ExclusionsThatTheRulesWouldRefuseAreRefusedAtAdmission) {
  EXPECT_THAT(problems_of({{"remora.dev/exclude-outbound-addresses", "10.1.2.3/8"}}),
              ElementsAre(HasSubstr("write 10.0.0.0/8 for the network")));
  std::string ports = "2000";
  for (int port = 2001; port <= 2064; ++port) ports += "," + std::to_string(port);
  EXPECT_THAT(problems_of({{"remora.dev/exclude-inbound-ports", ports}}),
              ElementsAre(HasSubstr("has 65 entries, at most 64")));
}

TEST(OverlayTest, AProblemStaysOnOneLineWhateverTheValueHolds) {
  const std::vector<std::string> problems =
      problems_of({{"remora.dev/exclude-outbound-addresses", "1\n2"},
                   {"remora.dev/exclude-inbound-ports", "1\n2"},
                   {"remora.dev/app-host", "1\n2"},
                   {"remora.dev/hang-window", "1\n2"}});
  EXPECT_EQ(problems.size(), 4u);
  EXPECT_THAT(problems, testing::Each(testing::Not(HasSubstr("\n"))));
}

TEST(AnnotationNamesTest, UnknownOnesGetTheNearestName) {
  const auto check = [](const std::string& key) {
    return lines(check_annotation_names({{"remora.dev/" + key, "1"}}));
  };
  EXPECT_THAT(check("hang-windw"), ElementsAre("annotation remora.dev/hang-windw: unknown "
                                               "annotation; did you mean remora.dev/hang-window?"));
  EXPECT_THAT(check("hangWindow"), ElementsAre(HasSubstr("did you mean remora.dev/hang-window?")));
  EXPECT_THAT(check("detection.hangWindow"),
              ElementsAre(HasSubstr("did you mean remora.dev/hang-window?")));
  EXPECT_THAT(check("hang-windw.planner"),
              ElementsAre(HasSubstr("did you mean remora.dev/hang-window?")));
  EXPECT_THAT(check("utterly-else"), ElementsAre(HasSubstr("docs/annotations.md")));
  EXPECT_THAT(check(""), ElementsAre(HasSubstr("unknown annotation")));
  EXPECT_THAT(check("injected"), IsEmpty());
}

TEST(AnnotationNamesTest, EndingsNameAgents) {
  const std::vector<std::string> agents{"planner", "tools"};
  const auto check = [&](const std::string& key) {
    return lines(check_annotation_names({{"remora.dev/" + key, "1"}}, agents));
  };
  EXPECT_THAT(check("hang-window.tools"), IsEmpty());
  EXPECT_THAT(check("hang-window.tool"),
              ElementsAre("annotation remora.dev/hang-window.tool: \"tool\" is no agent container "
                          "of this pod; name one of planner, tools, or add it to "
                          "remora.dev/containers"));
  EXPECT_THAT(check("health-port.tools"), ElementsAre(HasSubstr("write remora.dev/health-port")));
}

TEST(AnnotationNamesTest, AFloodOfUnknownOnesIsCut) {
  Annotations many;
  for (int i = 0; i < 1000; ++i) many["remora.dev/x" + std::to_string(i)] = "";
  EXPECT_EQ(check_annotation_names(many).size(), config_problems_max);
}

TEST(PodSettingsTest, HasDefaultsAndReadsEachForm) {
  const PodSettingsResult result = pod_settings({{"remora.dev/containers", "planner, tools"},
                                                 {"remora.dev/run-as-user", "0"},
                                                 {"remora.dev/app-ports", "8000, 9000/http2"},
                                                 {"remora.dev/memory-limit", "1Gi"}});
  EXPECT_THAT(lines(result.problems), IsEmpty());
  EXPECT_THAT(result.settings.containers(), ElementsAre("planner", "tools"));
  EXPECT_TRUE(result.settings.has_run_as_user());
  EXPECT_FALSE(result.settings.has_run_as_group());
  EXPECT_FALSE(result.settings.has_inject());
  EXPECT_TRUE(result.settings.rewrite_probes());
  EXPECT_EQ(result.settings.cpu_request(), "10m");
  const std::vector<InjectedPort> ports = app_ports_of(result.settings);
  ASSERT_EQ(ports.size(), 2u);
  EXPECT_EQ(ports[0].port(), 8000);
  EXPECT_EQ(ports[1].port(), 9000);
  EXPECT_EQ(ports[1].protocol(), "http2");
}

TEST(PodSettingsTest, NamesWhatIsWrong) {
  const PodSettingsResult result = pod_settings({{"remora.dev/inject", "yes"},
                                                 {"remora.dev/containers", "a, a, B"},
                                                 {"remora.dev/app-ports", "80/ftp, 0"},
                                                 {"remora.dev/cpu-limit", "1 core"},
                                                 {"remora.dev/config-map", "My_Map"},
                                                 {"remora.dev/image", "a b"},
                                                 {"remora.dev/snapshot-claim", "x"},
                                                 {"remora.dev/snapshot-volume", "y"},
                                                 {"remora.dev/run-as-user", "-1"}});
  EXPECT_THAT(
      lines(result.problems),
      UnorderedElementsAre(
          "annotation remora.dev/inject: \"yes\" is neither true nor false; write true or false",
          HasSubstr("remora.dev/containers: \"a\" is named twice"),
          HasSubstr("remora.dev/containers: \"B\" is no name of a container"),
          HasSubstr("remora.dev/app-ports: \"80/ftp\" is not a port"),
          HasSubstr("remora.dev/app-ports: \"0\" is not a port"),
          HasSubstr("remora.dev/cpu-limit: \"1 core\" is not a quantity"),
          HasSubstr("remora.dev/config-map: \"My_Map\" is no name of a ConfigMap"),
          HasSubstr("remora.dev/image: \"a b\" is no reference"),
          HasSubstr("remora.dev/snapshot-volume: snapshot-claim is there too; keep one"),
          HasSubstr("remora.dev/run-as-user: -1 is below the minimum 0")));
}

Injected example() {
  Injected injected;
  injected.set_version("0.1.0");
  injected.mutable_interception()->set_mode("explicit");
  injected.mutable_interception()->set_inbound_port(16006);
  injected.mutable_interception()->set_outbound_port(16001);
  injected.mutable_outbound()->set_proxy_port(16002);
  injected.mutable_pod()->set_health_port(16020);
  InjectedAgent& agent = *injected.add_agents();
  agent.set_name("planner");
  agent.add_ports()->set_port(8000);
  agent.mutable_ports(0)->set_protocol("http2");
  agent.mutable_liveness_probe()->mutable_http_get()->set_path("/live");
  return injected;
}

TEST(InjectedTest, ComesBackFromItsJson) {
  const Injected injected = example();
  const Result<Injected> again = parse_injected(render_injected(injected));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->SerializeAsString(), injected.SerializeAsString());
}

TEST(InjectedTest, FieldsOfALaterVersionAreLeftOut) {
  EXPECT_EQ(parse_injected(R"({"version": "9", "novelty": {"a": [1]}})").value().version(), "9");
  EXPECT_EQ(parse_injected("not json").error().code, ErrorCode::kCorrupt);
}

TEST(InjectedTest, IsTheGroundBelowFileAndAnnotations) {
  const Injected injected = example();
  std::vector<Override> overrides =
      annotation_overrides({{"remora.dev/hang-window", "1m"}}, "planner");
  for (Override& from : pod_overrides(injected, injected.agents(0))) overrides.push_back(from);
  const LoadResult loaded = load_yaml(
      "agent: {appPort: 9000}\npod: {healthPort: 17000}\ninbound: {listen: '127.0.0.1:1'}",
      "remora.yaml", overrides);
  ASSERT_THAT(lines(loaded.problems), IsEmpty());
  const Config& config = loaded.config;
  EXPECT_EQ(config.agent().app_port(), 9000) << "a default: the file wins";
  EXPECT_EQ(config.agent().app_protocol(), "http2");
  EXPECT_EQ(config.pod().health_port(), 16020) << "the patch was made with it: the file loses";
  EXPECT_EQ(config.inbound().listen(), ":16006");
  EXPECT_EQ(config.interception().mode(), "explicit");
  EXPECT_EQ(config.outbound().proxy_port(), 16002);
  EXPECT_EQ(config.snapshots().store(), "/var/lib/remora");
  EXPECT_EQ(to_duration(config.detection().hang_window()), std::chrono::minutes(1));
}

TEST(PolicyValuesTest, ReplaceWhatAPolicyHadSetAndNothingElse) {
  const Annotations pod = {
      {"remora.dev/hang-window", "40s"},
      {"remora.dev/hold-wait", "9s"},
      {"remora.dev/policy",
       R"({"name":"p","generation":1,"settings":["hang-window","stable-after"]})"},
      {"remora.dev/stable-after", "1m"}};
  const Annotations now = with_policy(
      pod, {.policy = "p",
            .generation = 2,
            .annotations = {{"remora.dev/hang-window", "45s"}, {"remora.dev/hold-wait", "1s"}}});
  EXPECT_EQ(now.at("remora.dev/hang-window"), "45s");
  EXPECT_EQ(now.at("remora.dev/hold-wait"), "9s") << "the pod's own";
  EXPECT_FALSE(now.contains("remora.dev/stable-after"));
  const AppliedPolicy applied = applied_policy(now);
  EXPECT_EQ(applied.generation(), 2);
  ASSERT_EQ(applied.settings_size(), 1);
  EXPECT_EQ(applied.settings(0), "hang-window");
  // No policy any more.
  const Annotations left = with_policy(now, {});
  EXPECT_EQ(left, (Annotations{{"remora.dev/hold-wait", "9s"}}));
}

}  // namespace
}  // namespace remora::config
