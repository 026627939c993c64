// Requests that change objects: paths, types and preconditions.
#include "k8s/api/writes.h"

#include <nlohmann/json.hpp>
#include <string>

#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using Json = nlohmann::json;

const ObjectPath incident{.group = "remora.dev",
                          .version = "v1alpha1",
                          .plural = "incidents",
                          .namespace_name = "n",
                          .name = "i"};
constexpr const char* collection = "/apis/remora.dev/v1alpha1/namespaces/n/incidents";

TEST(WritesTest, PathsOfCoreAndOtherGroups) {
  EXPECT_EQ(incident.object(), std::string(collection) + "/i");
  const ObjectPath node{
      .group = "", .version = "v1", .plural = "nodes", .namespace_name = "", .name = "n1"};
  EXPECT_EQ(node.object(), "/api/v1/nodes/n1");
}

TEST(WritesTest, EachPatchHasItsTypeAndPlace) {
  const ApiRequest apply = apply_request(incident, "{}");
  EXPECT_EQ(apply.method, "PATCH");
  EXPECT_EQ(apply.path, std::string(collection) + "/i?fieldManager=remora-operator&force=true");
  EXPECT_EQ(apply.content_type, "application/apply-patch+yaml");
  const ApiRequest status = merge_status_request(incident, "{}");
  EXPECT_EQ(status.path, std::string(collection) + "/i/status");
  EXPECT_EQ(status.content_type, "application/merge-patch+json");
  EXPECT_EQ(apply_status_request(incident, "{}").path,
            std::string(collection) + "/i/status?fieldManager=remora-operator&force=true");
  EXPECT_EQ(json_patch_request(incident, "[]").content_type, "application/json-patch+json");
  EXPECT_EQ(merge_patch_request(incident, "{}").path, std::string(collection) + "/i");
  EXPECT_EQ(create_request(incident, "{}").path,
            std::string(collection) + "?fieldManager=remora-operator");
}

TEST(WritesTest, AnEvictionIsOfOneLifeAndNotWaitedFor) {
  const ApiRequest request = evict_request("n", "p", "uid-1");
  EXPECT_EQ(request.path, "/api/v1/namespaces/n/pods/p/eviction");
  EXPECT_FALSE(request.retry_throttled);
  const Json body = Json::parse(request.body);
  EXPECT_EQ(body["kind"], "Eviction");
  EXPECT_EQ(body["deleteOptions"]["preconditions"]["uid"], "uid-1");
  EXPECT_EQ(target_of(request.method, request.path).resource, "pods/eviction");
}

TEST(WritesTest, ADeletionNamesWhatItMeans) {
  const ApiRequest request = delete_request(incident, {.uid = "u", .resource_version = "7"});
  EXPECT_EQ(request.method, "DELETE");
  const Json body = Json::parse(request.body);
  EXPECT_EQ(body["preconditions"], (Json{{"uid", "u"}, {"resourceVersion", "7"}}));
  EXPECT_TRUE(Json::parse(delete_request(incident, {}).body)["preconditions"].empty());
}

}  // namespace
}  // namespace remora::k8s
