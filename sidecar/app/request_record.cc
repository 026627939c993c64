#include "sidecar/app/request_record.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "sidecar/app/json_member.h"

namespace remora {
namespace {

using Json = nlohmann::json;

bool flag_at(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_boolean() && found->get<bool>();
}

}  // namespace

RequestRecord RequestRecord::parse(std::string_view text) {
  RequestRecord record;
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array()) return record;
  for (const Json& one : json) {
    if (!one.is_object() || text_at(one, "id").empty()) continue;
    record.put({.id = text_at(one, "id"),
                .is_over = flag_at(one, "over"),
                .done = flag_at(one, "done"),
                .message = text_at(one, "message"),
                .snapshot = text_at(one, "snapshot")});
  }
  return record;
}

std::string RequestRecord::text() const {
  Json json = Json::array();
  for (const DoneRequest& one : requests_) {
    json.push_back({{"id", one.id},
                    {"over", one.is_over},
                    {"done", one.done},
                    {"message", one.message},
                    {"snapshot", one.snapshot}});
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const DoneRequest* RequestRecord::find(const std::string& id) const {
  const auto found = std::ranges::find(requests_, id, &DoneRequest::id);
  return found == requests_.end() ? nullptr : &*found;
}

void RequestRecord::put(DoneRequest request) {
  const auto found = std::ranges::find(requests_, request.id, &DoneRequest::id);
  if (found != requests_.end()) {
    *found = std::move(request);
    return;
  }
  if (requests_.size() >= requests_kept_max) requests_.pop_front();
  requests_.push_back(std::move(request));
}

void RequestRecord::close_left_open() {
  for (DoneRequest& one : requests_) {
    if (one.is_over) continue;
    one.is_over = true;
    one.message = "Remora was started again while it was carried out";
  }
}

}  // namespace remora
