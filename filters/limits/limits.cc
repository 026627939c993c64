#include "filters/limits/limits.h"

namespace remora {

Verdict LimitsFilter::on_request_head(FilterContext& context) {
  // Counted even when refused: on_end comes for those too.
  if (++in_flight_ > options_.requests_in_flight_max) {
    context.reply(http::Problem::kOverloaded);
    return Verdict::kReply;
  }
  const auto length = context.request().content_length;
  if (options_.request_body_bytes_max != 0 &&
      length.value_or(0) > options_.request_body_bytes_max) {
    context.reply(http::Problem::kBodyTooLarge);
    return Verdict::kReply;
  }
  return Verdict::kContinue;
}

Verdict LimitsFilter::on_request_data(FilterContext& context, std::span<const uint8_t> /*bytes*/) {
  if (options_.request_body_bytes_max == 0 ||
      context.info().request_body_bytes <= options_.request_body_bytes_max) {
    return Verdict::kContinue;
  }
  context.reply(http::Problem::kBodyTooLarge);
  return Verdict::kReply;
}

void LimitsFilter::on_end(FilterContext& /*context*/) { --in_flight_; }

}  // namespace remora
