// What an answer of the API server that is no success means: its kind decides what a controller
// does next, its text tells a person what to mend. Pure.
#pragma once

#include <optional>
#include <string>

#include "k8s/api/request.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

enum class ApiFault {
  kNotFound,       // 404
  kAlreadyExists,  // 409 on a creation
  kConflict,       // 409 otherwise: read again, decide again
  kGone,           // 410: the version that was asked for is no longer kept; list again
  kThrottled,      // 429, and 503 with Retry-After: later
  kForbidden,      // 403: a rule is missing in our role
  kUnauthorized,   // 401: the token or certificate isn't accepted
  kInvalid,        // 400, 405, 406, 413, 415, 422: the same request will never succeed
  kUnavailable,    // 5xx: try again
};
std::string_view to_string(ApiFault fault);

struct ApiProblem {
  ApiFault fault = ApiFault::kUnavailable;
  std::string reason;                     // of the Status: "NotFound", "Expired"; may be empty
  std::optional<Duration> retry_after{};  // what the server asks for
  Error error;
};

// For a reply that is not ok(). The error's code: kNotFound, kAlreadyExists (both of 409),
// kPermission 401 and 403, kUnavailable (retryable) throttled and 5xx, else kInvalidArgument. Its
// message has the server's words; of a 403 also the rule that is missing.
ApiProblem api_problem(const ApiRequest& request, const ApiReply& reply);
inline Error api_error(const ApiRequest& request, const ApiReply& reply) {
  return api_problem(request, reply).error;
}

// What became of a write that was not taken: it is decided again, from what a watch shows by then.
struct RefusedWrite {
  // For the log. Empty: nothing is wrong; the lead is over, or the object is another by now.
  std::string why;
  std::optional<Duration> retry_after{};  // what the server asks for
};
// For a reply that is an error or not ok().
RefusedWrite refused_write(const ApiRequest& request, const Result<ApiReply>& reply);

}  // namespace remora::k8s
