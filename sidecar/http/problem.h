// Everything that the proxy itself can answer: one table of reasons, with the status that a caller
// sees, the name that a program can act on (RFC 9457), and the gRPC status for gRPC callers.
#pragma once

#include <cstdint>
#include <string_view>

namespace remora::http {

enum class Problem : uint8_t {
  kNone,
  kBadRequest,        // 400: the message breaks the protocol
  kRequestTimeout,    // 408: the caller was too slow
  kBodyTooLarge,      // 413
  kUrlTooLong,        // 414
  kHeadersTooLarge,   // 431
  kOutcomeUnknown,    // 502: the agent died with the request in its hands, and repeating is unsafe
  kReplaysExhausted,  // 502: sent again as often as allowed, and the agent died each time
  kUpstreamProtocol,  // 502: the agent's answer breaks the protocol
  kOverloaded,        // 503: a limit is reached; nothing was done
  kAgentUnavailable,  // 503: the agent did not come back in time; nothing was done
  kDraining,          // 503: the proxy is going away; nothing was done
  kDeadline,          // 504: the agent has not begun to answer in time
  // Of a server that the agent calls, not of the agent.
  kServerUnreachable,  // 502: no connection; nothing was sent
  kServerLost,         // 502: its connection broke before it answered
};

struct ProblemInfo {
  int status;
  std::string_view name;   // the last segment of the type URI, and the remora-problem field
  std::string_view title;  // one sentence for people
  int retry_after_s;       // 0: no Retry-After
  int grpc_status;         // google.rpc.Code
};

const ProblemInfo& problem_info(Problem problem);

}  // namespace remora::http
