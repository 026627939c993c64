// One thing that is wrong with a configuration: where, what, and how to mend it.
#pragma once

#include <string>
#include <vector>

namespace remora::config {

struct Problem {
  std::string file;     // as the user named it; a command-line option ("--app-port") for overrides
  int line = 0;         // from 1; 0 when there is no line (options, empty files)
  int column = 0;       // from 1; 0 like line
  std::string path;     // "healing.ladders[1].fault"; empty for the document itself
  std::string message;  // what is wrong, one clause
  std::string mend;     // what to do about it, one clause; never empty
};
using Problems = std::vector<Problem>;

// "remora.yaml:12:5: agent.appPort: 70000 is above the maximum 65535; use 1 to 65535"
std::string format_problem(const Problem& problem);
// All of them in one line, "; " between two.
std::string in_words(const Problems& problems);

}  // namespace remora::config
