// Any bytes as the settings of a policy that a sidecar kept: never a crash. What is read is written
// and read back the same, and goes onto a pod's annotations, of which its own win.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/policy_values.h"

namespace {

using remora::config::Annotations;
using remora::config::PolicyValues;

// Text that is no UTF-8 is mended when it is written.
void check_written(const PolicyValues& values) {
  const auto written = remora::config::parse_policy_values(policy_values_text(values));
  if (!written || written->generation != values.generation) std::abort();
  if (remora::config::parse_policy_values(policy_values_text(*written)) != written) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto values = remora::config::parse_policy_values(text);
  if (!values) return 0;
  check_written(*values);
  const Annotations own = {{"remora.dev/hang-window", "45s"}, {"other", "kept"}};
  const Annotations with = remora::config::with_policy(own, *values);
  for (const auto& [key, value] : own) {
    const auto it = with.find(key);
    if (it == with.end() || it->second != value) std::abort();
  }
  // The next policy takes the place of this one, whatever it was.
  if (remora::config::with_policy(with, {}) != own) std::abort();
  return 0;
}
