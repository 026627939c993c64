// Incidents as people read them. Whatever an agent printed or a caller sent is shown with control
// characters escaped: a terminal obeys none of it.
#pragma once

#include <span>
#include <string>

#include "sidecar/heal/incident.h"

namespace remora {

// A timeline with evidence; ends with a newline.
std::string incident_timeline(const Incident& incident);
// A table with a heading, oldest first; each line ends with a newline.
std::string incident_table(std::span<const Incident> incidents);

}  // namespace remora
