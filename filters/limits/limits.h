// Refuses what is too much: requests in flight (503) and body size (413). Header limits are the
// codec's, connection limits the listener's.
#pragma once

#include "filters/filter.h"

namespace remora {

struct LimitsOptions {
  uint64_t request_body_bytes_max = 0;  // 0: no limit
  uint32_t requests_in_flight_max = 1024;
};

class LimitsFilter final : public Filter {
 public:
  explicit LimitsFilter(LimitsOptions options) : options_(options) {}
  Verdict on_request_head(FilterContext& context) override;
  Verdict on_request_data(FilterContext& context, std::span<const uint8_t> bytes) override;
  void on_end(FilterContext& context) override;

 private:
  LimitsOptions options_;
  uint32_t in_flight_ = 0;
};

}  // namespace remora
