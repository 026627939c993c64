// What the commands that run an App have in common: loading a configuration, and errors as lines on
// standard error with an exit code.
#pragma once

#include <span>
#include <string>

#include "config/isolated_load.h"
#include "sidecar/app/app.h"
#include "sidecar/base/exit_codes.h"

namespace remora {

// An error for every problem of the file together, one a line.
Result<config::IsolatedLoad> load_checked(const std::string& file,
                                          std::span<const config::Override> overrides);
// With one agent.
AppConfig app_config(std::string agent_name, config::IsolatedLoad loaded);

// Prints it; returns exit_code.
int report_failure(const Error& error, int exit_code);
int exit_code_of(const Error& error);

}  // namespace remora
