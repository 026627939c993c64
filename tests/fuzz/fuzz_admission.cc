// Any bytes as an AdmissionReview: never a crash; what is no review is an error that says so, and
// every review gets an answer that an API server can read.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "k8s/api/base64.h"
#include "k8s/webhook/admission.h"

namespace {

using nlohmann::ordered_json;

void check_answer(const remora::k8s::AdmissionOutcome& outcome) {
  const ordered_json review = ordered_json::parse(outcome.review, nullptr, false);
  if (!review.is_object() || review.at("kind") != "AdmissionReview") std::abort();
  const ordered_json& response = review.at("response");
  if (!response.at("uid").is_string() || !response.at("allowed").is_boolean()) std::abort();
  const bool refused = outcome.result == "refused";
  if (response.at("allowed").get<bool>() == refused) std::abort();
  if (refused && response.at("status").at("message").get<std::string>().empty()) std::abort();
  if (response.contains("patch") != (outcome.result == "injected")) std::abort();
  if (!response.contains("patch")) return;
  const auto patch = remora::k8s::base64_decode(response.at("patch").get<std::string>());
  if (!patch || !ordered_json::parse(*patch, nullptr, false).is_array()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto review = remora::k8s::AdmissionReview::parse(text);
  if (!review) {
    if (review.error().message.empty()) std::abort();
    return 0;
  }
  remora::k8s::InjectOptions options;
  options.image = "remora:fuzz";
  options.product_version = "0";
  options.kubernetes_version = "v1.34.4";
  options.namespace_name = review->namespace_name();
  for (const auto level :
       {remora::k8s::PodSecurity::kPrivileged, remora::k8s::PodSecurity::kRestricted}) {
    options.inject_by_default = level == remora::k8s::PodSecurity::kRestricted;
    options.pod_security = level;
    check_answer(review->answer(options));
  }
  return 0;
}
