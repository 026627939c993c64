// The webhook's answer to one admission request (admission.k8s.io/v1). Pure: a review in, a review
// out, whatever the bytes are.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "k8s/inject/inject.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

// What the API server sends at most: an object of 3 MiB, twice for updates.
inline constexpr size_t admission_bytes_max = 7 << 20;
// JSON values in one review: a real pod has some hundreds, and each costs us far more memory than
// the two bytes that it may cost a hostile sender.
inline constexpr size_t admission_values_max = 200'000;

struct AdmissionOutcome {
  std::string review;  // the AdmissionReview to answer with
  // For the log.
  std::string pod;     // "namespace/name" or "namespace/generateName*"
  std::string result;  // "injected", "unchanged", "skipped", "refused"
  std::string reason;  // of "skipped" and "refused"
};

class AdmissionReview {
 public:
  // kInvalidArgument when it is no AdmissionReview of a Pod's creation: to be answered with 400.
  static Result<AdmissionReview> parse(std::string_view text);
  AdmissionReview(const AdmissionReview&) = delete;
  AdmissionReview& operator=(const AdmissionReview&) = delete;
  AdmissionReview(AdmissionReview&&) noexcept;
  AdmissionReview& operator=(AdmissionReview&&) noexcept;
  ~AdmissionReview();

  const std::string& namespace_name() const { return namespace_; }
  config::Annotations labels() const;  // the pod's
  AdmissionOutcome answer(const InjectOptions& options) const;

 private:
  AdmissionReview();

  std::string uid_;
  std::string namespace_;
  std::unique_ptr<nlohmann::ordered_json> pod_;
};

}  // namespace remora::k8s
