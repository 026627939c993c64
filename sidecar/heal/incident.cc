#include "sidecar/heal/incident.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

namespace remora {
namespace {

using nlohmann::json;

constexpr int format_version = 1;
constexpr size_t incident_id_bytes_max = 100;
// A byte that is not UTF-8 is stored as three; then the note of what was left out.
constexpr size_t stored_text_bytes_max = 3 * incident_text_bytes_max + 64;

std::optional<double> seconds_between(int64_t from_ns, int64_t to_ns) {
  if (from_ns == 0 || to_ns == 0) return std::nullopt;
  return static_cast<double>(to_ns - from_ns) / 1e9;
}

json number_or_null(std::optional<double> value) { return value ? json(*value) : json(nullptr); }

std::string bounded_text(std::string_view text, size_t bytes_max = incident_text_bytes_max) {
  if (text.size() <= bytes_max) return std::string(text);
  return fmt::format("{} [{} bytes left out]", text.substr(0, bytes_max), text.size() - bytes_max);
}

// The newest part of a log is the telling one.
std::string bounded_tail(std::string_view text) {
  if (text.size() <= incident_log_tail_bytes_max) return std::string(text);
  return std::string(text.substr(text.size() - incident_log_tail_bytes_max));
}

json evidence_json(const std::vector<EvidenceItem>& evidence) {
  json list = json::array();
  for (const EvidenceItem& item : evidence) {
    if (list.size() == incident_evidence_max) {
      list.push_back({{"kind", "note"},
                      {"text", fmt::format("{} more left out", evidence.size() - list.size())}});
      break;
    }
    list.push_back({{"kind", bounded_text(item.kind)}, {"text", bounded_text(item.text)}});
  }
  return list;
}

json requests_json(const std::vector<std::string>& requests) {
  json list = json::array();
  for (const std::string& request : requests) {
    if (list.size() == incident_requests_max) {
      list.push_back(fmt::format("{} more left out", requests.size() - list.size()));
      break;
    }
    list.push_back(bounded_text(request));
  }
  return list;
}

json steps_json(const std::vector<IncidentStep>& steps) {
  json list = json::array();
  // The last steps tell how it ended.
  const size_t skipped = steps.size() - std::min(steps.size(), incident_steps_max);
  for (size_t i = skipped; i < steps.size(); ++i) {
    const IncidentStep& step = steps[i];
    list.push_back({{"action", heal_action_name(step.action)},
                    {"reason", bounded_text(step.reason)},
                    {"intent_at_unix_ns", step.intent_at_unix_ns},
                    {"acted_at_unix_ns", step.acted_at_unix_ns},
                    {"done_at_unix_ns", step.done_at_unix_ns},
                    {"outcome", bounded_text(step.outcome)}});
  }
  return list;
}

// Reads one object's fields; the first that is missing or of the wrong type ends up in problem.
class Reader {
 public:
  Reader(const json& object, std::string& problem) : object_(object), problem_(problem) {
    if (!object_.is_object()) fail("not an object");
  }

  std::string text(const char* key, size_t bytes_max = stored_text_bytes_max) {
    const json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_string() || value->get_ref<const std::string&>().size() > bytes_max) {
      fail(fmt::format("{} is no text of at most {} bytes", key, bytes_max));
      return {};
    }
    return value->get<std::string>();
  }
  int64_t integer(const char* key) {
    const json* value = find(key);
    if (value == nullptr) return 0;
    // Larger unsigned numbers would wrap.
    if (!value->is_number_integer() ||
        (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX) ||
        value->get<int64_t>() < 0) {
      fail(fmt::format("{} is no non-negative integer", key));
      return 0;
    }
    return value->get<int64_t>();
  }
  // An absent list is empty.
  template <typename Each>
  void list(const char* key, size_t items_max, Each each) {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_array() || value->size() > items_max) {
      fail(fmt::format("{} is no list of at most {} items", key, items_max));
      return;
    }
    for (const json& item : *value) {
      if (!problem_.empty()) return;
      each(item);
    }
  }
  void fail(std::string why) {
    if (problem_.empty()) problem_ = std::move(why);
  }

 private:
  const json* find(const char* key) {
    if (!problem_.empty()) return nullptr;
    const auto it = object_.find(key);
    if (it == object_.end()) {
      fail(fmt::format("{} is missing", key));
      return nullptr;
    }
    return &*it;
  }

  const json& object_;
  std::string& problem_;
};

IncidentStep read_step(const json& object, std::string& problem) {
  Reader in(object, problem);
  IncidentStep step;
  const std::string action = in.text("action");
  if (const auto known = heal_action_from_name(action)) {
    step.action = *known;
  } else {
    in.fail(fmt::format("unknown action \"{}\"", bounded_text(action, 40)));
  }
  step.reason = in.text("reason");
  step.intent_at_unix_ns = in.integer("intent_at_unix_ns");
  step.acted_at_unix_ns = in.integer("acted_at_unix_ns");
  step.done_at_unix_ns = in.integer("done_at_unix_ns");
  step.outcome = in.text("outcome");
  return step;
}

std::optional<FaultKind> fault_from_name(std::string_view name) {
  for (size_t i = 0; i < kFaultKindCount; ++i) {
    if (name == fault_kind_name(static_cast<FaultKind>(i))) return static_cast<FaultKind>(i);
  }
  return std::nullopt;
}

std::optional<ClosedReason> closed_reason_from_name(std::string_view name) {
  for (const ClosedReason reason :
       {ClosedReason::kNone, ClosedReason::kRecovered, ClosedReason::kGaveUp,
        ClosedReason::kSuperseded, ClosedReason::kStopped}) {
    if (name == closed_reason_name(reason)) return reason;
  }
  return std::nullopt;
}

void read_state(Reader& in, Incident& incident) {
  incident.id = in.text("id");
  if (!is_incident_id(incident.id)) in.fail("id is not an incident's");
  const std::string fault = in.text("fault");
  if (const auto kind = fault_from_name(fault)) {
    incident.fault = *kind;
  } else {
    in.fail(fmt::format("unknown fault \"{}\"", bounded_text(fault, 40)));
  }
  const std::string status = in.text("status");
  if (status != "open" && status != "closed") in.fail("status is neither open nor closed");
  incident.status = status == "closed" ? IncidentStatus::kClosed : IncidentStatus::kOpen;
  const auto reason = closed_reason_from_name(in.text("closed_reason"));
  if (!reason) in.fail("unknown closed_reason");
  incident.closed_reason = reason.value_or(ClosedReason::kNone);
  if ((incident.status == IncidentStatus::kOpen) !=
      (incident.closed_reason == ClosedReason::kNone)) {
    in.fail("status and closed_reason disagree");
  }
}

void read_times(Reader& in, Incident& incident) {
  incident.began_at_unix_ns = in.integer("began_at_unix_ns");
  incident.detected_at_unix_ns = in.integer("detected_at_unix_ns");
  incident.decided_at_unix_ns = in.integer("decided_at_unix_ns");
  incident.acted_at_unix_ns = in.integer("acted_at_unix_ns");
  incident.ready_at_unix_ns = in.integer("ready_at_unix_ns");
  incident.closed_at_unix_ns = in.integer("closed_at_unix_ns");
}

std::unexpected<Error> corrupt(std::string_view why) {
  return make_error(ErrorCode::kCorrupt, ErrorSource::kStorage,
                    fmt::format("not a readable incident: {}", why));
}

}  // namespace

std::string_view closed_reason_name(ClosedReason reason) {
  switch (reason) {
    case ClosedReason::kNone:
      return "";
    case ClosedReason::kRecovered:
      return "recovered";
    case ClosedReason::kGaveUp:
      return "gave_up";
    case ClosedReason::kSuperseded:
      return "superseded";
    case ClosedReason::kStopped:
      break;
  }
  return "stopped";
}

std::optional<double> Incident::detect_s() const {
  return seconds_between(began_at_unix_ns, detected_at_unix_ns);
}
std::optional<double> Incident::decide_s() const {
  return seconds_between(detected_at_unix_ns, decided_at_unix_ns);
}
std::optional<double> Incident::act_s() const {
  return seconds_between(decided_at_unix_ns, acted_at_unix_ns);
}
std::optional<double> Incident::ready_s() const {
  return seconds_between(acted_at_unix_ns, ready_at_unix_ns);
}
std::optional<double> Incident::mttr_s() const {
  return seconds_between(began_at_unix_ns, ready_at_unix_ns);
}

std::string make_incident_id(int64_t unix_ns, FaultKind fault, uint64_t random) {
  const time_t seconds = unix_ns / 1'000'000'000;
  tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}{:02}{:02}T{:02}{:02}{:02}.{:03}Z-{}-{:06x}", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     unix_ns / 1'000'000 % 1000, fault_kind_name(fault), random & 0xffffff);
}

bool is_incident_id(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
  };
  return !text.empty() && text.size() <= incident_id_bytes_max && text.front() != '.' &&
         std::all_of(text.begin(), text.end(), allowed);
}

std::string incident_to_json(const Incident& incident) {
  const json object = {
      {"format", format_version},
      {"id", incident.id},
      {"fault", fault_kind_name(incident.fault)},
      {"summary", bounded_text(incident.summary)},
      {"generation", incident.generation},
      {"status", incident.status == IncidentStatus::kOpen ? "open" : "closed"},
      {"closed_reason", closed_reason_name(incident.closed_reason)},
      {"began_at_unix_ns", incident.began_at_unix_ns},
      {"detected_at_unix_ns", incident.detected_at_unix_ns},
      {"decided_at_unix_ns", incident.decided_at_unix_ns},
      {"acted_at_unix_ns", incident.acted_at_unix_ns},
      {"ready_at_unix_ns", incident.ready_at_unix_ns},
      {"closed_at_unix_ns", incident.closed_at_unix_ns},
      {"detect_s", number_or_null(incident.detect_s())},
      {"decide_s", number_or_null(incident.decide_s())},
      {"act_s", number_or_null(incident.act_s())},
      {"ready_s", number_or_null(incident.ready_s())},
      {"mttr_s", number_or_null(incident.mttr_s())},
      {"evidence", evidence_json(incident.evidence)},
      {"requests_in_flight", requests_json(incident.requests_in_flight)},
      {"log_tail", bounded_tail(incident.log_tail)},
      {"steps", steps_json(incident.steps)},
  };
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<Incident> incident_from_json(std::string_view text) {
  if (text.size() > incident_file_bytes_max) return corrupt("too large");
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) return corrupt("not JSON");
  std::string problem;
  Reader in(object, problem);
  const int64_t format = in.integer("format");
  if (problem.empty() && format > format_version) {
    return make_error(ErrorCode::kUnsupportedVersion, ErrorSource::kStorage,
                      fmt::format("incident of format {}; this Remora knows {}: use a newer one",
                                  format, format_version));
  }
  Incident incident;
  read_state(in, incident);
  incident.summary = in.text("summary");
  incident.generation = static_cast<uint64_t>(in.integer("generation"));
  read_times(in, incident);
  in.list("evidence", incident_evidence_max + 1, [&](const json& item) {
    Reader fields(item, problem);
    EvidenceItem evidence{fields.text("kind"), fields.text("text")};
    incident.evidence.push_back(std::move(evidence));
  });
  in.list("requests_in_flight", incident_requests_max + 1, [&](const json& item) {
    if (item.is_string()) {
      incident.requests_in_flight.push_back(item.get<std::string>());
    } else {
      in.fail("requests_in_flight holds something else than text");
    }
  });
  // A byte that is not UTF-8 is stored as three.
  incident.log_tail = in.text("log_tail", 3 * incident_log_tail_bytes_max);
  in.list("steps", incident_steps_max,
          [&](const json& item) { incident.steps.push_back(read_step(item, problem)); });
  if (!problem.empty()) return corrupt(problem);
  return incident;
}

}  // namespace remora
