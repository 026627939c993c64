#include "k8s/kubectl/cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "config/pod.h"
#include "k8s/kubectl/acts.h"
#include "k8s/kubectl/cluster.h"
#include "k8s/kubectl/explain.h"
#include "k8s/kubectl/incidents.h"
#include "k8s/kubectl/snapshots.h"
#include "k8s/kubectl/status.h"
#include "sidecar/base/exit_codes.h"

namespace remora::k8s {
namespace {

constexpr const char* core_api = "/api/v1";
constexpr const char* remora_api = "/apis/remora.dev/v1alpha1";
constexpr int drain_wait_s_default = 120;

struct Arguments {
  ClusterOptions cluster;
  std::string output = "table";
  std::string name;    // of the pod or Incident
  std::string policy;  // instead of a pod
  std::string agent;
  std::string snapshot;
  int wait_s = drain_wait_s_default;
  bool all = false;

  Form form() const {
    static const std::map<std::string, Form> forms{
        {"table", Form::kTable}, {"wide", Form::kWide}, {"json", Form::kJson}};
    return forms.at(output);
  }
};
using Action = std::function<Result<Outcome>(Cluster&, const Arguments&)>;

std::string check_name(const std::string& name) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyz0123456789-.";
  constexpr size_t name_bytes_max = 253;
  const bool good = !name.empty() && name.size() <= name_bytes_max &&
                    name.find_first_not_of(allowed) == std::string::npos;
  return good ? std::string() : "\"" + name + "\" is no name of Kubernetes: use a-z, 0-9, - and .";
}

int run(const Arguments& arguments, const Action& action) {
  Result<std::unique_ptr<Cluster>> cluster = Cluster::open(arguments.cluster);
  Result<Outcome> outcome =
      cluster ? action(**cluster, arguments) : std::unexpected(std::move(cluster.error()));
  if (!outcome) {
    std::fprintf(stderr, "remora: %s\n", outcome.error().message.c_str());
    return outcome.error().code == ErrorCode::kInvalidArgument ? exit_usage : exit_failed;
  }
  std::fwrite(outcome->text.data(), 1, outcome->text.size(), stdout);
  return outcome->exit_code;
}

// Of a kind that may be missing, or forbidden to this user: the rest is shown all the same.
std::vector<Json> list_if_possible(Cluster& cluster, const std::string& plural) {
  Result<std::vector<Json>> items = cluster.list_here(remora_api, plural);
  if (items) return std::move(*items);
  const bool absent = items.error().code == ErrorCode::kNotFound;
  std::fprintf(stderr, "remora: %s are not shown: %s\n", plural.c_str(),
               absent ? "the custom resources of remora.dev are not installed"
                      : items.error().message.c_str());
  return {};
}

Result<Outcome> show_status(Cluster& cluster, const Arguments& arguments) {
  StatusInput input;
  Result<std::vector<Json>> pods = cluster.list_here(core_api, "pods");
  if (!pods) return std::unexpected(std::move(pods.error()));
  input.pods = std::move(*pods);
  input.policies = list_if_possible(cluster, "healingpolicies");
  input.incidents = list_if_possible(cluster, "incidents");
  input.now = cluster.now();
  return Outcome{.text =
                     render_status(read_status(input), arguments.form(), cluster.all_namespaces())};
}

Result<Outcome> list_incidents(Cluster& cluster, const Arguments& arguments) {
  const Result<std::vector<Json>> incidents = cluster.list_here(remora_api, "incidents");
  if (!incidents) return std::unexpected(incidents.error());
  return Outcome{.text = render_incidents(*incidents, arguments.form(), cluster.all_namespaces(),
                                          cluster.now())};
}

Result<Outcome> show_incident(Cluster& cluster, const Arguments& arguments) {
  const Result<Json> incident =
      cluster.get(std::string(remora_api) + "/namespaces/" + cluster.namespace_name() +
                  "/incidents/" + arguments.name);
  if (!incident) return std::unexpected(incident.error());
  return Outcome{.text = render_incident(*incident, arguments.form())};
}

Result<Outcome> explain(Cluster& cluster, const Arguments& arguments) {
  const std::string here = std::string(core_api) + "/namespaces/" + cluster.namespace_name();
  Result<Json> pod = cluster.get(here + "/pods/" + arguments.name);
  if (!pod) return std::unexpected(std::move(pod.error()));
  ExplainInput input{.pod = std::move(*pod), .policies = {}, .config_file = {}};
  if (const std::string name = config_map_of(input.pod); !name.empty()) {
    if (const std::string wrong = check_name(name); !wrong.empty()) {
      return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                        "annotation remora.dev/config-map: " + wrong);
    }
    const Result<Json> map = cluster.get(here + "/configmaps/" + name);
    if (!map) return std::unexpected(map.error());
    const Json* data = find_object(*map, "data");
    if (data != nullptr) input.config_file = text_of(*data, config::pod_config_key);
  }
  input.policies = list_if_possible(cluster, "healingpolicies");
  const Result<Explanation> explanation = explain_pod(input);
  if (!explanation) return std::unexpected(explanation.error());
  return Outcome{.text = render_explanation(*explanation, arguments.form(), arguments.all),
                 .exit_code = explanation->problems.empty() ? exit_ok : exit_not_good};
}

Result<Outcome> drain(Cluster& cluster, const Arguments& arguments) {
  return drain_pod(cluster, arguments.name, std::chrono::seconds(arguments.wait_s));
}

Result<Outcome> list_snapshots(Cluster& cluster, const Arguments& arguments) {
  const Result<std::vector<Json>> objects = cluster.list_here(remora_api, "agentsnapshots");
  if (!objects) return std::unexpected(objects.error());
  return Outcome{.text = render_snapshots(*objects, arguments.name, arguments.form(),
                                          cluster.all_namespaces(), cluster.now())};
}

Action order(const char* action) {
  return [action](Cluster& cluster, const Arguments& arguments) {
    return order_agent(cluster,
                       {.action = action,
                        .pod = arguments.name,
                        .agent = arguments.agent,
                        .snapshot = arguments.snapshot},
                       std::chrono::seconds(arguments.wait_s));
  };
}

Action pause(bool paused) {
  return [paused](Cluster& cluster, const Arguments& arguments) {
    return arguments.policy.empty() ? pause_pod(cluster, arguments.name, paused)
                                    : pause_policy(cluster, arguments.policy, paused);
  };
}

class Commands {
 public:
  Commands(CLI::App& app, int& exit_code) : app_(app), exit_code_(exit_code) {}

  void add_all() {
    app_.require_subcommand(1);
    add_shows();
    add_acts();
  }

 private:
  struct Added {
    CLI::App* command;
    std::shared_ptr<Arguments> arguments;
  };

  // with: what another command has read, for one below it.
  Added add(CLI::App& parent, const char* name, const char* help, Action action,
            std::shared_ptr<Arguments> with = nullptr) {
    if (with == nullptr) with = std::make_shared<Arguments>();
    Added added{.command = parent.add_subcommand(name, help), .arguments = std::move(with)};
    add_common(added);
    added.command->callback([arguments = added.arguments, action = std::move(action),
                             command = added.command, &exit_code = exit_code_] {
      if (command->get_subcommands().empty()) exit_code = run(*arguments, action);
    });
    return added;
  }

  static void add_common(const Added& added) {
    ClusterOptions& cluster = added.arguments->cluster;
    added.command
        ->add_option("--kubeconfig", cluster.kubeconfig,
                     "Default: $KUBECONFIG, else ~/.kube/config, else the pod's own account")
        ->type_name("FILE");
    added.command->add_option("--context", cluster.context, "Default: the current one")
        ->type_name("NAME");
    added.command->add_option("-n,--namespace", cluster.namespace_name, "Default: the context's")
        ->type_name("NAME")
        ->check(CLI::Validator(check_name, ""));
  }

  static void add_output(const Added& added) {
    added.command->add_option("-o,--output", added.arguments->output, "How it is written")
        ->check(CLI::IsMember({"table", "wide", "json"}))
        ->capture_default_str();
  }

  static void add_all_namespaces(const Added& added) {
    added.command->add_flag("-A,--all-namespaces", added.arguments->cluster.all_namespaces,
                            "Of all namespaces");
  }

  static CLI::Option* add_name(const Added& added, const char* what, const char* help) {
    return added.command->add_option(what, added.arguments->name, help)
        ->check(CLI::Validator(check_name, ""));
  }

  static void add_wait(const Added& added, const char* help) {
    added.command->add_option("--timeout", added.arguments->wait_s, help)
        ->check(CLI::Range(0, drain_wait_s_max))
        ->capture_default_str();
  }

  static void add_order(const Added& added) {
    add_name(added, "POD", "Its name")->required();
    added.command
        ->add_option("--agent", added.arguments->agent, "Its container, where there are several")
        ->check(CLI::Validator(check_name, ""));
    add_wait(added, "Seconds to wait for its answer");
  }

  void add_shows() {
    const Added status =
        add(app_, "status", "Pods that have Remora: state, last fault, policy", show_status);
    add_output(status);
    add_all_namespaces(status);
    const Added incidents =
        add(app_, "incidents", "What happened, and what was done about it", list_incidents);
    add_output(incidents);
    add_all_namespaces(incidents);
    const Added show = add(*incidents.command, "show", "One of them, step by step", show_incident,
                           incidents.arguments);
    add_output(show);
    add_name(show, "INCIDENT", "Its name")->required();
    const Added explained =
        add(app_, "explain",
            "Which value each setting of a pod has, and who gave it; what was added", explain);
    add_output(explained);
    add_name(explained, "POD", "Its name")->required();
    const Added snapshots =
        add(app_, "snapshots", "Which snapshots there are of each agent", list_snapshots);
    add_output(snapshots);
    add_all_namespaces(snapshots);
    add_name(snapshots, "POD", "Only of its agents");
    explained.command->add_flag("--all", explained.arguments->all,
                                "Also the settings that have their default");
  }

  void add_acts() {
    const Added drained = add(app_, "drain",
                              "Evict a pod, within its disruption budgets: its requests end, its "
                              "state is kept, its owner makes another",
                              drain);
    add_name(drained, "POD", "Its name")->required();
    add_wait(drained, "Seconds to wait for the budget, and for its end");
    const Added restored =
        add(app_, "restore", "Put a snapshot of an agent back: its callers wait meanwhile",
            order("Restore"));
    restored.command->add_option("--snapshot", restored.arguments->snapshot,
                                 "Which one; default: the newest intact one");
    add_order(restored);
    add_order(add(app_, "snapshot", "Take a snapshot of an agent now", order("Snapshot")));
    add_order(add(app_, "restart", "Stop an agent and start it: its callers wait meanwhile",
                  order("Restart")));
    const auto add_pause = [this](const char* name, const char* help, bool paused) {
      const Added added = add(app_, name, help, pause(paused));
      CLI::Option* pod = add_name(added, "POD", "Its name");
      CLI::Option* policy = added.command
                                ->add_option("--policy", added.arguments->policy,
                                             "A HealingPolicy, and so all of its pods")
                                ->check(CLI::Validator(check_name, ""));
      pod->excludes(policy);
      added.command->parse_complete_callback([pod, policy] {
        if (pod->empty() && policy->empty()) throw CLI::RequiredError("POD or --policy");
      });
    };
    add_pause("pause", "Do nothing to a pod, whatever happens to it", true);
    add_pause("unpause", "Heal it again", false);
  }

  CLI::App& app_;
  int& exit_code_;
};

}  // namespace

void add_plugin_commands(CLI::App& app, int& exit_code) { Commands(app, exit_code).add_all(); }

void add_kubectl_command(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "kubectl",
      "What the cluster knows of Remora; also: kubectl remora, when this program is in "
      "the PATH as kubectl-remora");
  add_plugin_commands(*command, exit_code);
}

}  // namespace remora::k8s
