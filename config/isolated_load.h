// Loads a configuration in a short-lived child process: the form for long-running commands.
//
// Two reasons. The YAML parser and protobuf's reflection are the largest pieces of code that read a
// file at run time; here they can neither take down a running sidecar on a bad reload nor leave
// their memory behind in it (measured: 0.6 MB of the 4 MB that an idle sidecar is meant to use).
//
// The child has all signals blocked, holds no lock of ours, writes one message to a pipe and leaves
// by _exit. Blocks the caller for about 2 ms; a child that takes longer than isolated_load_ms_max
// is killed. Where no child can be made the file is loaded in this process instead.
#pragma once

#include <span>
#include <string>

#include "config/load.h"

namespace remora::config {

inline constexpr int isolated_load_ms_max = 5'000;
inline constexpr size_t isolated_reply_bytes_max = 16 << 20;

struct IsolatedLoad {
  Config config;
  Problems problems;
  // The effective configuration with secrets redacted (config/render.h); empty unless ok().
  std::string yaml;
  std::string json;

  bool ok() const { return problems.empty(); }
};

// path empty: no file, defaults and overrides only. Errors: those of load_file; kTimeout or
// kInternal when the child did not end well.
Result<IsolatedLoad> load_isolated(const std::string& path,
                                   std::span<const Override> overrides = {});

}  // namespace remora::config
