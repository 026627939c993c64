#include "k8s/link/token_review.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include <openssl/evp.h>

namespace remora::link {
namespace {

using Json = nlohmann::json;

constexpr const char* reviews_path = "/apis/authentication.k8s.io/v1/tokenreviews";
constexpr std::string_view account_prefix = "system:serviceaccount:";
constexpr std::string_view claim_prefix = "authentication.kubernetes.io/";

std::string hash_of(std::string_view token) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_Digest(token.data(), token.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return {reinterpret_cast<const char*>(digest.data()), size};
}

const Json& member(const Json& json, std::string_view key) {
  static const Json nothing;
  if (!json.is_object()) return nothing;
  const auto found = json.find(key);
  return found == json.end() ? nothing : *found;
}

std::string text(const Json& json) { return json.is_string() ? json.get<std::string>() : ""; }

// Extra values are lists; one is a list of one.
std::string claim(const Json& user, std::string_view name) {
  const Json& values = member(member(user, "extra"), std::string(claim_prefix).append(name));
  return values.is_array() && values.size() == 1 ? text(values[0]) : std::string();
}

std::unexpected<Error> refused(std::string why) {
  return make_error(ErrorCode::kPermission, ErrorSource::kDownstream, std::move(why));
}

}  // namespace

std::string_view bearer_token(std::string_view authorization) {
  constexpr std::string_view scheme = "Bearer ";
  if (!authorization.starts_with(scheme)) return {};
  authorization.remove_prefix(scheme.size());
  return authorization.size() <= token_bytes_max ? authorization : std::string_view();
}

std::string token_review_text(std::string_view token) {
  return Json{{"apiVersion", "authentication.k8s.io/v1"},
              {"kind", "TokenReview"},
              {"spec", {{"token", token}, {"audiences", {token_audience}}}}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<PodClaims> judge_review(std::string_view reply) {
  const Json review = Json::parse(reply, nullptr, false);
  const Json& status = member(review, "status");
  if (!status.is_object()) {
    return make_error(ErrorCode::kProtocol, ErrorSource::kUpstream,
                      "the API server's answer is no TokenReview", true);
  }
  const Json& authenticated = member(status, "authenticated");
  if (!authenticated.is_boolean() || !authenticated.get<bool>()) {
    return refused("the token is not valid: " + text(member(status, "error")));
  }
  // A server that doesn't know audiences leaves them out, and has taken a token for itself.
  const Json& audiences = member(status, "audiences");
  if (!audiences.is_array() ||
      std::ranges::find(audiences, Json(token_audience)) == audiences.end()) {
    return refused("the token is not for the audience " + std::string(token_audience));
  }
  const Json& user = member(status, "user");
  const std::string account = text(member(user, "username"));
  const size_t name_at = account.find(':', account_prefix.size());
  if (!account.starts_with(account_prefix) || name_at == std::string::npos) {
    return refused("the token is of no service account");
  }
  PodClaims claims;
  claims.namespace_name = account.substr(account_prefix.size(), name_at - account_prefix.size());
  claims.pod = claim(user, "pod-name");
  claims.uid = claim(user, "pod-uid");
  claims.node = claim(user, "node-name");
  if (claims.namespace_name.empty() || claims.pod.empty() || claims.uid.empty()) {
    return refused("the token is bound to no pod");
  }
  return claims;
}

void TokenReviewer::review(std::string_view token, Done done) {
  if (token.empty()) return done(refused("there is no token: authorization: Bearer …"));
  const std::string key = hash_of(token);
  const auto known = known_.find(key);
  if (known != known_.end() && loop_.now() < known->second.until) {
    return done(known->second.claims);
  }
  for (auto& [id, question] : under_way_) {
    if (question.key == key) return question.done.push_back(std::move(done));
  }
  if (waiting_.size() >= reviews_waiting_max) {
    return done(make_error(ErrorCode::kUnavailable, ErrorSource::kInternal,
                           "too many tokens wait for the API server", true));
  }
  Question question{.key = key, .token = std::string(token), .done = {}};
  question.done.push_back(std::move(done));
  waiting_.push_back(std::move(question));
  pump();
}

void TokenReviewer::pump() {
  while (!waiting_.empty() && under_way_.size() < reviews_under_way_max) {
    const uint64_t id = ++asked_;
    Question& question = under_way_[id] = std::move(waiting_.front());
    waiting_.pop_front();
    k8s::ApiRequest request;
    request.method = "POST";
    request.path = reviews_path;
    request.body = token_review_text(question.token);
    question.token.clear();
    question.call =
        client_.call(std::move(request),
                     [this, id](const Result<k8s::ApiReply>& reply) { on_reply(id, reply); });
  }
}

void TokenReviewer::on_reply(uint64_t id, const Result<k8s::ApiReply>& reply) {
  auto node = under_way_.extract(id);
  Question question = std::move(node.mapped());
  Result<PodClaims> claims = PodClaims{};
  if (!reply) {
    claims = std::unexpected(reply.error());
    claims.error().code = ErrorCode::kUnavailable;
  } else if (!reply->ok()) {
    claims = std::unexpected(k8s::api_error({.method = "POST", .path = reviews_path}, *reply));
    claims.error().code = ErrorCode::kUnavailable;
  } else {
    claims = judge_review(reply->body);
  }
  keep(question.key, claims);
  for (Done& done : question.done) done(claims);
  pump();
}

void TokenReviewer::keep(const std::string& key, const Result<PodClaims>& claims) {
  if (!claims && claims.error().code != ErrorCode::kPermission) return;
  if (known_.size() >= reviews_kept_max) {
    const MonotonicTime now = loop_.now();
    std::erase_if(known_, [now](const auto& one) { return one.second.until <= now; });
    if (known_.size() >= reviews_kept_max) known_.clear();
  }
  const int kept_ms = claims ? review_kept_ms : refusal_kept_ms;
  known_.insert_or_assign(key, Known{claims, loop_.now() + std::chrono::milliseconds(kept_ms)});
}

}  // namespace remora::link
