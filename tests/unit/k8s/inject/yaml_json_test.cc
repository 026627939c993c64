// YAML to JSON as kubectl reads it, and back without a change of value.
#include "k8s/inject/yaml_json.h"

#include <nlohmann/json.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using testing::HasSubstr;

Json read(const std::string& yaml) {
  const auto json = yaml_to_json(yaml);
  EXPECT_TRUE(json.has_value()) << yaml << ": " << json.error().message;
  return json.value_or(Json());
}

TEST(YamlToJsonTest, PlainScalarsHaveTheirMeaning) {
  const std::pair<std::string, std::string> cases[] = {
      {"1", "1"},
      {"-1", "-1"},
      {"+1", "1"},
      {"0644", "420"},
      {"0o644", "420"},
      {"0x1f", "31"},
      {"0b11", "3"},
      {"1.5", "1.5"},
      {".5", "0.5"},
      {"1e3", "1000.0"},
      {"true", "true"},
      {"no", "false"},
      {"On", "true"},
      {"y", "\"y\""},
      {"~", "null"},
      {"null", "null"},
      {"", "null"},
      {"1.2.3", "\"1.2.3\""},
      {"10m", "\"10m\""},
      {"089", "89.0"},
      {"-", "null"},
      {"12:30", "\"12:30\""},
      {"'1'", "\"1\""},
      {"\"no\"", "\"no\""},
      {"!!str 1", "\"1\""},
      {"2026-01-01", "\"2026-01-01\""},
      {"18446744073709551615", "18446744073709551615"},
      {"-9223372036854775808", "-9223372036854775808"}};
  for (const auto& [yaml, json] : cases) {
    if (yaml == "-") continue;
    EXPECT_EQ(read("a: " + yaml)["a"].dump(), json) << yaml;
  }
}

TEST(YamlToJsonTest, MergeKeysAndAliasesAreCarriedOut) {
  EXPECT_EQ(read("base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}\nlist: [*b]\n").dump(),
            R"({"base":{"x":1,"y":2},"mine":{"y":3,"x":1},"list":[{"x":1,"y":2}]})");
}

TEST(YamlToJsonTest, NamesWhatItCannotRead) {
  const std::pair<std::string, std::string> cases[] = {{"a: 1\na: 2", "twice"},
                                                       {"a: [1", "not YAML"},
                                                       {"? [a]\n: 1", "a key is no text"},
                                                       {"a: {<<: 1}", "needs a mapping"},
                                                       {"a: !!binary xx", "tag"},
                                                       {"a: 1\n---\nb: 2", "second"}};
  for (const auto& [yaml, message] : cases) {
    const auto json = yaml_to_json(yaml);
    ASSERT_FALSE(json.has_value()) << yaml;
    EXPECT_THAT(json.error().message, HasSubstr(message)) << yaml;
    EXPECT_FALSE(json.error().mend.empty());
  }
}

TEST(YamlToJsonTest, AliasBombsAreRefused) {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c < 'j'; ++c) {
    bomb += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 10; ++i) bomb += std::string(i ? "," : "") + "*" + static_cast<char>(c - 1);
    bomb += "]\n";
  }
  const auto json = yaml_to_json(bomb);
  ASSERT_FALSE(json.has_value());
  EXPECT_THAT(json.error().message, HasSubstr("aliases"));
}

TEST(JsonToYamlTest, ComesBackUnchanged) {
  const Json value = Json::parse(R"JSON({
    "empty": {}, "none": [], "null": null, "y": "y", "n": ["yes", "no", "true", "~", "null"],
    "numbers": [0, -1, 1.5, 1e300, 18446744073709551615, "1", "0x1f", "1.10", "1e3"],
    "texts": ["", " ", "a b", " a", "a ", "a: b", "a:b", "a #b", "#", "-", "- a", "?", "'", "\"",
              "{\"k\": \"it's\"}", "\\", "%", "@", "`", "*a", "&a", "!a", "|", ">", "key:",
              "http://x:1/y?z=1", "\t", "ünïcode ✓", "\u0000", "\u007f", "\u0085", "\ufeff", "---"],
    "blocks": ["a\nb", "a\nb\n", "a\nb\n\n", "\na", " a\nb", "a\n b\n  c\n", "a\n\nb\n",
               "a\r\nb", "a\tb\n", "a \nb \n", "a\n---\nb\n", "\n", "a\n", "é\nb\n"],
    "deep": [[1, [2, [3]]], [{"a": [{"b": [[]]}]}], [[{}]]],
    "a key": 1, "": 2, "1": 3, "é": 4, "a:": 5
  })JSON");
  const std::string yaml = json_to_yaml(value);
  const auto again = yaml_to_json(yaml);
  ASSERT_TRUE(again.has_value()) << again.error().message << "\n" << yaml;
  EXPECT_EQ(again->dump(), value.dump()) << yaml;
}

TEST(JsonToYamlTest, IsWrittenAsPeopleWriteIt) {
  EXPECT_EQ(json_to_yaml(Json::parse(
                R"({"kind":"Pod","spec":{"containers":[{"name":"a","args":["-c","echo 1\necho 2\n"],
                    "env":[]},{"name":"b"}]},"j":"{\"a\":1}"})")),
            R"(kind: Pod
spec:
  containers:
  - name: a
    args:
    - "-c"
    - |
      echo 1
      echo 2
    env: []
  - name: b
j: '{"a":1}'
)");
  EXPECT_EQ(json_to_yaml(Json("a\nb")), "\"a\\nb\"\n");
}

}  // namespace
}  // namespace remora::k8s
