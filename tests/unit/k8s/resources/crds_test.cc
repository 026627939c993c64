// CustomResourceDefinitions from the schema, and the file that is checked in.
#include "k8s/resources/crds.h"

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/inject/yaml_json.h"
#include "k8s/resources/resources.pb.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;

Json spec_of(const google::protobuf::Descriptor& message) {
  return resource_schema(message)["properties"]["spec"];
}

// Every schema in it, with its path.
void walk(const Json& schema, const std::string& path,
          const std::function<void(const Json&, const std::string&)>& see) {
  see(schema, path);
  if (schema.contains("properties")) {
    for (const auto& [name, inner] : schema["properties"].items())
      walk(inner, path + "." + name, see);
  }
  if (schema.contains("items")) walk(schema["items"], path + "[]", see);
}

TEST(CrdsTest, TheCheckedInFileIsWhatTheSchemaMakes) {
  std::ifstream file(REMORA_SOURCE_DIR "/k8s/manifests/crds/crds.yaml");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), resource_definitions_yaml())
      << "remora operator crds > k8s/manifests/crds/crds.yaml";
}

TEST(CrdsTest, SchemasAreStructuralAndBounded) {
  for (const ResourceKind& kind : resource_kinds()) {
    walk(resource_schema(*kind.message), "", [](const Json& schema, const std::string& path) {
      EXPECT_TRUE(schema.contains("type") || schema.contains("x-kubernetes-int-or-string")) << path;
      const std::string type = schema.value("type", "");
      if (type == "array") {
        EXPECT_TRUE(schema.contains("maxItems")) << path;
      }
      if (type == "string") {
        EXPECT_TRUE(schema.contains("maxLength") || schema.contains("enum") ||
                    schema.contains("format"))
            << path;
      }
      if (!path.empty() && path != ".spec" && !path.ends_with("[]")) {
        EXPECT_TRUE(schema.contains("description")) << path;
      }
    });
  }
}

TEST(CrdsTest, RangesChoicesDefaultsAndDurationsCarryOver) {
  const Json spec = spec_of(*v1alpha1::HealingPolicy::descriptor());
  EXPECT_THAT(spec["required"], ElementsAre("selector"));
  const Json& budgets = spec["properties"]["budgets"];
  EXPECT_EQ(budgets["default"], Json::object());
  const Json& percent = budgets["properties"]["minHealthyPercent"];
  EXPECT_EQ(percent["type"], "integer");
  EXPECT_EQ(percent["minimum"], 0);
  EXPECT_EQ(percent["maximum"], 100);
  EXPECT_EQ(percent["default"], 50);
  const Json& window = budgets["properties"]["window"];
  EXPECT_EQ(window["format"], "duration");
  EXPECT_EQ(window["default"], "10m");
  EXPECT_EQ(window["x-kubernetes-validations"][0]["rule"],
            "self >= duration('10s') && self <= duration('24h')");
  const Json& ladder = spec["properties"]["ladders"]["items"];
  EXPECT_THAT(ladder["required"], ElementsAre("fault", "steps"));
  EXPECT_THAT(ladder["properties"]["steps"]["items"]["enum"],
              ElementsAre("wait", "restart", "restore", "resize", "reschedule", "reprovision",
                          "roll_back", "alert"));
  // What the reader refuses the API server refuses first.
  EXPECT_EQ(ladder["properties"]["steps"]["minItems"], 1);
  const Json& requirement =
      spec["properties"]["selector"]["properties"]["matchExpressions"]["items"];
  EXPECT_EQ(requirement["properties"]["key"]["minLength"], 1);
  EXPECT_EQ(spec["properties"]["paused"]["default"], false);
}

TEST(CrdsTest, DefinitionsHaveStatusColumnsAndShortNames) {
  for (const ResourceKind& kind : resource_kinds()) {
    const Json crd = resource_definition(kind);
    EXPECT_EQ(crd["metadata"]["name"], std::string(kind.plural) + ".remora.dev");
    const Json& version = crd["spec"]["versions"][0];
    EXPECT_TRUE(version["subresources"].contains("status"));
    EXPECT_GE(version["additionalPrinterColumns"].size(), 5u);
    EXPECT_EQ(crd["spec"]["names"]["shortNames"][0], kind.short_name);
    // Each column shows a field that exists.
    for (const Json& column : version["additionalPrinterColumns"]) {
      std::string path = column["jsonPath"];
      if (path.starts_with(".metadata.")) continue;
      Json schema = version["schema"]["openAPIV3Schema"];
      std::istringstream steps(path.substr(1));
      for (std::string step; std::getline(steps, step, '.');) schema = schema["properties"][step];
      EXPECT_FALSE(schema.is_null()) << path;
    }
  }
}

TEST(CrdsTest, ADefinitionStaysFarFromTheLimitOfAnnotations) {
  // `kubectl apply` keeps the whole object in an annotation, at most 256 KiB.
  for (const ResourceKind& kind : resource_kinds()) {
    EXPECT_LT(resource_definition(kind).dump().size(), 100'000u) << kind.kind;
  }
}

}  // namespace
}  // namespace remora::k8s
