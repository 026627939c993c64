// The load: one thread, N keep-alive HTTP/1.1 connections to 127.0.0.1, one request at a time on
// each.
//
// Closed loop: the next request leaves when a reply has come; it measures throughput, and its
// latency says little. Open loop: request k is due at start + k/rate whatever became of the ones
// before, and its latency counts from that moment, so that a stalled proxy is charged for every
// request that had to wait behind the stall (no coordinated omission).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "benchmarks/histogram.h"
#include "benchmarks/loopback.h"
#include "sidecar/base/clock.h"

namespace remora::bench {

struct LoadPlan {
  std::string address = "127.0.0.1";
  uint16_t port = 0;
  std::string path = "/";
  size_t connections = 1;
  uint64_t requests = 1;
  // Requests per second; 0: closed loop.
  double rate = 0;
};

struct LoadResult {
  LatencyHistogram latency;
  uint64_t errors = 0;  // no reply, or a status other than 200
  double seconds = 0;
};

class LoadClient {
 public:
  // Without a reply for this long the run fails: something under test is stuck.
  static constexpr int stall_ms_max = 10'000;

  LoadClient(const Clock& clock, const LoadPlan& plan);

  // Opens the connections. Before run().
  Result<void> connect();
  // Sends `requests` requests and waits for all replies; may be called again, for a warm-up first.
  // Lost connections are opened anew and their request is counted as an error.
  Result<std::unique_ptr<LoadResult>> run(uint64_t requests, double rate);

 private:
  struct Connection {
    UniqueFd fd;
    std::string input;
    MonotonicTime due;       // when the request now in flight should have left
    uint64_t body_left = 0;  // of the reply being read
    unsigned status = 0;     // of the reply being read; 0 while its head is incomplete
    bool busy = false;
  };

  Result<void> open(Connection& connection);
  MonotonicTime due_time(uint64_t index) const;
  Result<void> issue_due(LoadResult& result);
  Result<void> send_request(Connection& connection, LoadResult& result);
  Result<int> wait();
  Result<void> read_reply(Connection& connection, LoadResult& result);
  // False when the bytes are no HTTP/1.1 reply with a Content-Length.
  bool consume(Connection& connection, std::string_view bytes);
  Result<void> lose(Connection& connection, LoadResult& result);
  void finish(Connection& connection);

  const Clock& clock_;
  LoadPlan plan_;
  std::string request_;
  UniqueFd epoll_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::deque<Connection*> idle_;
  std::vector<epoll_event> events_;
  std::vector<char> buffer_;

  // Of the run in progress.
  MonotonicTime start_;
  double interval_ns_ = 0;
  uint64_t wanted_ = 0;
  uint64_t issued_ = 0;
  uint64_t finished_ = 0;
};

}  // namespace remora::bench
