// What a filter is. A chain of filters sees each exchange on its way down (request) in order and on
// its way back up (response) in reverse order. The order stands in registry.cc.
//
// A filter object is shared by all exchanges of a listener and lives on the loop's thread; it keeps
// no pointer into an exchange after a hook has returned. Filters include this header and nothing
// else of the proxy.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "sidecar/base/clock.h"
#include "sidecar/http/message.h"
#include "sidecar/http/problem.h"

namespace remora {

// The running account of one exchange.
struct ExchangeInfo {
  std::string_view listener;  // "inbound"
  std::string_view peer;      // the caller's address
  MonotonicTime began_at{};   // the request head was complete
  MonotonicTime response_began_at{};
  MonotonicTime ended_at{};
  int status = 0;                                // 0 until there is a response
  http::Problem problem = http::Problem::kNone;  // set when the proxy itself answered
  uint64_t request_body_bytes = 0;
  uint64_t response_body_bytes = 0;
  uint32_t replays = 0;   // times it was sent to the agent again
  Duration held{};        // time spent waiting for an agent that was being healed
  bool complete = false;  // the response was handed over whole
};

enum class Verdict {
  kContinue,
  // The filter has called FilterContext::reply(): no later filter and no agent sees the exchange.
  kReply,
};

// An exchange as a filter sees it; valid during the hook.
class FilterContext {
 public:
  virtual ~FilterContext() = default;
  virtual MonotonicTime now() const = 0;
  virtual const ExchangeInfo& info() const = 0;
  virtual http::RequestHead& request() = 0;
  // The agent must have begun to answer by then: 504 otherwise. The earliest deadline counts.
  virtual void set_deadline(MonotonicTime at) = 0;
  // Answers the caller; on the request path only, followed by Verdict::kReply.
  virtual void reply(http::Problem problem) = 0;
};

class Filter {
 public:
  virtual ~Filter() = default;
  virtual Verdict on_request_head(FilterContext&) { return Verdict::kContinue; }
  virtual Verdict on_request_data(FilterContext&, std::span<const uint8_t>) {
    return Verdict::kContinue;
  }
  virtual void on_response_head(FilterContext&, http::ResponseHead&) {}
  virtual void on_response_data(FilterContext&, std::span<const uint8_t>) {}
  // Exactly once for each exchange whose on_request_head was called, however it ended.
  virtual void on_end(FilterContext&) {}
};

}  // namespace remora
