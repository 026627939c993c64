// Where each key of a configuration was written, so that later checks can point at it. Lives only
// while one configuration is loaded.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "config/problem.h"

namespace remora::config {

struct Origin {
  std::string file;
  int line = 0;
  int column = 0;
  // A problem was already reported here: further checks of this value would only confuse.
  bool bad = false;
  // An Override::is_default: said for many, so it need not have an effect here.
  bool is_default = false;
};

class Origins {
 public:
  // The place of a key, or of an item of a list: "healing.ladders[1].steps[0]".
  void add(const std::string& path, Origin origin) { by_path_[path] = std::move(origin); }
  void mark_bad(const std::string& path, const Origin& place) {
    by_path_.try_emplace(path, place).first->second.bad = true;
  }
  // Forgets path and everything below it: an override takes its place.
  void forget(const std::string& path);

  // The key was written by the user.
  bool is_set(std::string_view path) const { return by_path_.contains(path); }
  // A key below path was written, or is wrong.
  bool is_any_below(std::string_view path) const;
  // Something at path, above it or below it is wrong already.
  bool is_bad(std::string_view path) const;
  // The place of path, or of its nearest written ancestor; null when there is none.
  const Origin* find(std::string_view path) const;

 private:
  std::map<std::string, Origin, std::less<>> by_path_;
};

// Collects problems; keeps config_problems_max and says when there were more.
class Reporter {
 public:
  Reporter(Problems& problems, Origins& origins) : problems_(problems), origins_(origins) {}

  // At a place given by the caller. Marks path as bad.
  void add(const Origin& place, const std::string& path, std::string message, std::string mend);
  // At the origin of path.
  void add(const std::string& path, std::string message, std::string mend);
  // Sorts by place and closes the report.
  void finish();

 private:
  Problems& problems_;
  Origins& origins_;
  bool overflowed_ = false;
};

}  // namespace remora::config
