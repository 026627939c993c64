// Who a sidecar is: its token, asked about at the API server (TokenReview,
// authentication.k8s.io/v1). A projected token of a pod's service account names the pod and its
// UID; these, and nothing that a message says, decide for which pod it may speak.
//
// An answer is believed for review_kept_ms, a refusal for refusal_kept_ms. At most
// reviews_under_way_max are asked at a time; others wait, reviews_waiting_max of them. Tokens are
// kept as hashes only. Loop thread only.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/pod.h"
#include "k8s/api/client.h"
#include "sidecar/base/error.h"
#include "sidecar/net/loop.h"

namespace remora::link {

inline constexpr std::string_view token_audience = config::link_audience;
inline constexpr int review_kept_ms = 60'000;
inline constexpr int refusal_kept_ms = 10'000;
inline constexpr size_t reviews_kept_max = 20'000;
inline constexpr size_t reviews_under_way_max = 16;
inline constexpr size_t reviews_waiting_max = 2'000;
inline constexpr size_t token_bytes_max = 16 * 1024;

struct PodClaims {
  std::string namespace_name;
  std::string pod;
  std::string uid;
  std::string node;  // empty before Kubernetes 1.30
  friend bool operator==(const PodClaims&, const PodClaims&) = default;
};

// The token of "Bearer TOKEN"; empty for anything else.
std::string_view bearer_token(std::string_view authorization);
// The body of the question.
std::string token_review_text(std::string_view token);
// reply: the body of the answer. kPermission: the token is not valid, not for us, or of no pod,
// with the reason; kProtocol: it is no answer.
Result<PodClaims> judge_review(std::string_view reply);

class TokenReviewer {
 public:
  using Done = std::move_only_function<void(const Result<PodClaims>&)>;

  // client must outlive it.
  TokenReviewer(Loop& loop, k8s::ApiClient& client) : loop_(loop), client_(client) {}
  TokenReviewer(const TokenReviewer&) = delete;
  TokenReviewer& operator=(const TokenReviewer&) = delete;
  ~TokenReviewer() = default;

  // done is called once, from inside the call or later, never after this is gone. Errors: those of
  // judge_review(); kUnavailable (retryable): nobody could be asked, or too many wait.
  void review(std::string_view token, Done done);

  size_t asked() const { return asked_; }

 private:
  struct Known {
    Result<PodClaims> claims;
    MonotonicTime until;
  };
  struct Question {
    std::string key;
    std::string token;
    std::vector<Done> done;
    std::unique_ptr<k8s::ApiCall> call{};
  };
  void pump();
  void on_reply(uint64_t id, const Result<k8s::ApiReply>& reply);
  void keep(const std::string& key, const Result<PodClaims>& claims);

  Loop& loop_;
  k8s::ApiClient& client_;
  std::map<std::string, Known> known_;  // by the token's hash
  std::deque<Question> waiting_;
  std::map<uint64_t, Question> under_way_;
  size_t asked_ = 0;
};

}  // namespace remora::link
