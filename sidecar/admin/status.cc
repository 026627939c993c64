#include "sidecar/admin/status.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace remora {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t status_json_depth_max = 16;

Json incident_json(const std::optional<AdminIncident>& incident) {
  if (!incident) return nullptr;
  return {{"id", incident->id},
          {"fault", incident->fault},
          {"status", incident->status},
          {"closed_reason", incident->closed_reason},
          {"summary", incident->summary},
          {"detected_at_unix_ns", incident->detected_at_unix_ns},
          {"mttr_s", incident->mttr_s ? Json(*incident->mttr_s) : Json(nullptr)}};
}

Json snapshots_json(const std::optional<AdminSnapshots>& snapshots) {
  if (!snapshots) return nullptr;
  return {{"kept", snapshots->kept},
          {"last_id", snapshots->last_id},
          {"last_at_unix_ns", snapshots->last_at_unix_ns},
          {"last_outcome", snapshots->last_outcome},
          {"last_error", snapshots->last_error},
          {"store", snapshots->store}};
}

// Typed reads that never throw: a missing or mistyped value is the fallback.
std::string text_at(const Json& json, const char* key) {
  const auto it = json.is_object() ? json.find(key) : json.end();
  return it != json.end() && it->is_string() ? it->get<std::string>() : std::string();
}
double number_at(const Json& json, const char* key) {
  const auto it = json.is_object() ? json.find(key) : json.end();
  return it != json.end() && it->is_number() ? it->get<double>() : 0;
}
std::string count_at(const Json& json, const char* key) {
  const auto it = json.is_object() ? json.find(key) : json.end();
  return it != json.end() && it->is_number_integer() ? it->dump() : "?";
}
Json object_at(const Json& json, const char* key) {
  const auto it = json.is_object() ? json.find(key) : json.end();
  return it != json.end() ? *it : Json();
}

std::string ago(double at_unix_ns, int64_t now_unix_ns) {
  const double seconds = (static_cast<double>(now_unix_ns) - at_unix_ns) / 1e9;
  return short_duration(std::max(0.0, seconds)) + " ago";
}

void line(std::string& out, std::string_view name, std::string_view text) {
  constexpr size_t name_width = 11;
  out.append(name).append(name_width - std::min(name_width, name.size()), ' ');
  // The texts come from another process: keep the terminal's control characters out.
  for (const char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  out += '\n';
}

std::string reasons_text(const Json& reasons) {
  std::string out;
  if (!reasons.is_array()) return out;
  for (const Json& reason : reasons) {
    if (!reason.is_string()) continue;
    out.append(out.empty() ? "" : "; ").append(reason.get<std::string>());
  }
  return out;
}

std::string agent_text(const Json& agent) {
  std::string out = text_at(agent, "name") + ": " + text_at(agent, "phase");
  if (number_at(agent, "pid") > 0) {
    out.append(", pid ").append(count_at(agent, "pid"));
    out.append(", generation ").append(count_at(agent, "generation"));
    out.append(", up ").append(short_duration(number_at(agent, "uptime_s")));
  } else {
    out += ", not running";
  }
  if (const std::string waits = text_at(agent, "waits_for"); !waits.empty()) {
    out.append(", waits for ").append(waits);
  }
  if (const std::string fault = text_at(agent, "held_fault"); !fault.empty()) {
    out.append(", healing is paused: ").append(fault);
  }
  return out;
}

std::string incident_text(const Json& incident, int64_t now_unix_ns) {
  if (!incident.is_object()) return "none";
  std::string out = text_at(incident, "fault") + ", ";
  const std::string status = text_at(incident, "status");
  out.append(status == "closed" ? text_at(incident, "closed_reason") : status);
  if (number_at(incident, "mttr_s") > 0) {
    out.append(" in ").append(short_duration(number_at(incident, "mttr_s")));
  }
  out.append(", ").append(ago(number_at(incident, "detected_at_unix_ns"), now_unix_ns));
  out.append(": ").append(text_at(incident, "summary"));
  return out.append(" (").append(text_at(incident, "id")).append(")");
}

Json config_json(const AdminConfig& config) {
  return {{"taken_at_unix_ns", config.taken_at_unix_ns},
          {"refused", config.refused},
          {"refused_at_unix_ns", config.refused_at_unix_ns},
          {"for_next_start", config.for_next_start}};
}

// Empty when there is nothing to tell: the one from the start is in force, whole.
std::string config_text(const Json& config, int64_t now_unix_ns) {
  std::string out;
  if (number_at(config, "taken_at_unix_ns") > 0) {
    out = "reloaded " + ago(number_at(config, "taken_at_unix_ns"), now_unix_ns);
  }
  if (const std::string keys = text_at(config, "for_next_start"); !keys.empty()) {
    out.append(", but from the next start on only: ").append(keys);
  }
  if (const std::string why = text_at(config, "refused"); !why.empty()) {
    out.append(out.empty() ? "" : "; ").append("the last good one; refused ");
    out.append(ago(number_at(config, "refused_at_unix_ns"), now_unix_ns)).append(": ").append(why);
  }
  return out;
}

std::string snapshots_text(const Json& snapshots, int64_t now_unix_ns) {
  if (!snapshots.is_object()) return "off";
  std::string out = count_at(snapshots, "kept") + " kept";
  if (!text_at(snapshots, "last_id").empty()) {
    out.append(", last ").append(text_at(snapshots, "last_id")).append(" ");
    out.append(ago(number_at(snapshots, "last_at_unix_ns"), now_unix_ns));
  }
  if (text_at(snapshots, "last_outcome") == "failed") {
    out.append(", the last try failed: ").append(text_at(snapshots, "last_error"));
  }
  return out;
}

Json agent_json(const AdminAgent& agent) {
  return {{"name", agent.name},
          {"phase", agent.phase},
          {"ready", agent.ready},
          {"waits_for", agent.waits_for},
          {"held_fault", agent.held_fault},
          {"pid", agent.pid},
          {"generation", agent.generation},
          {"uptime_s", agent.uptime_s},
          {"listen", agent.listen},
          {"requests",
           {{"in_flight", agent.requests_in_flight},
            {"held", agent.requests_held},
            {"finished", agent.requests_finished},
            {"replayed", agent.requests_replayed}}},
          {"restarts", agent.restarts},
          {"last_incident", incident_json(agent.last_incident)},
          {"snapshots", snapshots_json(agent.snapshots)}};
}

void agent_lines(std::string& out, const Json& agent, int64_t now_unix_ns) {
  const Json requests = object_at(agent, "requests");
  line(out, "agent", agent_text(agent));
  if (const std::string listen = text_at(agent, "listen"); !listen.empty()) {
    line(out, "listen", listen);
  }
  line(out, "requests",
       count_at(requests, "in_flight") + " in flight, " + count_at(requests, "held") + " held, " +
           count_at(requests, "finished") + " finished, " + count_at(requests, "replayed") +
           " replayed");
  line(out, "restarts", count_at(agent, "restarts"));
  line(out, "incident", incident_text(object_at(agent, "last_incident"), now_unix_ns));
  line(out, "snapshots", snapshots_text(object_at(agent, "snapshots"), now_unix_ns));
}

}  // namespace

std::string status_to_json(const AdminStatus& status) {
  Json agents = Json::array();
  for (const AdminAgent& agent : status.agents) agents.push_back(agent_json(agent));
  const Json json = {
      {"version", status.version},
      {"ready", status.readiness.ready},
      {"reasons", status.readiness.reasons},
      {"remora", {{"pid", status.remora_pid}, {"uptime_s", status.remora_uptime_s}}},
      {"config", config_json(status.config)},
      {"agents", std::move(agents)},
  };
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<StatusSummary> summarise_status(std::string_view text, int64_t now_unix_ns) {
  const auto too_deep = [](int depth, Json::parse_event_t, Json&) {
    return depth < static_cast<int>(status_json_depth_max);
  };
  const Json status = Json::parse(text, too_deep, false);
  const Json agents = object_at(status, "agents");
  if (!agents.is_array() || agents.empty()) {
    return make_error(ErrorCode::kCorrupt, ErrorSource::kInternal,
                      "the answer is no status of Remora");
  }
  StatusSummary summary;
  const Json ready = object_at(status, "ready");
  summary.ready = ready.is_boolean() && ready.get<bool>();
  const std::string reasons = reasons_text(object_at(status, "reasons"));
  const Json remora = object_at(status, "remora");
  std::string& out = summary.text;
  line(out, "ready", summary.ready ? "yes" : "no" + (reasons.empty() ? "" : ": " + reasons));
  for (const Json& agent : agents) agent_lines(out, agent, now_unix_ns);
  if (const std::string config = config_text(object_at(status, "config"), now_unix_ns);
      !config.empty()) {
    line(out, "config", config);
  }
  line(out, "remora",
       text_at(status, "version") + ", pid " + count_at(remora, "pid") + ", up " +
           short_duration(number_at(remora, "uptime_s")));
  return summary;
}

std::string short_duration(double seconds) {
  if (!(seconds >= 0)) return "?";
  if (seconds < 1) return std::to_string(std::lround(seconds * 1000)) + "ms";
  if (seconds > 1e9) return "?";
  const auto s = static_cast<int64_t>(seconds);
  if (s < 60) {
    // A tenth matters for short healings.
    const auto tenths = static_cast<int64_t>(seconds * 10) % 10;
    std::string out = std::to_string(s);
    if (s < 10 && tenths != 0) out.append(".").append(std::to_string(tenths));
    return out + "s";
  }
  const auto two = [](int64_t large, const char* large_unit, int64_t small,
                      const char* small_unit) {
    std::string out = std::to_string(large) + large_unit;
    if (small != 0) out.append(std::to_string(small)).append(small_unit);
    return out;
  };
  if (s < 3600) return two(s / 60, "m", s % 60, "s");
  if (s < 86'400) return two(s / 3600, "h", s % 3600 / 60, "m");
  return two(s / 86'400, "d", s % 86'400 / 3600, "h");
}

}  // namespace remora
