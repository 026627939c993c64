// The record of one fault: what was wrong, how we know, what was done, and how long each part took.
// Incidents are values; incident_log.h keeps them, incident_text.h shows them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/base/error.h"
#include "sidecar/heal/decide.h"
#include "sidecar/health/fault.h"

namespace remora {

enum class IncidentStatus : uint8_t { kOpen, kClosed };  // "open", "closed"
enum class ClosedReason : uint8_t {
  kNone,        // "": still open
  kRecovered,   // "recovered": the agent is ready again, or the fault has gone away
  kGaveUp,      // "gave_up"
  kSuperseded,  // "superseded": another incident took over, or Remora itself ended in between
  kStopped,     // "stopped": Remora was asked to end, or the agent ended by itself with 0
};
std::string_view closed_reason_name(ClosedReason reason);

// One step of the healing, in order. Times are nanoseconds since the Unix epoch; 0: not reached.
struct IncidentStep {
  HealAction action = HealAction::kNone;
  std::string reason;             // why this step
  int64_t intent_at_unix_ns = 0;  // written down, before the effect
  int64_t acted_at_unix_ns = 0;   // the effect began: agent started
  int64_t done_at_unix_ns = 0;
  std::string outcome;  // "", "ready", "failed: …", "cancelled: …"
};

struct Incident {
  std::string id;  // 20261125T041500.123Z-crash-3fa91c: sorts by time
  FaultKind fault = FaultKind::kCrash;
  std::string summary;      // one line
  uint64_t generation = 0;  // of the agent that was ill
  std::vector<EvidenceItem> evidence;
  std::string log_tail;                         // its last output, newest last
  std::vector<std::string> requests_in_flight;  // at detection: "POST /invoke, 31.2 s"
  std::vector<IncidentStep> steps;

  int64_t began_at_unix_ns = 0;     // earliest sign
  int64_t detected_at_unix_ns = 0;  // certain
  int64_t decided_at_unix_ns = 0;   // first step chosen
  int64_t acted_at_unix_ns = 0;     // last start of the agent (of the step that worked)
  int64_t ready_at_unix_ns = 0;     // serving again
  int64_t closed_at_unix_ns = 0;
  IncidentStatus status = IncidentStatus::kOpen;
  ClosedReason closed_reason = ClosedReason::kNone;

  // Seconds between those times; nullopt while either end is missing. The parts add up to mttr_s.
  std::optional<double> detect_s() const;  // began to detected
  std::optional<double> decide_s() const;  // detected to decided
  std::optional<double> act_s() const;     // decided to acted: stop, back-off, restore
  std::optional<double> ready_s() const;   // acted to ready
  std::optional<double> mttr_s() const;    // began to ready
};

// Limits on what one incident may hold. Past them the writer leaves the rest out and says so.
inline constexpr size_t incident_evidence_max = 256;
inline constexpr size_t incident_text_bytes_max = 4096;  // any one text but the log tail
inline constexpr size_t incident_log_tail_bytes_max = 1 << 20;
inline constexpr size_t incident_requests_max = 256;
inline constexpr size_t incident_steps_max = 256;
// A stored incident larger than this is not read.
inline constexpr size_t incident_file_bytes_max = 16 << 20;

// "20261125T041500.123Z-crash-3fa91c"; random: any bits, told apart by 24 of them.
std::string make_incident_id(int64_t unix_ns, FaultKind fault, uint64_t random);
// Letters, digits, '.', '_' and '-' only, at most 100 bytes, not beginning with '.': safe as a
// file name.
bool is_incident_id(std::string_view text);

// One JSON object; key "fault" holds the kind's name. Text that is not UTF-8 is mended.
std::string incident_to_json(const Incident& incident);
// Untrusted input: kCorrupt with the reason, kUnsupportedVersion for a newer "format".
Result<Incident> incident_from_json(std::string_view text);

}  // namespace remora
