// Talks to a Kubernetes API server: calls whose answer comes whole, and streams (watches) whose
// answer comes as it grows, all over one kept HTTP/2 connection (k8s/api/pool.h). A GOAWAY, a lost
// or a silent connection is replaced; what it means for a call is said at the call.
//
// The token is read again for each request: the kubelet replaces a projected one while we run.
// Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "k8s/api/problem.h"
#include "k8s/api/request.h"
#include "k8s/api/server.h"
#include "sidecar/base/error.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/tls.h"

namespace remora::k8s {

// A watch hears a bookmark about once a minute.
inline constexpr int api_stream_silence_ms_max = 180'000;

// A call under way; destroying it abandons the call.
class ApiCall {
 public:
  virtual ~ApiCall() = default;
};

struct ApiClientStats {
  uint64_t requests = 0;     // sent, repeated ones included
  uint64_t connections = 0;  // begun
  uint64_t throttled = 0;    // answers that said "later"
};

// The seam to the API server: tests put a fake of their own in its place.
class ApiClient {
 public:
  using Done = std::move_only_function<void(Result<ApiReply>)>;
  using Data = std::function<void(std::string_view bytes)>;

  // kInvalidArgument when a certificate or key can't be read.
  static Result<std::unique_ptr<ApiClient>> create(Loop& loop, ApiServer server);
  // Calls under way end without an answer; they may be destroyed later.
  virtual ~ApiClient() = default;

  // done is called once, from the loop, never from inside the call; it may destroy the call.
  // Errors: kUnavailable no connection, kTimeout, kLimitExceeded, kProtocol, kReset cut off,
  // kCancelled by request.may_send. Any status is a success.
  [[nodiscard]] virtual std::unique_ptr<ApiCall> call(ApiRequest request, Done done) = 0;

  // The same, but the body of a successful answer goes to data, piece by piece as it comes, after
  // an empty piece that says that it was accepted; data may destroy the call. The stream ends with
  // done: a reply when the server has ended it, or refused it (the body then says why); kTimeout
  // when nothing came for api_stream_silence_ms_max.
  [[nodiscard]] virtual std::unique_ptr<ApiCall> stream(ApiRequest request, Data data,
                                                        Done done) = 0;

  virtual ApiClientStats stats() const = 0;
};

}  // namespace remora::k8s
