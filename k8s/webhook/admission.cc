#include "k8s/webhook/admission.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "k8s/api/base64.h"
#include "k8s/inject/gate.h"
#include "k8s/inject/json_view.h"

namespace remora::k8s {
namespace {

// The API server shows at most 256 characters of a warning, 4096 of all (client-go).
constexpr size_t warning_bytes_max = 256;
constexpr size_t warnings_max = 16;
constexpr int unprocessable = 422;
// The pod's own depth is inject_pod's to judge.
constexpr int review_depth_max = static_cast<int>(pod_depth_max) + 3;

std::string text_at(const Json* object, std::string_view key) {
  return object == nullptr ? std::string() : text_of(*object, key);
}

// Null when it is broken, or has more values or levels than any pod.
Json parse_bounded(std::string_view text) {
  size_t values = 0;
  bool is_too_much = false;
  const auto keep = [&](int depth, Json::parse_event_t, Json&) {
    is_too_much = is_too_much || depth > review_depth_max || ++values > admission_values_max;
    return !is_too_much;
  };
  Json review = Json::parse(text, keep, false);
  return is_too_much ? Json() : review;
}

void add_warning(Json& response, std::string text) {
  Json& warnings = response["warnings"];
  if (warnings.size() >= warnings_max) return;
  text.insert(0, "remora: ");
  if (text.size() > warning_bytes_max) text.resize(warning_bytes_max);
  warnings.push_back(std::move(text));
}

std::string display_name(const Json& pod, const std::string& namespace_name) {
  const Json* metadata = find_object(pod, "metadata");
  const std::string name = text_at(metadata, "name");
  return namespace_name + "/" + (name.empty() ? text_at(metadata, "generateName") + "*" : name);
}

void fill_response(const InjectResult& result, Json& response, AdmissionOutcome& outcome) {
  response["allowed"] = true;
  if (const auto* patch = std::get_if<Patch>(&result)) {
    outcome.result = patch->operations > 0 ? "injected" : "unchanged";
    for (const std::string& warning : patch->warnings) add_warning(response, warning);
    if (patch->operations == 0) return;
    response["patchType"] = "JSONPatch";
    response["patch"] = base64_encode(patch->json);
  } else if (const auto* skip = std::get_if<Skip>(&result)) {
    outcome.result = "skipped";
    outcome.reason = skip->reason;
    if (skip->warn) add_warning(response, skip->reason);
  } else {
    // What a pod says must be right: one that starts without what it asked for would be worse.
    outcome.result = "refused";
    outcome.reason = config::in_words(std::get<config::Problems>(result));
    response["allowed"] = false;
    response["status"] = {
        {"code", unprocessable}, {"reason", "Invalid"}, {"message", "remora: " + outcome.reason}};
  }
}

}  // namespace

AdmissionReview::AdmissionReview() = default;
AdmissionReview::AdmissionReview(AdmissionReview&&) noexcept = default;
AdmissionReview& AdmissionReview::operator=(AdmissionReview&&) noexcept = default;
AdmissionReview::~AdmissionReview() = default;

Result<AdmissionReview> AdmissionReview::parse(std::string_view text) {
  Json document = parse_bounded(text);
  const Json* request = find_object(document, "request");
  const Json* kind = request == nullptr ? nullptr : find_object(*request, "kind");
  AdmissionReview review;
  review.uid_ = text_at(request, "uid");
  review.namespace_ = text_at(request, "namespace");
  if (text_of(document, "apiVersion") != "admission.k8s.io/v1" || review.uid_.empty() ||
      text_at(kind, "kind") != "Pod" || text_at(request, "operation") != "CREATE" ||
      find_object(*request, "object") == nullptr) {
    return make_error(ErrorCode::kInvalidArgument, ErrorSource::kDownstream,
                      "not an AdmissionReview of admission.k8s.io/v1 for the creation of a Pod");
  }
  review.pod_ = std::make_unique<Json>(std::move(document["request"]["object"]));
  return review;
}

config::Annotations AdmissionReview::labels() const { return metadata_map(*pod_, "labels"); }

AdmissionOutcome AdmissionReview::answer(const InjectOptions& options) const {
  AdmissionOutcome outcome;
  outcome.pod = display_name(*pod_, namespace_);
  Json response = {{"uid", uid_}};
  fill_response(inject_pod(*pod_, options), response, outcome);
  const Json review = {{"apiVersion", "admission.k8s.io/v1"},
                       {"kind", "AdmissionReview"},
                       {"response", std::move(response)}};
  // A warning may have been cut inside a character.
  outcome.review = review.dump(-1, ' ', false, Json::error_handler_t::replace);
  return outcome;
}

}  // namespace remora::k8s
