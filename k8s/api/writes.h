// Requests that change objects, each safe to send again or refused when somebody was faster. Pure.
#pragma once

#include <string>
#include <string_view>

#include "k8s/api/request.h"

namespace remora::k8s {

// In whose name fields are ours (server-side apply).
inline constexpr std::string_view field_manager = "remora-operator";

struct ObjectPath {
  std::string group;    // empty: the core group
  std::string version;  // "v1"
  std::string plural;
  std::string namespace_name;  // empty: none
  std::string name;

  std::string collection() const;
  std::string object() const { return collection() + "/" + name; }
};

// Only the object that was looked at: another life of the name, or a newer state, is left alone.
struct Precondition {
  std::string uid{};               // empty: any
  std::string resource_version{};  // empty: any
};

ApiRequest create_request(const ObjectPath& path, std::string body);
// Server-side apply: the object then has exactly the fields of body in our name, and others keep
// theirs. What somebody else has set among the fields of body becomes ours.
ApiRequest apply_request(const ObjectPath& path, std::string body);
ApiRequest apply_status_request(const ObjectPath& path, std::string body);
// RFC 7386. With metadata.resourceVersion in body it is refused (409) when the object has changed.
ApiRequest merge_patch_request(const ObjectPath& path, std::string body);
ApiRequest merge_status_request(const ObjectPath& path, std::string body);
// RFC 6902.
ApiRequest json_patch_request(const ObjectPath& path, std::string body);
// The Eviction API (policy/v1): 429 while a disruption budget forbids it, which is not waited for.
ApiRequest evict_request(const std::string& namespace_name, const std::string& pod,
                         const std::string& uid);
ApiRequest delete_request(const ObjectPath& path, const Precondition& precondition);

}  // namespace remora::k8s
