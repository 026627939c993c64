#include "sidecar/app/next_start.h"

#include <array>

namespace remora {
namespace {

using config::Config;

struct Part {
  const char* key;
  std::string (*value)(const Config&);
};

constexpr std::array<Part, 17> parts{{
    {"agent.appPort", [](const Config& c) { return std::to_string(c.agent().app_port()); }},
    {"agent.appHost", [](const Config& c) { return c.agent().app_host(); }},
    {"agent.stateDir", [](const Config& c) { return c.agent().state_dir(); }},
    {"inbound.listen", [](const Config& c) { return c.inbound().listen(); }},
    {"inbound.protocol", [](const Config& c) { return c.inbound().protocol(); }},
    {"inbound.limits.upstreamConnectionsMax",
     [](const Config& c) {
       return std::to_string(c.inbound().limits().upstream_connections_max());
     }},
    {"inbound.timeouts.connect",
     [](const Config& c) { return c.inbound().timeouts().connect().SerializeAsString(); }},
    {"healing.alert.exec", [](const Config& c) { return c.healing().alert().SerializeAsString(); }},
    {"snapshots.store", [](const Config& c) { return c.snapshots().store(); }},
    {"snapshots.keepLast",
     [](const Config& c) { return std::to_string(c.snapshots().keep_last()); }},
    {"snapshots.exclude",
     [](const Config& c) {
       std::string all;
       for (const std::string& one : c.snapshots().exclude()) all.append(one).push_back('\n');
       return all;
     }},
    {"snapshots.stopMax",
     [](const Config& c) { return c.snapshots().stop_max().SerializeAsString(); }},
    {"admin.socket", [](const Config& c) { return c.admin().socket(); }},
    {"admin.listen", [](const Config& c) { return c.admin().listen(); }},
    {"interception", [](const Config& c) { return c.interception().SerializeAsString(); }},
    {"outbound", [](const Config& c) { return c.outbound().SerializeAsString(); }},
    {"pod", [](const Config& c) { return c.pod().SerializeAsString(); }},
}};

}  // namespace

std::vector<std::string> keys_for_next_start(const Config& before, const Config& after) {
  std::vector<std::string> keys;
  for (const Part& part : parts) {
    if (part.value(before) != part.value(after)) keys.emplace_back(part.key);
  }
  return keys;
}

}  // namespace remora
