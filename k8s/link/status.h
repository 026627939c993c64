// How a call of gRPC ends: its code and message, in trailers. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace remora::link {

// gRPC's status codes, those that are used here.
enum class StatusCode : int {
  kOk = 0,
  kInvalidArgument = 3,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kUnimplemented = 12,
  kUnavailable = 14,
  kUnauthenticated = 16,
};

struct Status {
  int code = 0;
  std::string message{};
};

// "UNAVAILABLE"; a number for one that is not used here.
std::string status_name(int code);

// grpc-message: visible ASCII, the rest and '%' percent-encoded.
std::string encoded_message(std::string_view message);
std::string decoded_message(std::string_view text);
// grpc-status; nothing for what is no number of at most three digits.
std::optional<int> status_code_of(std::string_view text);

}  // namespace remora::link
