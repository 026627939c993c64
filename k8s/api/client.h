// Talks to a Kubernetes API server: one request on one connection, the answer whole. Rates are low
// (a controller's that looks every few seconds), so connections are not kept.
//
// The token is read again for each request: the kubelet replaces a projected one while we run.
// Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "sidecar/base/error.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/socket_address.h"
#include "sidecar/net/tls.h"

namespace remora::k8s {

inline constexpr size_t api_reply_bytes_max = 32 << 20;
inline constexpr int api_answer_ms_max = 30'000;

struct ApiServer {
  SocketAddress address;
  std::string name;  // Host, and what its certificate is checked for
  bool tls = true;
  std::string trusted_pem;  // required with tls
  std::string token_file;   // empty: no Authorization
};

// From the environment and the mounted service account of a pod. kNotFound outside one.
Result<ApiServer> in_cluster_api_server();
// http://ADDRESS:PORT, for a kubectl proxy. kInvalidArgument otherwise.
Result<ApiServer> plain_api_server(std::string_view url);

struct ApiRequest {
  std::string method = "GET";
  std::string path{};                             // "/api/v1/pods?limit=500"
  std::string body{};                             // empty: none
  std::string content_type = "application/json";  // of the body
  int answer_ms_max = api_answer_ms_max;
};

struct ApiReply {
  int status = 0;
  std::string body;
  bool ok() const { return status / 100 == 2; }
};

// What a reply that is not ok() means: kNotFound 404, kAlreadyExists 409, kPermission 401 and 403,
// kUnavailable (retryable) 429 and 5xx, else kInvalidArgument. The message is the server's.
Error api_error(const ApiRequest& request, const ApiReply& reply);

// A call under way; destroying it abandons the call.
class ApiCall {
 public:
  virtual ~ApiCall() = default;
};

class ApiClient {
 public:
  using Done = std::move_only_function<void(Result<ApiReply>)>;

  // kInvalidArgument when the trusted certificates can't be read.
  static Result<std::unique_ptr<ApiClient>> create(Loop& loop, ApiServer server);

  // done is called once, from the loop, never from inside the call; it may destroy the call.
  // Errors: kUnavailable no connection, kTimeout, kLimitExceeded, kProtocol, kReset cut off. Any
  // status is a success.
  [[nodiscard]] std::unique_ptr<ApiCall> call(ApiRequest request, Done done);

 private:
  ApiClient(Loop& loop, ApiServer server, std::shared_ptr<const TlsContext> tls);

  Loop& loop_;
  const ApiServer server_;
  const std::shared_ptr<const TlsContext> tls_;
};

}  // namespace remora::k8s
