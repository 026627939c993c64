// How every command ends, one table for all: README.md shows it to people. `remora run` passes its
// agent's own code on (128 + signal for one that was killed), so those are other numbers' meanings
// there only when Remora itself could not begin.
#pragma once

namespace remora {

inline constexpr int exit_ok = 0;
// The environment, or what was asked for, failed: busy port, unwritable directory, no answer. Of
// commands that check: there are problems.
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;  // the command line or the configuration is wrong
// What was asked about is not as it should be: a damaged snapshot, an agent that is not ready.
inline constexpr int exit_not_good = 3;
inline constexpr int exit_newer_format = 4;  // the store was written by a newer Remora
// A shell's own: the agent's command can't be run, or isn't there.
inline constexpr int exit_not_runnable = 126;
inline constexpr int exit_not_found = 127;

}  // namespace remora
