// Any bytes as the kubelet's file of annotations: never a crash; what is read goes on as
// annotations of a pod, where every problem has a mend and a good overlay leaves a configuration
// that is good.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/annotations.h"
#include "config/render.h"

using namespace remora::config;  // NOLINT(google-build-using-namespace)

namespace {

void check(const Problems& problems) {
  for (const Problem& problem : problems) {
    if (problem.message.empty() || problem.mend.empty()) std::abort();
    if (format_problem(problem).find('\n') != std::string::npos) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const remora::Result<Annotations> annotations = parse_annotation_file(text);
  if (!annotations) return annotations.error().message.empty() ? std::abort(), 0 : 0;
  const LoadResult loaded = load_yaml({}, "fuzz", annotation_overrides(*annotations, "agent"));
  check(check_annotation_names(*annotations));
  check(loaded.problems);
  check(pod_settings(*annotations, "agent").problems);
  if (loaded.ok()) {
    const LoadResult again = load_yaml(render_yaml(loaded.config, {.redact = false}), "rendered");
    if (!again.ok()) std::abort();
  }
  if (const auto it = annotations->find(injected_annotation); it != annotations->end()) {
    const remora::Result<Injected> injected = parse_injected(it->second);
    if (!injected) return 0;
    // A record that is not ours may hold any numbers; they must be reported, not believed.
    for (const InjectedAgent& agent : injected->agents()) {
      check(load_yaml({}, "fuzz", pod_overrides(*injected, agent)).problems);
    }
  }
  return 0;
}
