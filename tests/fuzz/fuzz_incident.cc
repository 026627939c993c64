// Any bytes as a stored incident: never a crash, an error always says why; and what is read can be
// shown, written and read again, with the same result.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sidecar/heal/incident.h"
#include "sidecar/heal/incident_text.h"

namespace {

// C0 but the newline, DEL, and C1 in UTF-8: what a terminal might obey.
bool has_control_characters(std::string_view text) {
  uint8_t before = 0;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if ((byte < 0x20 && byte != '\n') || byte == 0x7f) return true;
    if (before == 0xc2 && byte >= 0x80 && byte < 0xa0) return true;
    before = byte;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const remora::Result<remora::Incident> incident = remora::incident_from_json(text);
  if (!incident) {
    if (incident.error().message.empty()) std::abort();
    return 0;
  }
  if (!remora::is_incident_id(incident->id)) std::abort();
  if (incident->steps.size() > remora::incident_steps_max) std::abort();
  const std::string shown =
      remora::incident_timeline(*incident) + remora::incident_table({&*incident, 1});
  if (has_control_characters(shown)) std::abort();
  const std::string written = remora::incident_to_json(*incident);
  const remora::Result<remora::Incident> again = remora::incident_from_json(written);
  if (!again) std::abort();
  // Longer texts are cut by the writer.
  if (size <= remora::incident_text_bytes_max && remora::incident_to_json(*again) != written) {
    std::abort();
  }
  return 0;
}
