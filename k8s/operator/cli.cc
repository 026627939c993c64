#include "k8s/operator/cli.h"

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <tuple>

#include <unistd.h>

#include "config/read_file.h"
#include "k8s/kubeconfig/kubeconfig.h"
#include "k8s/operator/operator.h"
#include "k8s/resources/crds.h"
#include "sidecar/base/exit_codes.h"
#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr const char* namespace_file = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
constexpr const char* namespace_default = "remora-system";
constexpr size_t name_bytes_max = 253;
constexpr int64_t certificate_days_max = 3'650;
constexpr int steps_max_max = 10'000;
constexpr int64_t steps_window_s_max = 86'400;

struct Arguments {
  std::string api_server;
  std::string kubeconfig;
  std::string namespace_name;
  std::string service = "remora-webhook";
  std::string webhook_config = "remora-webhook";
  std::string secret = "remora-webhook-certificate";
  std::string listen = ":9443";
  std::string metrics_listen = ":8080";
  std::string image = "remora:" REMORA_VERSION;
  std::string tls_dir;
  std::string url_host;
  int64_t certificate_days = 90;
  bool heal = false;
  std::string lease = "remora-operator";
  std::string alertmanager;
  std::string alert_webhook;
  std::string alert_token_file;
  std::string alert_ca = "/etc/ssl/certs/ca-certificates.crt";
  int namespace_steps_max = 10;
  int fleet_steps_max = 20;
  int64_t steps_window_s = 600;
  int64_t storm_cool_down_s = 300;
  std::string link_listen;
  std::string link_address;
  std::string otlp_endpoint;
  std::string otlp_certificate;
  bool eviction_requests = false;
};

int fail(const Error& error) {
  std::fprintf(stderr, "remora: %s\n", error.message.c_str());
  return error.code == ErrorCode::kInvalidArgument ? exit_usage : exit_failed;
}

std::string own_namespace() {
  const Result<std::string> text = config::read_file(namespace_file, name_bytes_max);
  return text && !text->empty() ? *text : namespace_default;
}

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

Result<ApiServer> api_server_of(const Arguments& arguments) {
  if (!arguments.api_server.empty()) return plain_api_server(arguments.api_server);
  if (!arguments.kubeconfig.empty()) return kubeconfig_api_server(arguments.kubeconfig);
  return in_cluster_api_server();
}

// The URL is not repeated: it may be a secret by itself.
Result<void> add_alert_target(const char* option, const char* name, const std::string& url,
                              const std::string& token_file, OperatorOptions& options) {
  if (url.empty()) return {};
  const config::Parsed<config::Gateway> parsed = config::parse_gateway("ALERTS_URL=" + url);
  if (!parsed) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                      std::string(option) +
                          ": is no URL of the form "
                          "http://HOST[:PORT][/PATH] or https://…");
  }
  const bool is_alertmanager = std::string_view(name) == "alertmanager";
  std::string path = parsed->path;
  while (path.ends_with('/')) path.pop_back();
  if (is_alertmanager) path += "/api/v2/alerts";
  options.alerts.push_back(
      {.name = name, .url = *parsed, .path = path.empty() ? "/" : path, .token_file = token_file});
  return {};
}

Result<void> set_link(const Arguments& arguments, OperatorOptions& options) {
  if (arguments.link_listen.empty()) {
    if (!arguments.eviction_requests) return {};
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                      "--eviction-requests: sidecars are asked for snapshots by the link; add "
                      "--link-listen and --heal");
  }
  Result<SocketAddress> listen = parse_socket_address(arguments.link_listen);
  if (!listen) return std::unexpected(std::move(listen.error()).with_context("--link-listen"));
  if (!arguments.heal) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kConfig,
                      "--link-listen: what sidecars say is kept in Incidents; add --heal");
  }
  options.link_listen = *listen;
  options.eviction_requests = arguments.eviction_requests;
  options.link_address = arguments.link_address;
  if (options.link_address.empty()) {
    options.link_address =
        options.service + "." + options.namespace_name + ".svc:" + std::to_string(listen->port());
  }
  return {};
}

Result<OperatorOptions> options_of(const Arguments& arguments) {
  OperatorOptions options;
  Result<ApiServer> server = api_server_of(arguments);
  if (!server) return std::unexpected(std::move(server.error()));
  options.api_server = std::move(*server);
  Result<SocketAddress> listen = parse_socket_address(arguments.listen);
  if (!listen) return std::unexpected(std::move(listen.error()).with_context("--listen"));
  options.listen = *listen;
  Result<SocketAddress> metrics = parse_socket_address(arguments.metrics_listen);
  if (!metrics) {
    return std::unexpected(std::move(metrics.error()).with_context("--metrics-listen"));
  }
  options.metrics_listen = *metrics;
  options.namespace_name =
      arguments.namespace_name.empty() ? own_namespace() : arguments.namespace_name;
  options.service = arguments.service;
  options.webhook_config = arguments.webhook_config;
  options.secret = arguments.secret;
  options.image = arguments.image;
  options.tls_dir = arguments.tls_dir;
  options.url_host = arguments.url_host;
  options.instance = host_name();
  std::random_device random;
  options.seed = random();
  options.identity =
      options.instance + "_" + std::to_string(options.seed) + "_" + std::to_string(random());
  options.heal = arguments.heal;
  options.lease = arguments.lease;
  options.alert_ca_file = arguments.alert_ca;
  const std::string& token = arguments.alert_token_file;
  for (const auto& [option, name, url] :
       {std::tuple("--alertmanager", "alertmanager", &arguments.alertmanager),
        std::tuple("--alert-webhook", "webhook", &arguments.alert_webhook)}) {
    if (Result<void> added = add_alert_target(option, name, *url, token, options); !added) {
      return std::unexpected(std::move(added.error()));
    }
  }
  options.fleet_budget = {.steps_max = arguments.fleet_steps_max,
                          .window = std::chrono::seconds(arguments.steps_window_s),
                          .cool_down = std::chrono::seconds(arguments.storm_cool_down_s)};
  options.namespace_budget = options.fleet_budget;
  options.namespace_budget.steps_max = arguments.namespace_steps_max;
  if (Result<void> link = set_link(arguments, options); !link) {
    return std::unexpected(std::move(link.error()));
  }
  options.certificate_life_s = arguments.certificate_days * day_s;
  options.traces = {.endpoint = arguments.otlp_endpoint,
                    .certificate_file = arguments.otlp_certificate,
                    .service = "remora-operator"};
  return options;
}

int run(const Arguments& arguments) {
  Result<OperatorOptions> options = options_of(arguments);
  if (!options) return fail(options.error());
  Result<std::unique_ptr<Operator>> made = Operator::create(std::move(*options));
  if (!made) return fail(made.error());
  const int exit_code = (*made)->run();
  made->reset();
  flush_log();
  return exit_code;
}

// A name goes into paths and certificates.
std::string check_name(const std::string& name) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyz0123456789-.";
  const bool good = !name.empty() && name.size() <= name_bytes_max &&
                    name.find_first_not_of(allowed) == std::string::npos;
  return good ? std::string() : "\"" + name + "\" is no name of Kubernetes: use a-z, 0-9, - and .";
}

std::string check_host(const std::string& host) {
  return make_socket_address(host, 0) ? std::string() : check_name(host);
}

void add_link_options(CLI::App& command, Arguments& arguments) {
  command
      .add_option("--link-listen", arguments.link_listen,
                  "ADDRESS:PORT where the sidecars of injected pods report (gRPC over TLS); only "
                  "with --heal; default: nowhere")
      ->type_name("ADDRESS:PORT");
  command
      .add_option("--link-address", arguments.link_address,
                  "HOST:PORT by which they call it, HOST one of the certificate's names; default: "
                  "the Service and that port")
      ->type_name("HOST:PORT");
  command.add_flag("--eviction-requests", arguments.eviction_requests,
                   "Have a last snapshot taken before the Eviction API (Kubernetes 1.37, "
                   "EvictionRequestAPI) evicts a pod. Needs k8s/manifests/eviction-requests");
}

}  // namespace

namespace {

void add_budget_options(CLI::App& command, Arguments& arguments) {
  const auto add = [&command](const char* option, auto& value, int64_t value_max,
                              const char* help) {
    command.add_option(option, value, help)
        ->capture_default_str()
        ->check(CLI::Range(int64_t{0}, value_max));
  };
  add("--namespace-steps-max", arguments.namespace_steps_max, steps_max_max,
      "Steps that disturb a pod, in a window, in one namespace, whatever its policies allow");
  add("--fleet-steps-max", arguments.fleet_steps_max, steps_max_max,
      "The same for all namespaces together");
  add("--steps-window-seconds", arguments.steps_window_s, steps_window_s_max,
      "The window of both, sliding");
  add("--storm-cool-down-seconds", arguments.storm_cool_down_s, steps_window_s_max,
      "After one of both was used up: how long nothing is done");
}

void add_alert_options(CLI::App& command, Arguments& arguments) {
  command
      .add_option("--alertmanager", arguments.alertmanager,
                  "Alertmanager (API v2) that is told of Incidents that no step is left for")
      ->type_name("URL");
  command
      .add_option("--alert-webhook", arguments.alert_webhook,
                  "URL to which the same is sent as JSON by POST")
      ->type_name("URL");
  command
      .add_option("--alert-token-file", arguments.alert_token_file,
                  "File with the bearer token for both, read for each request")
      ->type_name("FILE");
  command
      .add_option("--alert-ca", arguments.alert_ca,
                  "Certificates of the authorities that are trusted for https")
      ->capture_default_str()
      ->type_name("FILE");
}

void add_telemetry_options(CLI::App& command, Arguments& arguments) {
  command
      .add_option("--otlp-endpoint", arguments.otlp_endpoint,
                  "Base URL of the OTLP/HTTP receiver to which each Incident is exported as a "
                  "trace when it ends; default: OTEL_EXPORTER_OTLP_ENDPOINT, else nowhere")
      ->type_name("URL");
  command
      .add_option("--otlp-certificate", arguments.otlp_certificate,
                  "Authorities that an https:// receiver is checked against; default: "
                  "OTEL_EXPORTER_OTLP_CERTIFICATE, else the system's")
      ->type_name("FILE");
}

}  // namespace

void add_operator_command(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("operator", "Add Remora to pods as the cluster's mutating webhook");
  auto arguments = std::make_shared<Arguments>();
  const auto add_name = [&](const char* option, std::string& value, const char* help) {
    command->add_option(option, value, help)
        ->capture_default_str()
        ->type_name("NAME")
        ->check(CLI::Validator(check_name, ""));
  };
  command
      ->add_option("--api-server", arguments->api_server,
                   "http://ADDRESS:PORT of a kubectl proxy; default: the pod's service account")
      ->type_name("URL");
  command
      ->add_option("--kubeconfig", arguments->kubeconfig,
                   "kubeconfig file whose current context is used instead")
      ->type_name("FILE")
      ->excludes("--api-server");
  add_name("--namespace", arguments->namespace_name,
           "Where the operator is installed; default: the pod's, else remora-system");
  add_name("--service", arguments->service, "Service by which the API server calls");
  add_name("--webhook-config", arguments->webhook_config,
           "MutatingWebhookConfiguration whose caBundle is kept");
  add_name("--secret", arguments->secret, "Secret that keeps the certificate");
  command->add_option("--listen", arguments->listen, "ADDRESS:PORT of the webhook (HTTPS)")
      ->capture_default_str();
  command
      ->add_option("--metrics-listen", arguments->metrics_listen,
                   "ADDRESS:PORT of /metrics, /healthz and /readyz")
      ->capture_default_str();
  command->add_option("--image", arguments->image, "Image of the sidecar in injected pods")
      ->capture_default_str();
  command
      ->add_option("--tls-dir", arguments->tls_dir,
                   "Directory with tls.crt and tls.key that somebody else keeps (cert-manager), "
                   "together with the caBundle")
      ->type_name("DIR");
  command
      ->add_option("--url-host", arguments->url_host,
                   "Further DNS name or address for the certificate, for a webhook by URL")
      ->type_name("HOST")
      ->check(CLI::Validator(check_host, ""));
  command
      ->add_option("--certificate-days", arguments->certificate_days,
                   "Life of the certificate; renewed when less than a third is left")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, certificate_days_max));
  command->add_flag("--heal", arguments->heal,
                    "Heal pods as the HealingPolicies of their namespaces say; one replica at a "
                    "time does. Needs k8s/manifests/healing");
  add_link_options(*command, *arguments);
  add_name("--lease", arguments->lease, "Lease by which the replicas elect the one that heals");
  add_budget_options(*command, *arguments);
  add_alert_options(*command, *arguments);
  add_telemetry_options(*command, *arguments);
  const CLI::App* crds = command->add_subcommand(
      "crds", "Write the CustomResourceDefinitions of remora.dev to standard output");
  command->callback([arguments, crds, &exit_code] {
    if (crds->parsed()) {
      std::fputs(resource_definitions_yaml().c_str(), stdout);
    } else {
      exit_code = run(*arguments);
    }
  });
}

}  // namespace remora::k8s
