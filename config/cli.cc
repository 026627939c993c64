#include "config/cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "config/load.h"
#include "config/reference.h"
#include "sidecar/base/exit_codes.h"

namespace remora::config {
namespace {

struct ValidateOptions {
  std::string file;
  bool json = false;
  bool schema = false;
};

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
}

std::string as_json(const ValidateOptions& options, const Problems& problems) {
  nlohmann::json list = nlohmann::json::array();
  for (const Problem& problem : problems) {
    list.push_back({{"file", problem.file},
                    {"line", problem.line},
                    {"column", problem.column},
                    {"path", problem.path},
                    {"message", problem.message},
                    {"mend", problem.mend}});
  }
  const nlohmann::json document = {
      {"file", options.file}, {"valid", problems.empty()}, {"problems", std::move(list)}};
  // Invalid UTF-8 (in a file's name) is replaced, never thrown about.
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

int run_validate(const ValidateOptions& options) {
  if (options.schema) {
    const std::string reference = render_reference();
    std::fwrite(reference.data(), 1, reference.size(), stdout);
    return exit_ok;
  }
  if (options.file.empty()) {
    std::fputs("remora validate: no file given; write remora validate FILE\n", stderr);
    return exit_usage;
  }
  const Result<LoadResult> loaded = load_file(options.file);
  if (!loaded) {
    std::fprintf(stderr, "remora validate: %s\n", loaded.error().message.c_str());
    return exit_usage;
  }
  if (options.json) {
    print(as_json(options, loaded->problems));
  } else if (loaded->ok()) {
    print(options.file + ": valid");
  } else {
    for (const Problem& problem : loaded->problems) print(format_problem(problem));
  }
  return loaded->ok() ? exit_ok : exit_failed;
}

}  // namespace

void add_validate_command(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("validate", "Report everything that is wrong with a configuration file");
  auto options = std::make_shared<ValidateOptions>();
  command->add_option("FILE", options->file, "Configuration file (YAML)");
  command->add_flag("--json", options->json, "Print the problems as JSON");
  command->add_flag("--schema", options->schema,
                    "Print the reference of all keys (Markdown) instead");
  command->callback([options, &exit_code] { exit_code = run_validate(*options); });
}

}  // namespace remora::config
