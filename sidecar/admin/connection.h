// One connection to the admin server: a transport, an HTTP/1.1 codec, one request at a time.
//
// Three limits keep it from being held open by a silent or slow peer: a request must be complete
// within admin_idle_ms_max of the end of the one before, answers from the source must come within
// admin_answer_ms_max, and a peer must read its answer within admin_idle_ms_max.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "sidecar/admin/endpoints.h"
#include "sidecar/http/codec.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/transport.h"

namespace remora {

inline constexpr int admin_idle_ms_max = 10'000;
inline constexpr int admin_answer_ms_max = 120'000;
// How long the rest of a refused request is read and thrown away, so that the refusal is not lost
// to a reset.
inline constexpr int admin_linger_ms_max = 1'000;
// No endpoint takes a body; a small one is read and ignored, a larger one is refused.
inline constexpr size_t admin_request_body_bytes_max = 16 * 1024;
inline constexpr size_t admin_request_header_bytes_max = 16 * 1024;

class AdminConnection;

class AdminConnectionOwner {
 public:
  virtual ~AdminConnectionOwner() = default;
  // Once, from the loop: take it out and defer its deletion.
  virtual void on_connection_closed(AdminConnection& connection) = 0;
};

class AdminConnection final : public Deferred, private TransportEvents, private http::CodecEvents {
 public:
  // source and owner must outlive it.
  AdminConnection(Loop& loop, AdminSource& source, AdminConnectionOwner& owner,
                  std::unique_ptr<Transport> transport, bool over_tcp);

  void start();

 private:
  struct Request {
    http::StreamId id = 0;
    std::string method;
    std::string path;
    std::string host;
    size_t body_bytes = 0;
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
  void dispatch();
  void respond(http::StreamId id, const AdminResponse& response);
  void schedule_flush();
  void flush();
  void after_flush();
  void arm(int limit_ms);
  void close();

  Loop& loop_;
  AdminSource& source_;
  AdminConnectionOwner& owner_;
  const bool over_tcp_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<http::Codec> codec_;
  std::optional<Request> request_;  // not answered yet
  Subscription deadline_;
  // Lets go of answers that come after the end.
  std::shared_ptr<AdminConnection*> self_;
  bool peer_ended_ = false;
  bool broken_ = false;  // the codec takes no more input
  bool lingering_ = false;
  bool flush_posted_ = false;
  bool closed_ = false;
};

}  // namespace remora
