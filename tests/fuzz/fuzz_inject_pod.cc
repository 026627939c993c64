// Any JSON as a pod: never a crash; a patch applies, says how many operations it has, and is not
// needed a second time; problems have mends.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "config/load.h"
#include "k8s/inject/inject.h"

using namespace remora;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Deeper documents are refused before they get here (webhook and manifests), and would overflow
  // the JSON library's own recursion.
  constexpr int depth_max = 200;
  const auto limit = [](int depth, nlohmann::ordered_json::parse_event_t, nlohmann::ordered_json&) {
    return depth <= depth_max;
  };
  const auto pod = nlohmann::ordered_json::parse(data, data + size, limit, false);
  if (pod.is_discarded()) return 0;
  const k8s::InjectOptions options{
      .image = "remora:fuzz", .product_version = "1", .inject_by_default = true};
  const k8s::InjectResult result = k8s::inject_pod(pod, options);
  if (const auto* problems = std::get_if<config::Problems>(&result)) {
    if (problems->empty()) std::abort();
    for (const config::Problem& problem : *problems) {
      if (problem.message.empty() || problem.mend.empty()) std::abort();
    }
    return 0;
  }
  const auto* patch = std::get_if<k8s::Patch>(&result);
  if (patch == nullptr) return std::get<k8s::Skip>(result).reason.empty() ? std::abort(), 0 : 0;
  const nlohmann::ordered_json after = k8s::apply_patch(pod, *patch);
  const k8s::InjectResult again = k8s::inject_pod(after, options);
  const auto* second = std::get_if<k8s::Patch>(&again);
  if (second == nullptr || second->operations != 0) std::abort();
  return 0;
}
