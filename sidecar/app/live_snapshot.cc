#include "sidecar/app/live_snapshot.h"

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "sidecar/admin/client.h"

namespace remora {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::minutes kTakeWait{10};
constexpr std::chrono::seconds kStatusWait{10};

bool is_nobody(const Error& error) {
  return error.code == ErrorCode::kNotFound || error.code == ErrorCode::kUnavailable;
}

std::string text_of(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_string()
             ? object[key].get<std::string>()
             : std::string();
}

std::filesystem::path plain(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::weakly_canonical(path, ignored);
}

// Name of the agent whose snapshots the Remora at that socket keeps there; nothing: it doesn't.
std::optional<std::string> keeper_at(const std::string& socket, const std::string& store_dir) {
  const Result<AdminReply> reply = admin_request(socket, "GET", "/status", kStatusWait);
  if (!reply || reply->status != 200) return std::nullopt;
  const Json status = Json::parse(reply->body, nullptr, false);
  if (!status.is_object() || !status.contains("agents")) return std::nullopt;
  for (const Json& agent : status["agents"]) {
    if (!agent.is_object() || !agent.contains("snapshots")) continue;
    const std::string store = text_of(agent["snapshots"], "store");
    if (!store.empty() && plain(store) == plain(store_dir)) return text_of(agent, "name");
  }
  return std::nullopt;
}

std::optional<Result<std::string>> take_at(const std::string& socket, const std::string& path) {
  const Result<AdminReply> reply = admin_request(socket, "POST", path, kTakeWait);
  if (!reply) {
    if (is_nobody(reply.error())) return std::nullopt;
    return std::unexpected(reply.error());
  }
  const Json body = Json::parse(reply->body, nullptr, false);
  if (reply->status == 200 && !text_of(body, "id").empty()) return text_of(body, "id");
  return make_error(ErrorCode::kUnavailable, ErrorSource::kAgent,
                    "the running Remora could not take a snapshot: " + reply->body);
}

}  // namespace

std::optional<Result<std::string>> take_live_snapshot(const std::string& store_dir) {
  if (auto taken = take_at(store_dir + "/admin.sock", "/snapshot")) return taken;
  const char* socket = std::getenv("REMORA_ADMIN");
  if (socket == nullptr || *socket == '\0') return std::nullopt;
  const auto agent = keeper_at(socket, store_dir);
  return agent ? take_at(socket, "/snapshot?agent=" + *agent) : std::nullopt;
}

}  // namespace remora
