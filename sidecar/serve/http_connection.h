// One connection to an HttpServer: a transport, an HTTP/1.1 codec, one request at a time.
//
// Four limits keep it from being held open by a silent or slow peer: the first request must be
// complete within server_idle_ms_max, a further one must begin within keep_alive_ms_max and then be
// complete within server_idle_ms_max, answers of the handler must come within server_answer_ms_max,
// and a peer must read its answer within server_idle_ms_max.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "sidecar/http/codec.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/transport.h"
#include "sidecar/serve/message.h"

namespace remora {

inline constexpr int server_idle_ms_max = 10'000;
inline constexpr int server_answer_ms_max = 120'000;
// How long the rest of a refused request is read and thrown away, so that the refusal is not lost
// to a reset.
inline constexpr int server_linger_ms_max = 1'000;
inline constexpr size_t server_request_header_bytes_max = 16 * 1024;

// What the connections of one server keep of unfinished bodies, together: one caller with many
// connections must not fill the memory.
struct BodyBudget {
  size_t bytes_max = 0;
  size_t bytes = 0;
};

struct HttpConnectionOptions {
  size_t request_body_bytes_max = 0;
  bool keep_body = false;
  int keep_alive_ms_max = server_idle_ms_max;
};

class HttpConnection;

class HttpConnectionOwner {
 public:
  virtual ~HttpConnectionOwner() = default;
  // Once, from the loop: take it out and defer its deletion.
  virtual void on_connection_closed(HttpConnection& connection) = 0;
};

class HttpConnection final : public Deferred, private TransportEvents, private http::CodecEvents {
 public:
  // handler, owner and budget must outlive it.
  HttpConnection(Loop& loop, ServerHandler& handler, HttpConnectionOwner& owner, BodyBudget& budget,
                 std::unique_ptr<Transport> transport, const HttpConnectionOptions& options);

  void start();
  // The next answer is the connection's last, and says so.
  void retire() { codec_->start_drain(); }
  // The same, and without a request in progress it closes now.
  void drain();

 private:
  // A part of the budget, given back at the end.
  class Share {
   public:
    explicit Share(BodyBudget& budget) : budget_(budget) {}
    ~Share() { budget_.bytes -= bytes_; }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    bool take(size_t bytes) {
      if (bytes > budget_.bytes_max - budget_.bytes) return false;
      budget_.bytes += bytes;
      bytes_ += bytes;
      return true;
    }

   private:
    BodyBudget& budget_;
    size_t bytes_ = 0;
  };
  struct Pending {
    Pending(http::StreamId stream, ServerRequest head, BodyBudget& budget)
        : id(stream), is_head(head.method == "HEAD"), request(std::move(head)), share(budget) {}
    http::StreamId id = 0;
    bool is_head = false;
    ServerRequest request;
    size_t body_bytes = 0;
    Share share;
  };

  // TransportEvents
  void on_read(std::span<const uint8_t> bytes) override;
  void on_read_eof() override;
  void on_writable() override { flush(); }
  void on_transport_error(const Error& /*error*/) override { close(); }
  // CodecEvents
  void on_request(http::StreamId id, http::RequestHead head, bool end_stream) override;
  void on_data(http::StreamId id, std::span<const uint8_t> bytes) override;
  void on_trailers(http::StreamId /*id*/, ArenaPtr /*arena*/, http::HeaderMap /*map*/) override {}
  void on_end(http::StreamId id) override;
  void on_stream_error(http::StreamId id, http::StreamErrorKind kind, const Error& error) override;
  void on_drained(http::StreamId /*id*/) override {}

  void receive(std::span<const uint8_t> bytes);
  void refuse_body(int status, std::string_view title, std::string_view detail);
  void dispatch();
  void respond(http::StreamId id, const ServerResponse& response);
  void schedule_flush();
  void flush();
  void after_flush();
  void arm(int limit_ms);
  void close();

  Loop& loop_;
  ServerHandler& handler_;
  HttpConnectionOwner& owner_;
  BodyBudget& budget_;
  const HttpConnectionOptions options_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<http::Codec> codec_;
  std::optional<Pending> request_;  // not answered yet
  Subscription deadline_;
  // Lets go of answers that come after the end.
  std::shared_ptr<HttpConnection*> self_;
  bool answering_ = false;  // an answer is on its way out
  bool waiting_ = false;    // for a further request
  bool peer_ended_ = false;
  bool broken_ = false;  // the codec takes no more input
  bool lingering_ = false;
  bool flush_posted_ = false;
  bool closed_ = false;
};

}  // namespace remora
