// Any text as manifests: never a crash; without problems, what comes out goes in again and comes
// out the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "k8s/inject/manifest.h"

using namespace remora;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const k8s::InjectOptions options{
      .image = "remora:fuzz", .product_version = "1", .inject_by_default = true};
  const k8s::ManifestResult result = k8s::inject_manifests(text, options);
  if (!result.problems.empty()) return 0;
  if (result.objects.empty() && result.text != text) std::abort();
  const k8s::ManifestResult again = k8s::inject_manifests(result.text, options);
  if (!again.problems.empty() || again.text != result.text) std::abort();
  return 0;
}
