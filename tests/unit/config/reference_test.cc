// The schema keeps its own rules, the reference is the committed one, and what is rendered loads
// back.
#include "config/reference.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "config/load.h"
#include "config/render.h"
#include "config/schema.h"

namespace remora::config {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string read_source(const std::string& path) {
  std::ifstream file(std::string(REMORA_SOURCE_DIR) + "/" + path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void for_each_field(const MessageDescriptor& type, std::set<const MessageDescriptor*>& seen,
                    const std::function<void(const FieldDescriptor&)>& visit) {
  if (!seen.insert(&type).second) return;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    visit(field);
    if (field_form(field) == FieldForm::kMessage) {
      for_each_field(*field.message_type(), seen, visit);
    }
  }
}

TEST(SchemaTest, EveryFieldIsCompleteAndConsistent) {
  std::set<const MessageDescriptor*> seen;
  int fields = 0;
  for_each_field(*Config::descriptor(), seen, [&](const FieldDescriptor& field) {
    ++fields;
    const FieldRules& field_rules = rules_of(field);
    EXPECT_FALSE(field_rules.help().empty()) << field.full_name();
    const FieldForm form = field_form(field);
    if (form == FieldForm::kMessage || form == FieldForm::kMap) return;
    for (const std::string& text : {field_rules.default_(), field_rules.min(), field_rules.max()}) {
      if (text.empty()) continue;
      const Parsed<Value> value = parse_value(field, text, false);
      EXPECT_TRUE(value.has_value()) << field.full_name() << ": " << text << " is refused";
    }
    const bool is_number = form != FieldForm::kString && form != FieldForm::kBool;
    // Bounds keep every number within its type and every duration within arithmetic.
    EXPECT_EQ(is_number, !field_rules.min().empty()) << field.full_name();
    EXPECT_EQ(is_number, !field_rules.max().empty()) << field.full_name();
  });
  EXPECT_GT(fields, 60);
}

TEST(ReferenceTest, TheCommittedReferenceIsUpToDate) {
  EXPECT_TRUE(read_source("docs/configuration.md") == render_reference())
      << "run: remora validate --schema > docs/configuration.md";
}

TEST(ReferenceTest, NamesEveryKey) {
  const std::string reference = render_reference();
  std::set<const MessageDescriptor*> seen;
  for_each_field(*Config::descriptor(), seen, [&](const FieldDescriptor& field) {
    EXPECT_THAT(reference, HasSubstr("| `" + key_of(field) + "` |"));
  });
}

TEST(RenderTest, ExamplesAreValidAndComeBackUnchanged) {
  const std::filesystem::path folder = std::filesystem::path(REMORA_SOURCE_DIR) / "config/examples";
  int examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    ++examples;
    const Result<LoadResult> loaded = load_file(entry.path());
    ASSERT_TRUE(loaded.has_value()) << entry.path();
    ASSERT_TRUE(loaded->ok()) << format_problem(loaded->problems[0]);
    for (const std::string& text : {render_yaml(loaded->config, {.redact = false}),
                                    render_json(loaded->config, {.redact = false})}) {
      const LoadResult again = load_yaml(text, "rendered");
      ASSERT_TRUE(again.ok()) << format_problem(again.problems[0]) << "\n" << text;
      EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(again.config, loaded->config))
          << text;
    }
  }
  EXPECT_GE(examples, 3);
}

TEST(RenderTest, AwkwardTextsComeBackUnchanged) {
  LoadResult loaded = load_yaml("", "f");
  Agent& agent = *loaded.config.mutable_agent();
  for (const std::string text :
       {"",      "true", "No", "null", "~",  "1",    "0x1f", "-",         "- a",   "a: b",
        "a #b",  "#",    "'",  "\"",   "\\", "a\nb", "\t",   "ünïcode ✓", "*star", "&and",
        "!bang", "{",    "]",  "%",    "@",  "`",    "\x7f", " "}) {
    agent.add_command("x" + text);
    (*agent.mutable_env())["E"] = text;
    *agent.mutable_state_dir() = text;
    for (const std::string& rendered : {render_yaml(loaded.config, {.redact = false}),
                                        render_json(loaded.config, {.redact = false})}) {
      const LoadResult again = load_yaml(rendered, "rendered");
      ASSERT_TRUE(again.ok()) << format_problem(again.problems[0]) << "\n" << rendered;
      EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(again.config, loaded.config))
          << rendered;
    }
  }
}

TEST(RenderTest, JsonIsJson) {
  const Result<LoadResult> loaded =
      load_file(std::string(REMORA_SOURCE_DIR) + "/config/examples/stateful-agent.yaml");
  ASSERT_TRUE(loaded.has_value() && loaded->ok());
  const auto json = nlohmann::json::parse(render_json(loaded->config), nullptr, false);
  ASSERT_FALSE(json.is_discarded());
  EXPECT_EQ(json["agent"]["appPort"], 8000);
  EXPECT_EQ(json["inbound"]["hold"]["wait"], "1m30s");
  EXPECT_EQ(json["inbound"]["accessLog"]["enabled"], false);
  EXPECT_EQ(json["healing"]["ladders"][1]["steps"][0], "restore");
}

TEST(RenderTest, SecretsAreRedacted) {
  const LoadResult loaded = load_yaml(R"(
agent: {appPort: 80, env: {TOKEN: hunter2}}
livenessProbe: {httpGet: {httpHeaders: [{name: Authorization, value: Bearer hunter2}]}}
)",
                                      "f");
  ASSERT_TRUE(loaded.ok()) << format_problem(loaded.problems[0]);
  for (const std::string& text : {render_yaml(loaded.config), render_json(loaded.config)}) {
    EXPECT_THAT(text, Not(HasSubstr("hunter2")));
    EXPECT_THAT(text, HasSubstr("TOKEN"));
    EXPECT_THAT(text, HasSubstr("Authorization"));
  }
}

}  // namespace
}  // namespace remora::config
