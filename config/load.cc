#include "config/load.h"

#include <utility>

#include "config/defaults.h"
#include "config/load_with_origins.h"
#include "config/loader.h"
#include "config/read_file.h"
#include "config/validate.h"
#include "config/yaml_tree.h"

namespace remora::config {

std::string format_problem(const Problem& problem) {
  std::string out = problem.file;
  if (problem.line > 0) {
    out.append(":").append(std::to_string(problem.line));
    out.append(":").append(std::to_string(problem.column));
  }
  if (!out.empty()) out += ": ";
  if (!problem.path.empty()) out.append(problem.path).append(": ");
  return out.append(problem.message).append("; ").append(problem.mend);
}

std::string in_words(const Problems& problems) {
  std::string text;
  for (const Problem& problem : problems) {
    text.append(text.empty() ? "" : "; ").append(format_problem(problem));
  }
  return text;
}

LoadResult load_yaml(std::string_view text, std::string_view file_name,
                     std::span<const Override> overrides) {
  Origins origins;
  return load_with_origins(text, file_name, overrides, origins);
}

LoadResult load_with_origins(std::string_view text, std::string_view file_name,
                             std::span<const Override> overrides, Origins& origins) {
  LoadResult result;
  Reporter reporter(result.problems, origins);
  // Stands for everything that nobody wrote.
  origins.add("", Origin{std::string(file_name), 0, 0});
  const auto tree = parse_yaml(text);
  if (!tree) {
    // What follows a syntax error can't be read, so nothing is said about it.
    reporter.add(Origin{std::string(file_name), tree.error().line, tree.error().column}, "",
                 tree.error().message, tree.error().mend);
    return result;
  }
  if (tree->root != nullptr) {
    Loader(file_name, reporter, origins).load_document(*tree->root, result.config);
  }
  for (const Override& from : overrides) {
    apply_override(from, result.config, reporter, origins);
  }
  fill_in_defaults(result.config, origins);
  validate(result.config, origins, reporter);
  reporter.finish();
  return result;
}

Result<LoadResult> load_file(const std::string& path, std::span<const Override> overrides) {
  Result<std::string> text = read_file(path, config_bytes_max);
  if (!text) return std::unexpected(std::move(text.error()));
  return load_yaml(*text, path, overrides);
}

}  // namespace remora::config
