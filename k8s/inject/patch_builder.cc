#include "k8s/inject/patch_builder.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace remora::k8s {

namespace {

std::string text_of_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

PatchBuilder::PatchBuilder(const Json& pod) : pod_(std::make_unique<Json>(pod)) {}
PatchBuilder::~PatchBuilder() = default;

const Json* PatchBuilder::at(const std::string& pointer) const {
  const Json::json_pointer place(pointer);
  if (!pod_->contains(place)) return nullptr;
  const Json& value = pod_->at(place);
  return value.is_null() ? nullptr : &value;
}

void PatchBuilder::add(const std::string& pointer, Json value) {
  note("add", pointer, &value);
  put(pointer, std::move(value));
}

void PatchBuilder::replace(const std::string& pointer, Json value) {
  note("replace", pointer, &value);
  pod_->at(Json::json_pointer(pointer)) = std::move(value);
}

void PatchBuilder::remove(const std::string& pointer) {
  note("remove", pointer, nullptr);
  pod_->patch_inplace(Json::array({{{"op", "remove"}, {"path", pointer}}}));
}

void PatchBuilder::ensure(const std::string& pointer, const Json& value) {
  if (at(pointer) == nullptr) add(pointer, value);
}

void PatchBuilder::ensure_members(const std::string& pointer, const Json& object) {
  const Json* there = at(pointer);
  if (there == nullptr) return add(pointer, object);
  if (!there->is_object() || !object.is_object()) return;
  for (const auto& [key, value] : object.items()) {
    ensure_members(pointer + "/" + pointer_step(key), value);
  }
}

void PatchBuilder::ensure_items(const std::string& pointer, const Json& items,
                                std::string_view key) {
  if (items.empty()) return;
  if (at(pointer) == nullptr) return add(pointer, items);
  for (const Json& item : items) {
    if (find_named(at(pointer), key, text_of(item, key)) == nullptr) add(pointer + "/-", item);
  }
}

std::string PatchBuilder::dump() const { return "[" + operations_ + "]"; }

void PatchBuilder::note(std::string_view operation, const std::string& pointer, const Json* value) {
  operations_.append(size_++ == 0 ? "" : ",");
  operations_.append("{\"op\":\"").append(operation).append("\",\"path\":");
  operations_.append(text_of_json(pointer));
  if (value != nullptr) operations_.append(",\"value\":").append(text_of_json(*value));
  operations_ += '}';
}

// What patch_inplace() does, which would copy the value three times.
void PatchBuilder::put(const std::string& pointer, Json value) {
  const Json::json_pointer place(pointer);
  Json& parent = pod_->at(place.parent_pointer());
  const std::string& step = place.back();
  if (!parent.is_array()) {
    parent[step] = std::move(value);
  } else if (step == "-") {
    parent.push_back(std::move(value));
  } else {
    const size_t index = std::min<size_t>(std::stoul(step), parent.size());
    parent.insert(parent.begin() + static_cast<Json::difference_type>(index), std::move(value));
  }
}

}  // namespace remora::k8s
