#include "config/pod_check.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "config/scalar.h"

namespace remora::config {
namespace {

constexpr size_t dns_label_bytes_max = 63;
constexpr size_t dns_name_bytes_max = 253;
constexpr std::array<std::string_view, 4> protocols{"auto", "http1", "http2", "tcp"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// RFC 1123, as Kubernetes reads it: lower case only.
bool is_dns_label(std::string_view text) {
  const auto is_inner = [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || c == '-'; };
  return !text.empty() && text.size() <= dns_label_bytes_max &&
         std::ranges::all_of(text, is_inner) && text.front() != '-' && text.back() != '-';
}

bool is_dns_name(std::string_view text) {
  if (text.size() > dns_name_bytes_max) return false;
  while (true) {
    const size_t dot = text.find('.');
    if (!is_dns_label(text.substr(0, dot))) return false;
    if (dot == text.npos) return true;
    text.remove_prefix(dot + 1);
  }
}

// The serialised form of a Kubernetes resource.Quantity that is not negative.
bool is_quantity(std::string_view text) {
  static constexpr std::array<std::string_view, 14> suffixes{
      "", "n", "u", "m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi"};
  size_t digits = 0;
  size_t dots = 0;
  size_t i = 0;
  for (; i < text.size() && (is_digit(text[i]) || text[i] == '.'); ++i) {
    ++(text[i] == '.' ? dots : digits);
  }
  return digits > 0 && dots <= 1 && std::ranges::find(suffixes, text.substr(i)) != suffixes.end();
}

class Checker {
 public:
  Checker(const PodSettings& settings, const Origins& origins, Reporter& reporter)
      : settings_(settings), origins_(origins), reporter_(reporter) {}

  void run() {
    check_containers();
    check_app_ports();
    check_quantity("cpuRequest", settings_.cpu_request(), "such as 10m or 0.5");
    check_quantity("memoryRequest", settings_.memory_request(), "such as 32Mi");
    check_quantity("cpuLimit", settings_.cpu_limit(), "such as 500m or 1");
    check_quantity("memoryLimit", settings_.memory_limit(), "such as 256Mi");
    check_name("configMap", settings_.config_map(), "a ConfigMap", is_dns_name);
    check_name("snapshotClaim", settings_.snapshot_claim(), "a PersistentVolumeClaim", is_dns_name);
    check_name("snapshotVolume", settings_.snapshot_volume(), "a volume", is_dns_label);
    check_image();
    if (!settings_.snapshot_claim().empty() && !settings_.snapshot_volume().empty() &&
        !origins_.is_bad("snapshotVolume")) {
      reporter_.add("snapshotVolume", "snapshot-claim is there too", "keep one of the two");
    }
  }

 private:
  void check_containers() {
    for (int i = 0; i < settings_.containers_size(); ++i) {
      const std::string path = "containers[" + std::to_string(i) + "]";
      const std::string& name = settings_.containers(i);
      const auto before = settings_.containers().begin();
      if (origins_.is_bad(path)) continue;
      if (!is_dns_label(name)) {
        reporter_.add(path, quote(name) + " is no name of a container",
                      "write names of the pod's containers, such as agent, tools");
      } else if (std::find(before, before + i, name) != before + i) {
        reporter_.add(path, quote(name) + " is named twice", "name it once");
      }
    }
  }

  void check_app_ports() {
    for (int i = 0; i < settings_.app_ports_size(); ++i) {
      const std::string path = "appPorts[" + std::to_string(i) + "]";
      if (origins_.is_bad(path) || parse_app_port(settings_.app_ports(i))) continue;
      reporter_.add(path, quote(settings_.app_ports(i)) + " is not a port",
                    "write PORT or PORT/PROTOCOL with one of auto, http1, http2, tcp, such as "
                    "8000, 9000/http2");
    }
  }

  void check_quantity(const std::string& key, const std::string& text, const std::string& example) {
    if (text.empty() || origins_.is_bad(key) || is_quantity(text)) return;
    reporter_.add(key, quote(text) + " is not a quantity", "write one " + example);
  }

  void check_name(const std::string& key, const std::string& text, const std::string& what,
                  bool (*is_name)(std::string_view)) {
    if (text.empty() || origins_.is_bad(key) || is_name(text)) return;
    reporter_.add(key, quote(text) + " is no name of " + what,
                  "use lower-case letters, digits and -");
  }

  void check_image() {
    const std::string& image = settings_.image();
    const bool is_plain =
        std::ranges::all_of(image, [](char c) { return c > 0x20 && c < 0x7f && c != '"'; });
    if (is_plain || origins_.is_bad("image")) return;
    reporter_.add("image", quote(image) + " is no reference to an image",
                  "write REGISTRY/NAME:TAG or REGISTRY/NAME@DIGEST");
  }

  const PodSettings& settings_;
  const Origins& origins_;
  Reporter& reporter_;
};

}  // namespace

void check_pod_settings(const PodSettings& settings, const Origins& origins, Reporter& reporter) {
  Checker(settings, origins, reporter).run();
}

std::optional<InjectedPort> parse_app_port(std::string_view text) {
  const size_t slash = text.find('/');
  const Parsed<int64_t> port = parse_integer(text.substr(0, slash));
  if (!port || *port < 1 || *port > 65535) return std::nullopt;
  InjectedPort result;
  result.set_port(static_cast<int32_t>(*port));
  if (slash != text.npos) {
    const std::string_view protocol = text.substr(slash + 1);
    if (std::ranges::find(protocols, protocol) == protocols.end()) return std::nullopt;
    result.set_protocol(std::string(protocol));
  }
  return result;
}

}  // namespace remora::config
