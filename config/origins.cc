#include "config/origins.h"

#include <algorithm>
#include <tuple>

#include "config/load.h"

namespace remora::config {
namespace {

// path is `ancestor` itself or lies below it.
bool is_within(std::string_view path, std::string_view ancestor) {
  if (!path.starts_with(ancestor)) return false;
  if (path.size() == ancestor.size() || ancestor.empty()) return true;
  const char next = path[ancestor.size()];
  return next == '.' || next == '[';
}

std::string_view parent_of(std::string_view path) {
  const size_t cut = path.find_last_of(".[");
  return cut == std::string_view::npos ? std::string_view{} : path.substr(0, cut);
}

}  // namespace

void Origins::forget(const std::string& path) {
  // Everything below path is next to it in the map, with other keys that begin alike.
  auto it = by_path_.lower_bound(path);
  while (it != by_path_.end() && it->first.starts_with(path)) {
    it = is_within(it->first, path) ? by_path_.erase(it) : std::next(it);
  }
}

bool Origins::is_any_below(std::string_view path) const {
  for (auto it = by_path_.upper_bound(path);
       it != by_path_.end() && std::string_view(it->first).starts_with(path); ++it) {
    if (is_within(it->first, path)) return true;
  }
  return false;
}

bool Origins::is_bad(std::string_view path) const {
  for (std::string_view above = parent_of(path); !above.empty(); above = parent_of(above)) {
    const auto it = by_path_.find(above);
    if (it != by_path_.end() && it->second.bad) return true;
  }
  for (auto it = by_path_.lower_bound(path);
       it != by_path_.end() && std::string_view(it->first).starts_with(path); ++it) {
    if (it->second.bad && is_within(it->first, path)) return true;
  }
  return false;
}

const Origin* Origins::find(std::string_view path) const {
  while (true) {
    const auto it = by_path_.find(path);
    if (it != by_path_.end()) return &it->second;
    if (path.empty()) return nullptr;
    path = parent_of(path);
  }
}

void Reporter::add(const Origin& place, const std::string& path, std::string message,
                   std::string mend) {
  if (problems_.size() >= config_problems_max) {
    overflowed_ = true;
    return;
  }
  problems_.push_back(
      {place.file, place.line, place.column, path, std::move(message), std::move(mend)});
  origins_.mark_bad(path, place);
}

void Reporter::add(const std::string& path, std::string message, std::string mend) {
  const Origin* origin = origins_.find(path);
  add(origin == nullptr ? Origin{} : Origin(*origin), path, std::move(message), std::move(mend));
}

void Reporter::finish() {
  std::ranges::sort(problems_, [](const Problem& a, const Problem& b) {
    return std::tie(a.line, a.column, a.path, a.message) <
           std::tie(b.line, b.column, b.path, b.message);
  });
  if (!overflowed_) return;
  problems_.push_back({problems_.back().file, 0, 0, "",
                       "more than " + std::to_string(config_problems_max) + " problems",
                       "mend these first"});
}

}  // namespace remora::config
