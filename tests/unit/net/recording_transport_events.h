// What a transport tells its owner, kept; and a loop that runs until something has happened.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "sidecar/base/buffer.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/net/transport.h"

namespace remora {

struct RecordingTransportEvents final : TransportEvents {
  void on_connected() override { ++connected; }
  void on_read(std::span<const uint8_t> bytes) override {
    read.append(as_text(bytes));
    if (after_read) after_read();
  }
  void on_read_eof() override { ++eofs; }
  void on_writable() override {
    ++writables;
    if (after_writable) after_writable();
  }
  void on_transport_error(const Error& e) override {
    EXPECT_FALSE(error) << "called again after the last call";
    error = e;
  }

  int connected = 0;
  std::string read;
  int eofs = 0;
  int writables = 0;
  std::optional<Error> error;
  std::function<void()> after_read;
  std::function<void()> after_writable;
};

// The real loop, run until a condition holds. The limit is there for loops that lost an event.
class LoopRunner {
 public:
  EventLoop& loop() { return loop_; }

  [[nodiscard]] bool run_until(std::function<bool()> condition) {
    const MonotonicTime hung_at = loop_.clock().now() + std::chrono::seconds(20);
    while (!condition()) {
      if (loop_.clock().now() > hung_at) return false;
      run_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  // For what must not happen.
  void run_for(Duration span) {
    const Subscription end = loop_.add_timer(span, [this] { loop_.stop(); });
    loop_.run();
  }

 private:
  EventLoop loop_;
};

}  // namespace remora
