// Any bytes as a configuration file: never a crash, always either a complete configuration or
// problems that each have a mend; and what is accepted renders to something that is accepted.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/load.h"
#include "config/render.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const remora::config::LoadResult loaded = remora::config::load_yaml(text, "fuzz.yaml");
  if (loaded.problems.size() > remora::config::config_problems_max + 1) std::abort();
  for (const remora::config::Problem& problem : loaded.problems) {
    if (problem.message.empty() || problem.mend.empty()) std::abort();
    if (remora::config::format_problem(problem).find('\n') != std::string::npos) std::abort();
  }
  if (!loaded.ok()) return 0;
  const std::string yaml = remora::config::render_yaml(loaded.config, {.redact = false});
  const remora::config::LoadResult again = remora::config::load_yaml(yaml, "rendered.yaml");
  if (!again.ok()) std::abort();
  if (again.config.SerializeAsString().size() != loaded.config.SerializeAsString().size()) {
    std::abort();
  }
  return 0;
}
