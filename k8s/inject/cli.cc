#include "k8s/inject/cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include <unistd.h>

#include "config/annotation_reference.h"
#include "config/read_file.h"
#include "k8s/inject/manifest.h"
#include "sidecar/base/exit_codes.h"

namespace remora::k8s {
namespace {

struct Arguments {
  std::string file;
  std::string pod_security = "privileged";
  InjectOptions options{.image = "remora:" REMORA_VERSION,
                        .product_version = REMORA_VERSION,
                        .inject_by_default = true};
  bool explain = false;
  bool annotations = false;
};

void print(std::FILE* to, const std::string& text) { std::fwrite(text.data(), 1, text.size(), to); }

int fail(const std::string& message, int exit_code) {
  print(stderr, "remora inject: " + message + "\n");
  return exit_code;
}

std::string explanation(const ObjectReport& object) {
  std::string text = object.name + "\n";
  const auto lines = [&text](const char* mark, const std::vector<std::string>& items) {
    for (const std::string& item : items) text.append("  ").append(mark).append(item).append("\n");
  };
  if (const auto* skip = std::get_if<Skip>(&object.result)) {
    lines("unchanged: ", {skip->reason});
  } else if (const auto* patch = std::get_if<Patch>(&object.result)) {
    if (patch->operations == 0) lines("", {"is injected already; nothing to do"});
    lines("- ", patch->notes);
    lines("! ", patch->warnings);
  }
  lines("! ", object.warnings);
  return text;
}

void print_warnings(const ObjectReport& object) {
  const auto warn = [&](const std::string& text) {
    print(stderr, "remora inject: " + object.name + ": warning: " + text + "\n");
  };
  if (const auto* skip = std::get_if<Skip>(&object.result); skip != nullptr && skip->warn) {
    warn(skip->reason);
  } else if (const auto* patch = std::get_if<Patch>(&object.result)) {
    for (const std::string& text : patch->warnings) warn(text);
  }
  for (const std::string& text : object.warnings) warn(text);
}

Result<std::string> read_input(const std::string& file) {
  if (file == "-") {
    return config::read_all(STDIN_FILENO, "standard input", manifest_text_bytes_max);
  }
  return config::read_file(file, manifest_text_bytes_max);
}

int run(Arguments& arguments) {
  if (arguments.annotations) {
    print(stdout, config::render_annotation_reference());
    return exit_ok;
  }
  if (arguments.file.empty()) return fail("no manifest given; write -f FILE, or -f -", exit_usage);
  static const std::map<std::string, PodSecurity> levels{{"privileged", PodSecurity::kPrivileged},
                                                         {"baseline", PodSecurity::kBaseline},
                                                         {"restricted", PodSecurity::kRestricted}};
  arguments.options.pod_security = levels.at(arguments.pod_security);
  const Result<std::string> text = read_input(arguments.file);
  if (!text) return fail(text.error().message, exit_usage);
  const ManifestResult result = inject_manifests(*text, arguments.options);
  for (const std::string& problem : result.problems) fail(problem, exit_failed);
  if (!result.problems.empty()) return exit_failed;
  if (!arguments.explain) {
    for (const ObjectReport& object : result.objects) print_warnings(object);
    print(stdout, result.text);
    return exit_ok;
  }
  if (result.objects.empty()) print(stdout, "nothing here has a pod inside\n");
  for (const ObjectReport& object : result.objects) print(stdout, explanation(object));
  return exit_ok;
}

}  // namespace

void add_inject_command(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "inject", "Add Remora to the pods of manifests, as the webhook would in the cluster");
  const auto arguments = std::make_shared<Arguments>();
  InjectOptions& options = arguments->options;
  command
      ->add_option("-f,--filename", arguments->file, "Manifests (YAML or JSON); -: standard input")
      ->type_name("FILE");
  command->add_flag("--explain", arguments->explain,
                    "Say in words what is set, why, and what is lost, instead of the manifests");
  command->add_option("--image", options.image, "Image of the sidecar")->capture_default_str();
  command
      ->add_option("-n,--namespace", options.namespace_name, "Namespace of objects that name none")
      ->capture_default_str();
  command->add_option("--kubernetes-version", options.kubernetes_version,
                      "Of the cluster, such as v1.34.4; default: assumed to be new enough");
  command
      ->add_option("--pod-security", arguments->pod_security, "Pod Security level of the namespace")
      ->check(CLI::IsMember({"privileged", "baseline", "restricted"}))
      ->capture_default_str();
  command->add_flag("--annotations", arguments->annotations,
                    "Print the reference of all annotations (Markdown) instead");
  command->callback([arguments, &exit_code] { exit_code = run(*arguments); });
}

}  // namespace remora::k8s
