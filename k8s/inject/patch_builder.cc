#include "k8s/inject/patch_builder.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace remora::k8s {

PatchBuilder::PatchBuilder(const Json& pod)
    : pod_(std::make_unique<Json>(pod)), operations_(std::make_unique<Json>(Json::array())) {}
PatchBuilder::~PatchBuilder() = default;

const Json* PatchBuilder::at(const std::string& pointer) const {
  const Json::json_pointer place(pointer);
  if (!pod_->contains(place)) return nullptr;
  const Json& value = pod_->at(place);
  return value.is_null() ? nullptr : &value;
}

void PatchBuilder::add(const std::string& pointer, const Json& value) {
  apply({{"op", "add"}, {"path", pointer}, {"value", value}});
}

void PatchBuilder::replace(const std::string& pointer, const Json& value) {
  apply({{"op", "replace"}, {"path", pointer}, {"value", value}});
}

void PatchBuilder::remove(const std::string& pointer) {
  apply({{"op", "remove"}, {"path", pointer}});
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

size_t PatchBuilder::size() const { return operations_->size(); }

std::string PatchBuilder::dump() const {
  return operations_->dump(-1, ' ', false, Json::error_handler_t::replace);
}

void PatchBuilder::apply(Json operation) {
  pod_->patch_inplace(Json::array({operation}));
  operations_->push_back(std::move(operation));
}

}  // namespace remora::k8s
