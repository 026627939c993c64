#include "sidecar/intercept/cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/base/exit_codes.h"
#include "sidecar/intercept/apply.h"
#include "sidecar/intercept/nft_text.h"

namespace remora::intercept {
namespace {

struct Arguments {
  InterceptOptions options;
  bool no_inbound = false;
  bool no_outbound = false;
  bool check = false;
  bool remove = false;
  bool dry_run = false;
  bool on_this_machine = false;
  std::vector<std::string> inbound_ports;
  std::vector<std::string> outbound_ports;
  std::vector<std::string> addresses;
};

void print_line(const std::string& text) { std::printf("%s\n", text.c_str()); }

int fail(const std::string& message, int exit_code = exit_failed) {
  std::fprintf(stderr, "remora intercept: %s\n", message.c_str());
  return exit_code;
}

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) {
    std::fprintf(stderr, "remora intercept: note: %s\n", note.c_str());
  }
}

template <typename T>
Result<void> parse_all(const std::vector<std::string>& texts, Result<T> (*parse)(std::string_view),
                       std::vector<T>& values) {
  for (const std::string& text : texts) {
    auto value = parse(text);
    if (!value) return std::unexpected(std::move(value.error()));
    values.push_back(*value);
  }
  return {};
}

Result<InterceptOptions> options_of(const Arguments& arguments) {
  InterceptOptions options = arguments.options;
  options.inbound = !arguments.no_inbound;
  options.outbound = !arguments.no_outbound;
  auto parsed = parse_all(arguments.inbound_ports, parse_port_range, options.exclude_inbound_ports);
  if (parsed) {
    parsed = parse_all(arguments.outbound_ports, parse_port_range, options.exclude_outbound_ports);
  }
  if (parsed) {
    parsed = parse_all(arguments.addresses, parse_cidr, options.exclude_outbound_addresses);
  }
  if (parsed) parsed = validate(options);
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  return options;
}

std::string summary(const InterceptOptions& options) {
  std::string text;
  if (options.inbound) text += "inbound TCP to port " + std::to_string(options.inbound_port);
  if (options.outbound) {
    if (!text.empty()) text += ", ";
    text += "outbound TCP to port " + std::to_string(options.outbound_port);
  }
  return text + " (" + std::to_string(rule_count(build_ruleset(options))) + " rules)";
}

int run_check(const InterceptOptions& options, const Clock& clock) {
  const auto report = check(options, clock);
  if (!report) return fail(report.error().message);
  print_notes(report->notes);
  for (const std::string& problem : report->problems) fail(problem);
  if (!report->problems.empty()) return exit_failed;
  print_line("in force: " + summary(options));
  return exit_ok;
}

int run_remove(const Clock& clock) {
  const auto removed = remove(clock);
  if (!removed) return fail(removed.error().message);
  print_line(*removed ? "removed table inet remora" : "no table inet remora; nothing to remove");
  return exit_ok;
}

int run_apply(const InterceptOptions& options, const Clock& clock) {
  const auto report = apply(options, clock);
  if (!report) return fail(report.error().message);
  print_notes(report->notes);
  print_line((report->changed ? "set: " : "already in force: ") + summary(options));
  return exit_ok;
}

int run(const Arguments& arguments) {
  const auto options = options_of(arguments);
  if (!options) return fail(options.error().message, exit_usage);
  if (arguments.dry_run) {
    std::fputs(to_nft_text(build_ruleset(*options)).c_str(), stdout);
    return exit_ok;
  }
  const SystemClock clock;
  if (arguments.check) return run_check(*options, clock);
  if (arguments.remove) return run_remove(clock);
  if (is_initial_network_namespace() && !arguments.on_this_machine) {
    return fail(
        "this is the machine's own network namespace: the rules would catch the traffic of the "
        "whole node. Leave pods with hostNetwork alone; --host-network does it nevertheless");
  }
  return run_apply(*options, clock);
}

void add_exclusions(CLI::App& command, Arguments& arguments) {
  const auto list = [&](const char* name, auto& values, const char* help, const char* type) {
    command.add_option(name, values, help)->delimiter(',')->type_name(type);
  };
  list("--exclude-inbound-port", arguments.inbound_ports,
       "Callers of these ports reach the agent directly", "PORT[-PORT],…");
  list("--exclude-outbound-port", arguments.outbound_ports, "Calls to these ports go out directly",
       "PORT[-PORT],…");
  list("--exclude-outbound-address", arguments.addresses,
       "Calls to these addresses go out directly", "ADDRESS[/BITS],…");
  list("--exclude-uid", arguments.options.exclude_uids,
       "Calls of processes with these uids go out directly", "UID,…");
  list("--exclude-gid", arguments.options.exclude_gids,
       "Calls of processes with these gids go out directly", "GID,…");
}

}  // namespace

void add_intercept_command(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "intercept", "Send this network namespace's TCP connections through the sidecar");
  const auto arguments = std::make_shared<Arguments>();
  InterceptOptions& options = arguments->options;
  command
      ->add_option("--inbound-port", options.inbound_port,
                   "Where the sidecar takes callers' connections")
      ->capture_default_str();
  command
      ->add_option("--outbound-port", options.outbound_port,
                   "Where the sidecar takes the agent's connections")
      ->capture_default_str();
  command
      ->add_option("--health-port", options.health_port, "The sidecar's health; never redirected")
      ->capture_default_str();
  command->add_option("--sidecar-uid", options.sidecar_uid,
                      "The sidecar's uid, if no agent shares it; without it the sidecar's "
                      "connections are told by their socket priority");
  command->add_flag("--no-inbound", arguments->no_inbound, "Leave inbound connections alone");
  command->add_flag("--no-outbound", arguments->no_outbound, "Leave outbound connections alone");
  add_exclusions(*command, *arguments);
  CLI::Option* check_flag = command->add_flag(
      "--check", arguments->check, "Change nothing; say whether exactly these rules are in force");
  CLI::Option* remove_flag =
      command->add_flag("--remove", arguments->remove, "Remove the rules")->excludes(check_flag);
  command->add_flag("--dry-run", arguments->dry_run, "Print the rules in nft syntax")
      ->excludes(check_flag)
      ->excludes(remove_flag);
  command->add_flag("--host-network", arguments->on_this_machine,
                    "Set the rules even in the machine's own network namespace");
  command->callback([arguments, &exit_code] { exit_code = run(*arguments); });
}

}  // namespace remora::intercept
