// What the commands that run an App have in common: loading a configuration, and errors as lines on
// standard error with an exit code.
#pragma once

#include <span>
#include <string>

#include "config/isolated_load.h"
#include "sidecar/app/app.h"

namespace remora {

// Exit codes of commands that fail before they have begun their work.
inline constexpr int exit_environment = 1;  // busy port, unwritable directory, …: mend and retry
inline constexpr int exit_usage = 2;        // command line or configuration
inline constexpr int exit_newer_store = 4;  // the store was written by a newer Remora

// An error for every problem of the file together, one a line.
Result<config::IsolatedLoad> load_checked(const std::string& file,
                                          std::span<const config::Override> overrides);
// With one agent.
AppConfig app_config(std::string agent_name, config::IsolatedLoad loaded);

// Prints it; returns exit_code.
int report_failure(const Error& error, int exit_code);
int exit_code_of(const Error& error);

}  // namespace remora
