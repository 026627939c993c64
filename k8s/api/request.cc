#include "k8s/api/request.h"

#include <vector>

namespace remora::k8s {
namespace {

std::vector<std::string_view> steps_of(std::string_view path) {
  std::vector<std::string_view> steps;
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const size_t end = std::min(path.find('/'), path.size());
    steps.push_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return steps;
}

std::string verb_of(std::string_view method, bool named, bool watches) {
  if (method == "POST") return "create";
  if (method == "PUT") return "update";
  if (method == "PATCH") return "patch";
  if (method == "DELETE") return named ? "delete" : "deletecollection";
  if (watches) return "watch";
  return named ? "get" : "list";
}

}  // namespace

ApiTarget target_of(std::string_view method, std::string_view path) {
  const size_t query_at = std::min(path.find('?'), path.size());
  const std::string_view query = path.substr(query_at);
  const bool watches = query.find("watch=1") != std::string_view::npos ||
                       query.find("watch=true") != std::string_view::npos;
  std::vector<std::string_view> steps = steps_of(path.substr(0, query_at));
  ApiTarget target;
  size_t at = 0;
  if (steps.size() >= 3 && steps[0] == "api") {
    at = 2;
  } else if (steps.size() >= 4 && steps[0] == "apis") {
    target.group = steps[1];
    at = 3;
  } else {
    target.verb = verb_of(method, true, watches);
    return target;
  }
  // "/api/v1/namespaces/NAME" is the namespace itself.
  if (steps[at] == "namespaces" && steps.size() > at + 2) {
    target.namespace_ = steps[at + 1];
    at += 2;
  }
  target.resource = steps[at];
  if (steps.size() > at + 1) target.name = steps[at + 1];
  if (steps.size() > at + 2) target.resource.append("/").append(steps[at + 2]);
  target.verb = verb_of(method, !target.name.empty(), watches);
  return target;
}

std::string percent_encoded(std::string_view text) {
  constexpr std::string_view plain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (plain.find(c) != std::string_view::npos) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += {'%', digits[byte >> 4], digits[byte & 15]};
  }
  return out;
}

}  // namespace remora::k8s
