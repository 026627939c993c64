#include "sidecar/heal/incident_cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "sidecar/heal/incident_log.h"
#include "sidecar/heal/incident_text.h"

namespace remora {
namespace {

struct Arguments {
  std::string store;
  std::string id = "latest";
  bool json = false;
};

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

int fail(std::string_view message) {
  std::fprintf(stderr, "remora: %.*s\n", static_cast<int>(message.size()), message.data());
  return 1;
}

int list(const Arguments& arguments) {
  const auto listing = list_incidents(arguments.store);
  if (!listing) return fail(listing.error().message);
  for (const std::string& name : listing->unreadable) fail(name);
  if (arguments.json) {
    std::string separator = "[";
    for (const Incident& incident : listing->incidents) {
      print(separator + "\n" + incident_to_json(incident));
      separator = ",";
    }
    print(listing->incidents.empty() ? "[]\n" : "\n]\n");
  } else if (listing->incidents.empty()) {
    print("no incidents\n");
  } else {
    print(incident_table(listing->incidents));
  }
  return 0;
}

int show(const Arguments& arguments) {
  const auto incident = load_incident(arguments.store, arguments.id);
  if (!incident) return fail(incident.error().message);
  print(arguments.json ? incident_to_json(*incident) + "\n" : incident_timeline(*incident));
  return 0;
}

}  // namespace

void add_incident_commands(CLI::App& app, int& exit_code) {
  CLI::App* incident = app.add_subcommand("incident",
                                          "What happened to the agent, why, and what "
                                          "was done about it");
  incident->require_subcommand(1);
  const auto arguments = std::make_shared<Arguments>();
  const auto add_common = [&](CLI::App* command) {
    command->add_option("--store", arguments->store, "Directory of the snapshot store")
        ->required()
        ->type_name("DIR");
    command->add_flag("--json", arguments->json, "Print JSON");
  };
  CLI::App* list_command = incident->add_subcommand("list", "All incidents, oldest first");
  add_common(list_command);
  list_command->callback([arguments, &exit_code] { exit_code = list(*arguments); });

  CLI::App* show_command = incident->add_subcommand("show", "One incident, with its evidence");
  show_command->add_option("ID", arguments->id, "An id, the beginning of one, or latest");
  add_common(show_command);
  show_command->callback([arguments, &exit_code] { exit_code = show(*arguments); });
}

}  // namespace remora
