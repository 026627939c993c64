#include "sidecar/app/policy_values.h"

#include <nlohmann/json.hpp>

#include "sidecar/app/json_member.h"

namespace remora {
namespace {

using Json = nlohmann::json;

}  // namespace

std::string policy_values_text(const config::PolicyValues& values) {
  return Json{{"policy", values.policy},
              {"generation", values.generation},
              {"annotations", values.annotations}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<config::PolicyValues> parse_policy_values(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const auto annotations = json.find("annotations");
  const auto generation = json.find("generation");
  const bool good = annotations != json.end() && annotations->is_object() &&
                    generation != json.end() && generation->is_number_integer();
  if (!good) return std::nullopt;
  config::PolicyValues values{.policy = text_at(json, "policy"),
                              .generation = generation->get<int64_t>()};
  for (const auto& [key, value] : annotations->items()) {
    if (!value.is_string()) return std::nullopt;
    values.annotations.emplace(key, value.get<std::string>());
  }
  return values;
}

}  // namespace remora
