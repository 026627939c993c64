#include "config/policy_values.h"

#include <nlohmann/json.hpp>

namespace remora::config {

using Json = nlohmann::json;

std::string policy_values_text(const PolicyValues& values) {
  return Json{{"policy", values.policy},
              {"generation", values.generation},
              {"annotations", values.annotations}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<PolicyValues> parse_policy_values(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const auto policy = json.find("policy");
  const auto generation = json.find("generation");
  const auto annotations = json.find("annotations");
  const bool good = policy != json.end() && policy->is_string() && generation != json.end() &&
                    generation->is_number_integer() && annotations != json.end() &&
                    annotations->is_object();
  if (!good) return std::nullopt;
  PolicyValues values{.policy = policy->get<std::string>(),
                      .generation = generation->get<int64_t>()};
  for (const auto& [key, value] : annotations->items()) {
    if (!value.is_string()) return std::nullopt;
    values.annotations.emplace(key, value.get<std::string>());
  }
  return values;
}

}  // namespace remora::config
