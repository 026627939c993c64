// Gives each request the time by which the agent must have begun to answer: the shortest of the
// configured timeout, X-Request-Timeout (seconds, decimals allowed) and grpc-timeout (gRPC over
// HTTP/2 protocol, "Requests"). Past it the caller gets 504, or grpc-status 4.
#pragma once

#include <optional>

#include "filters/filter.h"

namespace remora {

struct DeadlineOptions {
  Duration request_timeout{};  // 0: none
};

class DeadlineFilter final : public Filter {
 public:
  explicit DeadlineFilter(DeadlineOptions options) : options_(options) {}
  Verdict on_request_head(FilterContext& context) override;

 private:
  DeadlineOptions options_;
};

// "200m" is 200 ms; units H M S m u n; at most 8 digits, the largest value being Duration::max().
// nullopt when malformed.
std::optional<Duration> parse_grpc_timeout(std::string_view text);
// "1.5" is 1.5 s; from 0.001 to 86,400. nullopt when malformed or out of range.
std::optional<Duration> parse_timeout_seconds(std::string_view text);

}  // namespace remora
