// One HTTP/2 connection of the link, either end: the transport, the codec, and its signs of life.
//
// A peer that has vanished says nothing: when nothing has come for ping_after_ms it is asked for a
// sign of life, and given up when none comes within pong_ms_max. Loop thread only.
#pragma once

#include <memory>
#include <span>

#include "sidecar/http/codec.h"
#include "sidecar/net/loop.h"
#include "sidecar/net/transport.h"

namespace remora::link {

inline constexpr int life_check_ms = 5'000;
inline constexpr int ping_after_ms = 20'000;
inline constexpr int pong_ms_max = 10'000;

class Wire : public Deferred, protected TransportEvents, protected http::CodecEvents {
 public:
  Wire(Loop& loop, std::unique_ptr<Transport> transport, http::Role role,
       const http::CodecLimits& limits);
  ~Wire() override;
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  void start() { transport_->start(*this); }
  // Ends it without telling anybody; it is to be deferred then.
  void kill();
  bool is_dead() const { return dead_; }

 protected:
  http::Codec& codec() { return *codec_; }
  Loop& loop() const { return loop_; }
  // What the codec has to say goes out with the end of the turn.
  void flush_soon();
  // Once, from the loop, never from inside a call: take it out and defer its deletion.
  virtual void on_dead(const Error& why) = 0;
  // The connection may be closed as soon as what is to be said has been.
  virtual bool is_over() const { return false; }
  void die(const Error& why);

  void on_connected() override { flush_soon(); }
  void on_goaway() override {}
  void on_drained(http::StreamId /*id*/) override {}

 private:
  void on_read(std::span<const uint8_t> bytes) override;
  void on_read_eof() override;
  void on_writable() override { flush_soon(); }
  void on_transport_error(const Error& error) override { die(error); }
  void flush();
  void check_life();

  Loop& loop_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<http::Codec> codec_;
  MonotonicTime heard_at_;
  MonotonicTime pinged_at_{};
  bool pinged_ = false;
  bool read_paused_ = false;
  bool flush_posted_ = false;
  bool dead_ = false;
  Subscription life_;
  Subscription end_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace remora::link
