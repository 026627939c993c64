#include "filters/deadline/deadline.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace remora {

std::optional<Duration> parse_grpc_timeout(std::string_view text) {
  constexpr size_t kDigitsMax = 8;
  constexpr int64_t kHoursMax = std::chrono::floor<std::chrono::hours>(Duration::max()).count();
  if (text.size() < 2 || text.size() > kDigitsMax + 1) return std::nullopt;
  uint32_t count = 0;
  const std::string_view digits = text.substr(0, text.size() - 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  switch (text.back()) {
    case 'H':
      return count > kHoursMax ? Duration::max() : std::chrono::hours(count);
    case 'M':
      return std::chrono::minutes(count);
    case 'S':
      return std::chrono::seconds(count);
    case 'm':
      return std::chrono::milliseconds(count);
    case 'u':
      return std::chrono::microseconds(count);
    case 'n':
      return std::chrono::nanoseconds(count);
    default:
      return std::nullopt;
  }
}

std::optional<Duration> parse_timeout_seconds(std::string_view text) {
  double seconds = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (std::isnan(seconds) || seconds < 0.001 || seconds > 86'400) return std::nullopt;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

Verdict DeadlineFilter::on_request_head(FilterContext& context) {
  Duration limit =
      options_.request_timeout > Duration{} ? options_.request_timeout : Duration::max();
  const auto shorten = [&limit](std::optional<Duration> asked) {
    if (asked) limit = std::min(limit, *asked);
  };
  const http::HeaderMap& headers = context.request().headers;
  if (const auto value = headers.find("grpc-timeout")) shorten(parse_grpc_timeout(*value));
  if (const auto value = headers.find("x-request-timeout")) shorten(parse_timeout_seconds(*value));
  // Beyond a day a deadline means nothing, and adding hours by the million would overflow.
  if (limit <= std::chrono::hours(24)) context.set_deadline(context.info().began_at + limit);
  return Verdict::kContinue;
}

}  // namespace remora
