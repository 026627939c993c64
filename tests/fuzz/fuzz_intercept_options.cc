// Any text as a port, a range of ports or a network from a flag or an annotation. What is taken
// shows itself as text that is taken as the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sidecar/intercept/options.h"
#include "sidecar/intercept/ruleset.h"

namespace {

using namespace remora;             // NOLINT(google-build-using-namespace)
using namespace remora::intercept;  // NOLINT(google-build-using-namespace)

void must(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  InterceptOptions options;
  if (const auto ports = parse_port_range(text)) {
    must(ports->first > 0 && ports->first <= ports->last);
    must(parse_port_range(ports->to_string()) == *ports);
    options.exclude_inbound_ports.push_back(*ports);
  }
  if (const auto cidr = parse_cidr(text)) {
    must(cidr->bits <= cidr->address_bytes() * 8);
    must(parse_cidr(cidr->to_string()) == *cidr);
    options.exclude_outbound_addresses.push_back(*cidr);
  }
  must(validate(options).has_value());
  const size_t added =
      options.exclude_inbound_ports.size() + options.exclude_outbound_addresses.size();
  must(rule_count(build_ruleset(options)) == rule_count(build_ruleset({})) + added);
  return 0;
}
