// What all connections of one listener share. Owned by ProxyServer; outlives every connection.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "filters/filter.h"
#include "sidecar/net/loop.h"
#include "sidecar/proxy/agent_gate.h"
#include "sidecar/proxy/router.h"
#include "sidecar/proxy/upstream_pool.h"

namespace remora {

class Exchange;

// In request order. Shared by the exchanges that have entered it: after a reload those in progress
// leave by the chain they came through.
using FilterChain = std::vector<std::unique_ptr<Filter>>;

struct ExchangeOptions {
  // How long a request may wait for an agent that is not there.
  Duration hold_wait = std::chrono::seconds(60);
  // A request body up to this size is kept until the response begins, so that it can be sent again.
  size_t replay_body_bytes_max = 256 * 1024;
  uint32_t replays_max = 2;
  // What is called is no agent of ours but somebody else's server: nobody heals it, so nothing
  // waits for it, and what may have reached it is not sent again.
  bool is_outbound = false;
  // Together, kept bodies take at most this much; past it new ones are not kept.
  size_t replay_bytes_total_max = 64 * 1024 * 1024;
};

// Tries on a connection that the agent had closed while it was idle, and on streams that the agent
// refused unprocessed. Neither is a replay.
inline constexpr uint32_t free_retries_max = 5;

struct ProxyCounters {
  uint64_t bytes_to_agent = 0;
  uint64_t bytes_from_agent = 0;
  uint64_t requests = 0;
  uint64_t replays = 0;
  uint64_t rejected_overload = 0;
  uint64_t connect_failures = 0;
};

// What a request in the agent's hands looks like from outside.
struct InFlightRequest {
  std::string method;
  std::string path;           // without the query, which may hold secrets
  Duration age{};             // since the agent got it
  std::string traceparent{};  // its caller's, as it came; empty: none, or far too long
};

// W3C Trace Context has 55 bytes; a later version may have more.
inline constexpr size_t traceparent_bytes_max = 128;

// Requests whose connection broke lately: who was in the agent's hands when it died.
inline constexpr size_t lost_requests_kept_max = 64;

struct ProxyContext {
  Loop& loop;
  AgentGate& gate;
  UpstreamPool& pool;
  const Router& router;
  std::shared_ptr<const FilterChain> filters;
  ExchangeOptions exchange_options;
  std::string listener_name;

  ProxyCounters counters;
  std::vector<Exchange*> exchanges;              // all that are open; each knows its index
  size_t replay_bytes = 0;                       // kept by all exchanges together
  std::optional<MonotonicTime> leaving_since{};  // callers are asked to go elsewhere
  bool draining = false;                         // no new connection is taken
  struct LostRequest {
    InFlightRequest request;
    MonotonicTime lost_at;
  };
  std::deque<LostRequest> lost;

  void note_lost(const http::RequestHead& head, MonotonicTime sent_at) {
    lost.push_back({describe(head, loop.now() - sent_at), loop.now()});
    if (lost.size() > lost_requests_kept_max) lost.pop_front();
  }
  static InFlightRequest describe(const http::RequestHead& head, Duration age) {
    const std::string_view parent = head.headers.find("traceparent").value_or("");
    return {std::string(head.method), std::string(head.path.substr(0, head.path.find('?'))), age,
            std::string(parent.size() <= traceparent_bytes_max ? parent : "")};
  }
};

}  // namespace remora
