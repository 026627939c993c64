#include "k8s/api/writes.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace remora::k8s {
namespace {

using Json = nlohmann::ordered_json;

ApiRequest patch(std::string path, std::string body, const char* type) {
  ApiRequest request;
  request.method = "PATCH";
  request.path = std::move(path);
  request.body = std::move(body);
  request.content_type = type;
  return request;
}

constexpr const char* merge_patch = "application/merge-patch+json";

std::string apply_query() { return "?fieldManager=" + std::string(field_manager) + "&force=true"; }

}  // namespace

std::string ObjectPath::collection() const {
  std::string path = group.empty() ? "/api/" + version : "/apis/" + group + "/" + version;
  if (!namespace_name.empty()) path += "/namespaces/" + namespace_name;
  return path + "/" + plural;
}

ApiRequest create_request(const ObjectPath& path, std::string body) {
  ApiRequest request;
  request.method = "POST";
  request.path = path.collection() + "?fieldManager=" + std::string(field_manager);
  request.body = std::move(body);
  return request;
}

// JSON is YAML.
ApiRequest apply_request(const ObjectPath& path, std::string body) {
  return patch(path.object() + apply_query(), std::move(body), "application/apply-patch+yaml");
}

ApiRequest apply_status_request(const ObjectPath& path, std::string body) {
  return patch(path.object() + "/status" + apply_query(), std::move(body),
               "application/apply-patch+yaml");
}

ApiRequest merge_patch_request(const ObjectPath& path, std::string body) {
  return patch(path.object(), std::move(body), merge_patch);
}

ApiRequest merge_status_request(const ObjectPath& path, std::string body) {
  return patch(path.object() + "/status", std::move(body), merge_patch);
}

ApiRequest json_patch_request(const ObjectPath& path, std::string body) {
  return patch(path.object(), std::move(body), "application/json-patch+json");
}

ApiRequest evict_request(const std::string& namespace_name, const std::string& pod,
                         const std::string& uid) {
  ApiRequest request;
  request.method = "POST";
  request.path = "/api/v1/namespaces/" + namespace_name + "/pods/" + pod + "/eviction";
  request.body = Json{{"apiVersion", "policy/v1"},
                      {"kind", "Eviction"},
                      {"metadata", {{"name", pod}, {"namespace", namespace_name}}},
                      {"deleteOptions", {{"preconditions", {{"uid", uid}}}}}}
                     .dump();
  request.retry_throttled = false;
  return request;
}

ApiRequest delete_request(const ObjectPath& path, const Precondition& precondition) {
  Json preconditions = Json::object();
  if (!precondition.uid.empty()) preconditions["uid"] = precondition.uid;
  if (!precondition.resource_version.empty()) {
    preconditions["resourceVersion"] = precondition.resource_version;
  }
  ApiRequest request;
  request.method = "DELETE";
  request.path = path.object();
  request.body = Json{{"apiVersion", "v1"},
                      {"kind", "DeleteOptions"},
                      {"preconditions", std::move(preconditions)}}
                     .dump();
  return request;
}

}  // namespace remora::k8s
