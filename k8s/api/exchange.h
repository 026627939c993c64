// One call of an ApiClient, from the question to the answer: waiting for a connection, on one, or
// waiting until the server lets it ask again.
//
// Its answer is given once, from a timer of the loop, never from inside a call or an event. A
// question is repeated only where it provably did no harm: the server refused the stream, answered
// 429 or 503 with Retry-After, or it was a GET and a kept connection turned out to be gone.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "k8s/api/client.h"
#include "sidecar/http/codec.h"

namespace remora::k8s {

class Connection;
class Pool;

// Beyond the first, over all reasons.
inline constexpr int api_repeats_max = 5;

class Exchange final : public ApiCall {
 public:
  // data null: the whole answer is kept.
  Exchange(Loop& loop, Pool& pool, ApiRequest request, std::shared_ptr<ApiClient::Data> data,
           ApiClient::Done done);
  ~Exchange() override;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const ApiRequest& request() const { return request_; }
  bool is_stream() const { return data_ != nullptr; }

  // From the pool: it ends without an answer.
  void orphan();
  // From the connection that carries it.
  void on_sent(Connection& connection, http::StreamId stream);
  // Both may destroy this.
  void on_head(const http::ResponseHead& head);
  void on_data(std::span<const uint8_t> bytes);
  void on_end();
  // The connection has let go of it. may_repeat: nothing has happened at the server.
  void on_lost(const Error& error, bool may_repeat);
  bool answered() const { return reply_.status != 0; }

  void fail(ErrorCode code, const std::string& why);

 private:
  void finish(Result<ApiReply> result);
  void withdraw();
  void watch_silence();
  bool ask_again_later();

  Loop& loop_;
  Pool* pool_;
  const ApiRequest request_;
  // Shared: one that destroys its call must outlive its own run.
  const std::shared_ptr<ApiClient::Data> data_;
  ApiClient::Done done_;
  const MonotonicTime deadline_;
  ApiReply reply_;
  int repeats_ = 0;
  bool over_ = false;
  MonotonicTime heard_at_{};  // of a stream
  Connection* connection_ = nullptr;
  http::StreamId stream_ = 0;
  Subscription timer_;
  Subscription later_;
};

}  // namespace remora::k8s
