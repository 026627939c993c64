// `remora intercept`: sets, checks and removes the redirect rules of this network namespace.
#pragma once

namespace CLI {
class App;
}

namespace remora::intercept {

// Adds `intercept` to app. Running it sets exit_code, which must outlive app: 0 when the rules are
// in force (or gone, with --remove), 1 with the reason on standard error when they are not, 2 for
// options that make no sense.
void add_intercept_command(CLI::App& app, int& exit_code);

}  // namespace remora::intercept
