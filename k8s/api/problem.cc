#include "k8s/api/problem.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace remora::k8s {
namespace {

constexpr size_t message_bytes_max = 500;

ApiFault fault_of(const ApiRequest& request, const ApiReply& reply, std::string_view reason) {
  switch (reply.status) {
    case 404:
      return ApiFault::kNotFound;
    case 409:
      if (!reason.empty() && reason != "AlreadyExists") return ApiFault::kConflict;
      return request.method == "POST" ? ApiFault::kAlreadyExists : ApiFault::kConflict;
    case 410:
      return ApiFault::kGone;
    case 429:
      return ApiFault::kThrottled;
    case 401:
      return ApiFault::kUnauthorized;
    case 403:
      return ApiFault::kForbidden;
    case 503:
      return reply.retry_after ? ApiFault::kThrottled : ApiFault::kUnavailable;
    default:
      return reply.status >= 500 ? ApiFault::kUnavailable : ApiFault::kInvalid;
  }
}

ErrorCode code_of(ApiFault fault) {
  switch (fault) {
    case ApiFault::kNotFound:
      return ErrorCode::kNotFound;
    case ApiFault::kAlreadyExists:
    case ApiFault::kConflict:
      return ErrorCode::kAlreadyExists;
    case ApiFault::kForbidden:
    case ApiFault::kUnauthorized:
      return ErrorCode::kPermission;
    case ApiFault::kThrottled:
    case ApiFault::kUnavailable:
      return ErrorCode::kUnavailable;
    case ApiFault::kGone:
    case ApiFault::kInvalid:
      break;
  }
  return ErrorCode::kInvalidArgument;
}

// A request may need more rights than its method tells: an apply (PATCH) of what isn't there yet is
// also a `create`. The authorizer says which one it missed: 'User "u" cannot create resource "pods"
// in API group ""'. Empty: it doesn't.
std::string refused_verb(std::string_view message, std::string_view resource) {
  constexpr std::string_view before = " cannot ";
  const size_t at = message.find(before);
  if (at == std::string_view::npos) return {};
  message.remove_prefix(at + before.size());
  const std::string_view verb = message.substr(0, message.find(' '));
  message.remove_prefix(verb.size());
  const std::string after = " resource \"" + std::string(resource) + "\"";
  return message.starts_with(after) ? std::string(verb) : std::string();
}

// As it would stand in a Role: 'add the rule apiGroups [""], resources [pods], verbs [list]'.
std::string missing_rule(const ApiRequest& request, std::string_view message) {
  ApiTarget target = target_of(request.method, request.path);
  if (target.resource.empty()) return {};
  const std::string verb = refused_verb(message, target.resource);
  if (!verb.empty() && verb != target.verb) {
    target.verb = verb;
    if (verb == "create") target.name.clear();  // which no rule can narrow to a name
  }
  std::string rule = target.namespace_.empty()
                         ? "; a ClusterRole of this account needs"
                         : "; a Role in namespace " + target.namespace_ + " needs";
  rule.append(" apiGroups [\"").append(target.group).append("\"], resources [");
  rule.append(target.resource).append("], verbs [").append(target.verb).append("]");
  if (!target.name.empty()) rule.append(" for ").append(target.name);
  return rule;
}

std::string text_member(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

std::string_view to_string(ApiFault fault) {
  switch (fault) {
    case ApiFault::kNotFound:
      return "not_found";
    case ApiFault::kAlreadyExists:
      return "already_exists";
    case ApiFault::kConflict:
      return "conflict";
    case ApiFault::kGone:
      return "gone";
    case ApiFault::kThrottled:
      return "throttled";
    case ApiFault::kForbidden:
      return "forbidden";
    case ApiFault::kUnauthorized:
      return "unauthorized";
    case ApiFault::kInvalid:
      return "invalid";
    case ApiFault::kUnavailable:
      return "unavailable";
  }
  return "unknown";
}

ApiProblem api_problem(const ApiRequest& request, const ApiReply& reply) {
  const nlohmann::json status = nlohmann::json::parse(reply.body, nullptr, false);
  ApiProblem problem;
  problem.reason = text_member(status, "reason");
  problem.fault = fault_of(request, reply, problem.reason);
  problem.retry_after = reply.retry_after;
  std::string message = text_member(status, "message");
  if (message.empty()) message = reply.body;
  if (message.size() > message_bytes_max) message.resize(message_bytes_max);
  if (problem.fault == ApiFault::kForbidden) message += missing_rule(request, message);
  const ErrorCode code = code_of(problem.fault);
  problem.error = make_error(code, ErrorSource::kUpstream,
                             request.method + " " + request.path + ": " +
                                 std::to_string(reply.status) + " " + message,
                             code == ErrorCode::kUnavailable)
                      .error();
  return problem;
}

RefusedWrite refused_write(const ApiRequest& request, const Result<ApiReply>& reply) {
  if (!reply) {
    return {.why = reply.error().code == ErrorCode::kCancelled ? "" : reply.error().message};
  }
  ApiProblem problem = api_problem(request, *reply);
  const bool is_another = problem.fault == ApiFault::kConflict ||
                          problem.fault == ApiFault::kAlreadyExists ||
                          problem.fault == ApiFault::kNotFound;
  if (is_another) return {};
  return {.why = std::move(problem.error.message), .retry_after = problem.retry_after};
}

}  // namespace remora::k8s
