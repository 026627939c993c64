#include "sidecar/app/report_mark.h"

#include <nlohmann/json.hpp>

#include "sidecar/app/json_member.h"
#include "sidecar/heal/incident.h"

namespace remora {
namespace {

using Json = nlohmann::json;

}  // namespace

ReportMark ReportMark::parse(std::string_view text) {
  ReportMark mark;
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return mark;
  mark.pod_ = text_at(json, "pod");
  mark.through_ = text_at(json, "through");
  const auto settled = json.find("settled");
  if (settled == json.end() || !settled->is_array()) return mark;
  for (const Json& one : *settled) {
    if (one.is_string() && is_incident_id(one.get<std::string>())) mark.settled_.insert(one);
  }
  return mark;
}

std::string ReportMark::text() const {
  return Json{{"pod", pod_}, {"through", through_}, {"settled", settled_}}.dump(
      -1, ' ', false, Json::error_handler_t::replace);
}

void ReportMark::begin(const std::string& pod_uid, const std::string& newest) {
  if (pod_ == pod_uid) return;
  pod_ = pod_uid;
  through_ = newest;
  settled_.clear();
}

bool ReportMark::is_settled(const std::string& id) const {
  return id <= through_ || settled_.contains(id);
}

void ReportMark::settle(const std::string& id, const std::string& oldest_open) {
  if (id > through_) settled_.insert(id);
  // Ids sort by time.
  while (!settled_.empty()) {
    const std::string& first = *settled_.begin();
    const bool is_next = oldest_open.empty() || first < oldest_open;
    if (!is_next && settled_.size() <= report_mark_settled_max) return;
    through_ = first;
    settled_.erase(settled_.begin());
  }
}

}  // namespace remora
