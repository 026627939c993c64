// Collects the operations of a JSON patch (RFC 6902) while it carries them out on a copy of the
// pod, so that each operation is made for what the pod is by then.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "k8s/inject/json_view.h"

namespace remora::k8s {

class PatchBuilder {
 public:
  explicit PatchBuilder(const Json& pod);
  ~PatchBuilder();
  PatchBuilder(const PatchBuilder&) = delete;
  PatchBuilder& operator=(const PatchBuilder&) = delete;

  // The pod as it is by now.
  const Json& pod() const { return *pod_; }
  // Null when there is nothing at pointer, or null.
  const Json* at(const std::string& pointer) const;

  // RFC 6902 section 4. The parent must be there; pointer is not the whole pod.
  void add(const std::string& pointer, Json value);
  void replace(const std::string& pointer, Json value);
  void remove(const std::string& pointer);

  // Adds value unless there is something already.
  void ensure(const std::string& pointer, const Json& value);
  // The same for each member of an object, and the members of those.
  void ensure_members(const std::string& pointer, const Json& object);
  // Appends those items whose member `key` no item of the list has; makes the list if need be.
  void ensure_items(const std::string& pointer, const Json& items, std::string_view key);

  size_t size() const { return size_; }
  std::string dump() const;  // a JSON array of the operations

 private:
  void note(std::string_view operation, const std::string& pointer, const Json* value);
  void put(const std::string& pointer, Json value);

  std::unique_ptr<Json> pod_;
  std::string operations_;  // as JSON, between commas: a webhook has no time to keep copies
  size_t size_ = 0;
};

}  // namespace remora::k8s
