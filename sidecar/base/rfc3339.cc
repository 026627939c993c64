#include "sidecar/base/rfc3339.h"

#include <ctime>

#include <fmt/format.h>

namespace remora {
namespace {

std::string date_and_time(int64_t unix_s) {
  const auto seconds = static_cast<std::time_t>(unix_s);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

}  // namespace

std::string rfc3339(int64_t unix_s) { return date_and_time(unix_s) + "Z"; }

std::string rfc3339_micro(int64_t unix_us) {
  return fmt::format("{}.{:06}Z", date_and_time(unix_us / 1'000'000), unix_us % 1'000'000);
}

}  // namespace remora
