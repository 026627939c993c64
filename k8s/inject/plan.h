// What is known and decided about one pod while its patch is made. Lives for one call of
// inject_pod; the parts of the injection read it and add to its report.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "config/annotations.h"
#include "k8s/inject/inject.h"
#include "k8s/inject/json_view.h"

namespace remora::k8s {

struct AgentPlan {
  size_t index = 0;              // in spec.containers
  config::InjectedAgent record;  // name, ports, original probes
  config::Config config;         // of its annotations; the configuration file is not seen here
};

struct Plan {
  const Json& pod;
  const InjectOptions& options;
  config::Annotations annotations;  // the pod's own, and the policy's
  config::Annotations from_policy;  // of them, with the record of it
  config::PodSettings settings;
  // Of an earlier injection of the same pod.
  std::optional<config::Injected> before;
  config::Injected injected;  // what will be recorded; agents last
  std::vector<AgentPlan> agents;

  std::vector<std::string> notes;
  std::vector<std::string> warnings;
  config::Problems problems;

  const Json& spec() const;
  const Json& containers() const;
  const Json& container(const AgentPlan& agent) const;
  std::string container_pointer(const AgentPlan& agent) const;
  bool transparent() const { return injected.interception().mode() == "transparent"; }
  bool proxied() const { return injected.interception().mode() != "none"; }

  void note(std::string text) { notes.push_back(std::move(text)); }
  void warn(std::string text) { warnings.push_back(std::move(text)); }
  // place: "annotation remora.dev/…", "container agent".
  void complain(std::string place, std::string message, std::string mend);
};

// "annotation remora.dev/NAME".
std::string annotation_place(std::string_view name);

// Fills settings, before, injected and agents from the pod's annotations and containers. When there
// are problems, the plan must not be carried out.
void make_plan(Plan& plan);

}  // namespace remora::k8s
