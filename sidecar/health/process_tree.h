// Who descends from whom, from /proc. Used when an agent ends, to leave nothing of it behind.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace remora {

struct ProcessEntry {
  pid_t pid = 0;
  pid_t parent = 0;
  pid_t group = 0;
  pid_t session = 0;
  char state = '?';          // 'Z': ended, not yet collected
  uint64_t start_ticks = 0;  // tells a reused PID from the old one
};

// What /proc shows now; processes that end meanwhile may be missing. Empty when /proc can't be
// read.
std::vector<ProcessEntry> list_processes();

// Now, in the unit and from the origin of ProcessEntry::start_ticks; 0 when it can't be read.
uint64_t ticks_since_boot();
uint64_t ticks_per_second();

// The entry's process, if it is still the same one; false when it isn't, or can't be signalled.
bool signal_process(const ProcessEntry& entry, int signo);

// "NAME=value" stands in the environment that the process was started with.
bool environment_holds(pid_t pid, std::string_view entry);

// What belongs to an agent, the agent's own process left out: members of its session and group,
// descendants of it and of the remembered ones, and children of self (orphans that came to us) that
// carry the mark, with their descendants.
std::vector<ProcessEntry> find_family(std::span<const ProcessEntry> processes, pid_t agent,
                                      pid_t self, std::string_view mark,
                                      std::span<const ProcessEntry> remembered);

}  // namespace remora
