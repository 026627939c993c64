#include "sidecar/app/live_snapshot.h"

#include <nlohmann/json.hpp>

#include "sidecar/admin/client.h"

namespace remora {
namespace {

constexpr std::chrono::minutes kTakeWait{10};

}  // namespace

std::optional<Result<std::string>> take_live_snapshot(const std::string& store_dir) {
  const Result<AdminReply> reply =
      admin_request(store_dir + "/admin.sock", "POST", "/snapshot", kTakeWait);
  if (!reply) {
    const ErrorCode code = reply.error().code;
    if (code == ErrorCode::kNotFound || code == ErrorCode::kUnavailable) return std::nullopt;
    return std::unexpected(reply.error());
  }
  const nlohmann::json body = nlohmann::json::parse(reply->body, nullptr, false);
  if (reply->status == 200 && body.is_object() && body.contains("id") && body["id"].is_string()) {
    return body["id"].get<std::string>();
  }
  return make_error(ErrorCode::kUnavailable, ErrorSource::kAgent,
                    "the running Remora could not take a snapshot: " + reply->body);
}

}  // namespace remora
