// `remora incident list|show`: incidents as people and programs read them.
#pragma once

#include <string>

#include "sidecar/heal/incident.h"

namespace CLI {
class App;
}

namespace remora {

// Adds `incident` with its subcommands to app; running one prints to standard output and sets
// exit_code: 0, or 1 with one line on standard error (no such store or incident). exit_code must
// outlive app.
void add_incident_commands(CLI::App& app, int& exit_code);

// A timeline with evidence, for people; ends with a newline.
std::string incident_timeline(const Incident& incident);
// One line for a list, without a newline.
std::string incident_line(const Incident& incident);

}  // namespace remora
