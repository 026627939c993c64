// `remora incident list|show`: incidents as people and programs read them.
#pragma once

namespace CLI {
class App;
}

namespace remora {

// Adds `incident` with its subcommands to app; running one prints to standard output and sets
// exit_code: 0, or 1 with one line on standard error (no such store or incident). exit_code must
// outlive app.
//
//   remora incident list --store DIR [--json]            all, oldest first
//   remora incident show [ID|latest] --store DIR [--json]
//
// list --json prints one JSON array, show --json one object (incident_to_json).
void add_incident_commands(CLI::App& app, int& exit_code);

}  // namespace remora
