#include "config/validate.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/defaults.h"
#include "config/gateway.h"
#include "config/load.h"
#include "config/scalar.h"
#include "sidecar/net/address_ranges.h"
#include "sidecar/net/socket_address.h"

namespace remora::config {
namespace {

// RFC 9110 section 5.6.2.
bool is_token(std::string_view text) {
  static constexpr std::string_view marks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           marks.find(c) != std::string_view::npos;
  });
}

// Of a request target: visible ASCII, from the root.
bool is_origin_form(std::string_view path) {
  return path.starts_with('/') &&
         std::ranges::all_of(path, [](char c) { return c > 0x20 && c < 0x7f && c != '#'; });
}

// Absolute and without "." and ".." and a trailing slash; symbolic links are not followed.
std::filesystem::path plain_path(const std::string& text) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(text, error).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path;
}

bool is_inside(const std::filesystem::path& inner, const std::filesystem::path& outer) {
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

std::string item(std::string_view list, int index) {
  return std::string(list) + "[" + std::to_string(index) + "]";
}

// Another's message about text may quote it as it is; ours stay on one line.
bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; });
}

class Validator {
 public:
  Validator(const Config& config, const Origins& origins, Reporter& reporter)
      : config_(config), origins_(origins), reporter_(reporter) {}

  // Everything, in the order of the schema.
  void run() {
    check_agent();
    check_inbound();
    if (config_.has_startup_probe()) check_probe(config_.startup_probe(), "startupProbe", true);
    if (config_.has_liveness_probe()) check_probe(config_.liveness_probe(), "livenessProbe", true);
    if (config_.has_readiness_probe()) {
      check_probe(config_.readiness_probe(), "readinessProbe", false);
    }
    check_detection();
    check_ladders();
    check_backoff();
    check_snapshots();
    check_admin();
    check_pod_ports();
    check_exclusions();
    check_gateways();
    check_telemetry();
  }

 private:
  template <typename... Paths>
  bool all_good(const Paths&... paths) const {
    return !(origins_.is_bad(paths) || ...);
  }

  void check_agent() {
    const Agent& agent = config_.agent();
    check_host(agent.app_host(), "agent.appHost");
    if (all_good("agent.command") && !agent.command().empty() && agent.command(0).empty()) {
      reporter_.add("agent.command[0]", "the program's name is empty", "name a program");
    }
    for (const auto& [name, value] : agent.env()) {
      if (!name.empty() && name.find('=') == std::string::npos) continue;
      reporter_.add("agent.env." + path_segment(name), "is no name for an environment variable",
                    "write a name without \"=\"");
    }
  }

  void check_host(const std::string& host, const std::string& path) {
    if (host.empty() || !all_good(path)) return;
    if (make_socket_address(host, 0)) return;
    reporter_.add(path, quote(host) + " is not an IP address",
                  "write one, such as 127.0.0.1 or ::1; names are not resolved");
  }

  // The address when it is one; reports it otherwise.
  bool check_address(const std::string& text, const std::string& path, SocketAddress& address) {
    if (!all_good(path)) return false;
    Result<SocketAddress> parsed = parse_socket_address(text);
    if (parsed) {
      address = *parsed;
      return true;
    }
    // 'address "x": no port; write ADDRESS:PORT': keep what is wrong and what to do; the text
    // itself is shown by quote(), which cuts it and keeps it on one line.
    std::string_view reason = parsed.error().message;
    if (const size_t name_end = reason.rfind("\": "); name_end != reason.npos) {
      reason.remove_prefix(name_end + 3);
    }
    const size_t cut = reason.find("; ");
    reporter_.add(path, quote(text) + " is no address: " + std::string(reason.substr(0, cut)),
                  cut == reason.npos ? "write ADDRESS:PORT, such as 127.0.0.1:8080"
                                     : std::string(reason.substr(cut + 2)));
    return false;
  }

  void check_inbound() {
    const Inbound& inbound = config_.inbound();
    SocketAddress address;
    if (check_address(inbound.listen(), "inbound.listen", address) && all_good("agent.appPort")) {
      const int app_port = config_.agent().app_port();
      const auto agent = make_socket_address(config_.agent().app_host(), address.port());
      const bool everywhere = inbound.listen().starts_with(':') ||
                              inbound.listen().starts_with("0.0.0.0:") ||
                              inbound.listen().starts_with("[::]:");
      if (app_port != 0 && address.port() == app_port && agent &&
          (everywhere || agent->to_string() == address.to_string())) {
        // Blame the key that the user wrote.
        const bool blame_port = !origins_.is_set("inbound.listen");
        reporter_.add(blame_port ? "agent.appPort" : "inbound.listen",
                      "callers and the agent can't have the same port " + std::to_string(app_port),
                      blame_port ? "choose another, or set inbound.listen to another port"
                                 : "choose another port, or 0 for any free one");
      }
    }
    for (int i = 0; i < inbound.idempotent_size(); ++i) check_route(i);
  }

  void check_route(int index) {
    const Route& route = config_.inbound().idempotent(index);
    const std::string path = item("inbound.idempotent", index);
    if (all_good(path + ".method") && !is_token(route.method())) {
      reporter_.add(path + ".method", quote(route.method()) + " is not a method",
                    "write one method, such as POST");
    } else if (all_good(path + ".method") &&
               std::ranges::any_of(route.method(), [](char c) { return c >= 'a' && c <= 'z'; })) {
      reporter_.add(path + ".method", quote(route.method()) + " would match nothing",
                    "methods are case-sensitive: write it in capitals");
    }
    if (all_good(path + ".pathPrefix") && !is_origin_form(route.path_prefix())) {
      reporter_.add(path + ".pathPrefix", quote(route.path_prefix()) + " is not a path",
                    "begin with / and percent-encode blanks and non-ASCII characters");
    }
  }

  void check_probe(const Probe& probe, const std::string& path, bool one_success) {
    if (!all_good(path + ".successThreshold")) one_success = false;
    if (one_success && probe.success_threshold() != 1) {
      reporter_.add(path + ".successThreshold",
                    "is " + std::to_string(probe.success_threshold()) +
                        ", but must be 1 for startup and liveness",
                    "remove it");
    }
    check_one_action(probe, path);
    if (probe.has_http_get()) check_http_get(probe.http_get(), path + ".httpGet");
    if (probe.has_tcp_socket()) {
      check_port(probe.tcp_socket().port(), path + ".tcpSocket");
      check_host(probe.tcp_socket().host(), path + ".tcpSocket.host");
    }
    if (probe.has_grpc()) check_port(probe.grpc().port(), path + ".grpc");
    if (probe.has_exec()) check_exec(probe.exec(), path + ".exec.command");
  }

  void check_one_action(const Probe& probe, const std::string& path) {
    const std::pair<bool, std::string_view> actions[] = {{probe.has_http_get(), ".httpGet"},
                                                         {probe.has_tcp_socket(), ".tcpSocket"},
                                                         {probe.has_exec(), ".exec"},
                                                         {probe.has_grpc(), ".grpc"}};
    std::string_view first;
    for (const auto& [is_there, key] : actions) {
      if (!is_there) continue;
      if (first.empty()) {
        first = key.substr(1);
      } else {
        reporter_.add(path + std::string(key),
                      "a probe has one kind of check, and " + std::string(first) + " is there too",
                      "keep one of the two");
      }
    }
    // A mistyped action has been reported already.
    if (first.empty() && all_good(path)) {
      reporter_.add(path, "has no check", "add one of httpGet, tcpSocket, exec, grpc");
    }
  }

  void check_port(int port, const std::string& action) {
    if (port != 0 || config_.agent().app_port() != 0) return;
    if (!all_good(action + ".port", "agent.appPort")) return;
    reporter_.add(action, "has no port, and agent.appPort is not set either",
                  "add port here, or agent.appPort");
  }

  void check_http_get(const HttpGetAction& get, const std::string& path) {
    check_port(get.port(), path);
    check_host(get.host(), path + ".host");
    if (all_good(path + ".path") && !is_origin_form(get.path())) {
      reporter_.add(path + ".path", quote(get.path()) + " is not a path",
                    "begin with / and percent-encode blanks and non-ASCII characters");
    }
    for (int i = 0; i < get.http_headers_size(); ++i) {
      const HttpHeader& header = get.http_headers(i);
      const std::string header_path = item(path + ".httpHeaders", i);
      if (all_good(header_path + ".name") && !is_token(header.name())) {
        reporter_.add(header_path + ".name", quote(header.name()) + " is not a field name",
                      "use letters, digits and -");
      }
      // The value itself may be a secret: it is not shown.
      if (all_good(header_path + ".value") && std::ranges::any_of(header.value(), [](char c) {
            return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
          })) {
        reporter_.add(header_path + ".value", "holds a line break or another control character",
                      "remove it");
      }
    }
  }

  void check_exec(const ExecAction& exec, const std::string& path) {
    if (!all_good(path) || exec.command().empty() || !exec.command(0).empty()) return;
    reporter_.add(item(path, 0), "the program's name is empty", "name a program");
  }

  void check_detection() {
    const Detection& detection = config_.detection();
    if (!all_good("detection.sampleInterval", "detection.hangWindow")) return;
    if (to_duration(detection.sample_interval()) <= to_duration(detection.hang_window())) return;
    const bool blame_window = !origins_.is_set("detection.sampleInterval");
    reporter_.add(blame_window ? "detection.hangWindow" : "detection.sampleInterval",
                  "the sample interval (" +
                      format_duration(to_duration(detection.sample_interval())) +
                      ") is longer than the hang window (" +
                      format_duration(to_duration(detection.hang_window())) + ")",
                  "take several samples within the window");
  }

  void check_ladders() {
    std::map<std::string_view, int> seen;
    const Healing& healing = config_.healing();
    for (int i = 0; i < healing.ladders_size(); ++i) {
      const Ladder& ladder = healing.ladders(i);
      const std::string path = item("healing.ladders", i);
      if (all_good(path + ".fault")) {
        const auto [it, is_new] = seen.emplace(ladder.fault(), i);
        if (!is_new) {
          reporter_.add(
              path + ".fault",
              quote(ladder.fault()) + " already has " + item("healing.ladders", it->second),
              "merge the two ladders");
        }
      }
      check_steps(ladder, path + ".steps");
    }
  }

  void check_steps(const Ladder& ladder, const std::string& path) {
    for (int i = 0; i < ladder.steps_size(); ++i) {
      const std::string step_path = item(path, i);
      if (!all_good(step_path)) continue;
      if (ladder.steps(i) == "give_up" && i + 1 < ladder.steps_size()) {
        reporter_.add(step_path, "give_up ends the ladder, and steps follow it",
                      "make it the last step");
      }
      if (ladder.steps(i) != "restore") continue;
      for (const auto& [key, is_there] :
           {std::pair{"snapshots.store", !config_.snapshots().store().empty()},
            std::pair{"agent.stateDir", !config_.agent().state_dir().empty()}}) {
        if (is_there || !all_good(key)) continue;
        reporter_.add(step_path, std::string("restore needs ") + key, "set it, or remove the step");
        break;
      }
    }
  }

  void check_backoff() {
    const Backoff& backoff = config_.healing().backoff();
    const Duration max = to_duration(backoff.max());
    for (const auto& [key, value] : {std::pair{"base", to_duration(backoff.base())},
                                     std::pair{"step", to_duration(backoff.step())}}) {
      const std::string path = std::string("healing.backoff.") + key;
      if (value <= max || !all_good(path, "healing.backoff.max")) continue;
      const bool blame_max = !origins_.is_set(path);
      reporter_.add(blame_max ? "healing.backoff.max" : path,
                    std::string(key) + " (" + format_duration(value) + ") is longer than max (" +
                        format_duration(max) + ")",
                    blame_max ? "raise max" : "lower it, or raise healing.backoff.max");
      if (blame_max) return;
    }
  }

  void check_snapshots() {
    const Snapshots& snapshots = config_.snapshots();
    const std::string& store = snapshots.store();
    const std::string& state_dir = config_.agent().state_dir();
    const Snapshots& unchanged = default_config().snapshots();
    // A key that only repeats the default promises nothing.
    const std::pair<std::string_view, bool> keys[] = {
        {"interval", to_duration(snapshots.interval()) != to_duration(unchanged.interval())},
        {"keepLast", snapshots.keep_last() != unchanged.keep_last()},
        {"exclude", snapshots.exclude_size() > 0},
        {"stopMax", to_duration(snapshots.stop_max()) != to_duration(unchanged.stop_max())}};
    for (const auto& [key, is_changed] : keys) {
      const std::string path = "snapshots." + std::string(key);
      const Origin* origin = origins_.find(path);
      if (!is_changed || !all_good(path) || (origin != nullptr && origin->is_default)) continue;
      if (store.empty() && all_good("snapshots.store")) {
        reporter_.add(path, "has no effect without snapshots.store", "set the store, or remove it");
      } else if (state_dir.empty() && all_good("agent.stateDir")) {
        reporter_.add(path, "has no effect without agent.stateDir",
                      "set the state directory, or remove it");
      }
    }
    check_nesting(store, state_dir);
    for (int i = 0; i < config_.snapshots().exclude_size(); ++i) check_exclude(i);
  }

  void check_nesting(const std::string& store, const std::string& state_dir) {
    if (store.empty() || state_dir.empty()) return;
    if (!all_good("snapshots.store", "agent.stateDir")) return;
    const auto store_path = plain_path(store);
    const auto state_path = plain_path(state_dir);
    if (is_inside(store_path, state_path)) {
      reporter_.add("snapshots.store",
                    "lies inside agent.stateDir: snapshots would contain themselves",
                    "choose a directory outside " + state_path.string());
    } else if (is_inside(state_path, store_path)) {
      reporter_.add("agent.stateDir",
                    "lies inside snapshots.store: damage to one would reach the other",
                    "choose a directory outside " + store_path.string());
    }
  }

  void check_exclude(int index) {
    const std::string& pattern = config_.snapshots().exclude(index);
    const std::string path = item("snapshots.exclude", index);
    if (!all_good(path)) return;
    const std::filesystem::path as_path(pattern);
    if (!pattern.empty() && !as_path.is_absolute() &&
        std::ranges::find(as_path, std::filesystem::path("..")) == as_path.end()) {
      return;
    }
    reporter_.add(path, quote(pattern) + " can match nothing in the state directory",
                  "write it relative to agent.stateDir and without \"..\", such as cache/*");
  }

  void check_admin() {
    const Admin& admin = config_.admin();
    if (!admin.socket().empty() && all_good("admin.socket")) {
      if (!unix_socket_address(admin.socket())) {
        reporter_.add("admin.socket",
                      "the path has " + std::to_string(admin.socket().size()) +
                          " bytes; Unix sockets take at most 107",
                      "choose a shorter one");
      }
    }
    if (admin.listen().empty()) return;
    SocketAddress address;
    if (!check_address(admin.listen(), "admin.listen", address)) return;
    if (!address.is_loopback()) {
      reporter_.add("admin.listen", quote(admin.listen()) + " can be reached from other machines",
                    "use a loopback address, such as 127.0.0.1:" + std::to_string(address.port()));
    } else if (address.port() != 0 && all_good("inbound.listen") &&
               admin.listen() == config_.inbound().listen()) {
      reporter_.add("admin.listen", "is the same address as inbound.listen", "choose another port");
    }
  }

  // Sections that only a pod has: none of their listeners may take the agent's port or another's.
  void check_pod_ports() {
    std::map<int, std::string> taken;
    if (config_.agent().app_port() != 0) taken[config_.agent().app_port()] = "agent.appPort";
    std::vector<std::pair<std::string, int>> ports;
    if (config_.has_interception()) {
      ports.emplace_back("interception.inboundPort", config_.interception().inbound_port());
      ports.emplace_back("interception.outboundPort", config_.interception().outbound_port());
    }
    if (config_.has_outbound()) {
      ports.emplace_back("outbound.proxyPort", config_.outbound().proxy_port());
      for (int i = 0; i < std::min(config_.outbound().gateways_size(), gateways_max); ++i) {
        ports.emplace_back("outbound.gatewayPort", config_.outbound().gateway_port() + i);
      }
    }
    if (config_.has_pod()) ports.emplace_back("pod.healthPort", config_.pod().health_port());
    for (const auto& [path, port] : ports) {
      const auto [it, is_new] = taken.emplace(port, path);
      if (is_new || !all_good(path, it->second)) continue;
      // Blame the key that the user wrote.
      const std::string& blamed = origins_.is_set(path) ? path : it->second;
      reporter_.add(blamed,
                    "the port " + std::to_string(port) + " is also that of " +
                        (blamed == path ? it->second : path),
                    "choose another port");
    }
  }

  void check_exclusions() {
    const Interception& interception = config_.interception();
    check_port_ranges(interception.exclude_inbound_ports(), "interception.excludeInboundPorts");
    check_port_ranges(interception.exclude_outbound_ports(), "interception.excludeOutboundPorts");
    check_count(interception.exclude_outbound_addresses_size(), excluded_addresses_max,
                "interception.excludeOutboundAddresses");
    check_count(interception.exclude_uids_size(), excluded_owners_max, "interception.excludeUids");
    check_count(interception.exclude_gids_size(), excluded_owners_max, "interception.excludeGids");
    for (int i = 0; i < interception.exclude_outbound_addresses_size(); ++i) {
      const std::string& text = interception.exclude_outbound_addresses(i);
      const std::string path = item("interception.excludeOutboundAddresses", i);
      if (!all_good(path)) continue;
      const auto network = parse_cidr(text);
      if (network) continue;
      reporter_.add(path, quote(text) + " is neither an address nor a network",
                    is_printable(text) ? network.error().message
                                       : "write one such as 10.0.0.0/8 or fd00::/8");
    }
  }

  void check_gateways() {
    const Outbound& outbound = config_.outbound();
    check_count(outbound.gateways_size(), gateways_max, "outbound.gateways",
                "keep the ones that are used");
    std::map<std::string, int> seen;
    for (int i = 0; i < outbound.gateways_size(); ++i) {
      const std::string path = item("outbound.gateways", i);
      if (!all_good(path)) continue;
      const Parsed<Gateway> gateway = parse_gateway(outbound.gateways(i));
      if (!gateway) {
        reporter_.add(path, gateway.error().message, gateway.error().mend);
      } else if (!seen.emplace(gateway->variable, i).second) {
        reporter_.add(path, gateway->variable + " is there already", "name it once");
      }
    }
  }

  // The URL is not shown: it might hold a password.
  void check_telemetry() {
    const std::string& url = config_.telemetry().otlp_endpoint();
    if (url.empty() || !all_good("telemetry.otlpEndpoint")) return;
    if (parse_gateway("URL=" + url)) return;
    reporter_.add("telemetry.otlpEndpoint", "is no URL http://HOST[:PORT][/PATH] or https://…",
                  "write one such as http://collector.observability:4318");
  }

  // Each entry is a rule that every new connection passes.
  void check_count(int count, size_t most, const std::string& list,
                   const std::string& mend = "join neighbours into ranges or networks") {
    if (static_cast<size_t>(count) <= most || !all_good(list)) return;
    reporter_.add(
        list, "has " + std::to_string(count) + " entries, at most " + std::to_string(most), mend);
  }

  void check_port_ranges(const google::protobuf::RepeatedPtrField<std::string>& ranges,
                         const std::string& list) {
    check_count(ranges.size(), excluded_ports_max, list);
    for (int i = 0; i < ranges.size(); ++i) {
      const std::string path = item(list, i);
      if (!all_good(path) || parse_port_range(ranges[i])) continue;
      reporter_.add(path, quote(ranges[i]) + " is neither a port nor a range of ports",
                    "write one such as 9090 or 8000-8080");
    }
  }

  const Config& config_;
  const Origins& origins_;
  Reporter& reporter_;
};

}  // namespace

void validate(const Config& config, const Origins& origins, Reporter& reporter) {
  Validator(config, origins, reporter).run();
}

}  // namespace remora::config
