// The one error type of the product. Errors are returned, never logged and forgotten; each layer
// adds context and passes it on, and exactly one place turns an error into a response
// (sidecar/proxy/error_reply.h) or an exit code (sidecar/main.cc).
#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace remora {

// Who is at fault, seen from the proxy (Envoy's words: downstream calls, upstream is called).
enum class ErrorSource { kDownstream, kUpstream, kAgent, kConfig, kStorage, kInternal };

enum class ErrorCode {
  kInvalidArgument,     // the caller's input is wrong; the message says how to mend it
  kNotFound,            // the named thing does not exist
  kAlreadyExists,       // the named thing exists, or an address is in use
  kUnavailable,         // a peer can't be reached now
  kTimeout,             // a time limit passed
  kReset,               // the peer closed or reset in the middle
  kLimitExceeded,       // a named limit was passed
  kNoSpace,             // ENOSPC, EDQUOT
  kPermission,          // EACCES, EPERM, EROFS
  kIo,                  // any other failed system call
  kCorrupt,             // stored bytes fail verification
  kUnsupportedVersion,  // written by a newer format than this binary knows
  kProtocol,            // bytes on the wire break the protocol
  kCancelled,           // the owner gave up
  kInternal,            // a bug; never expected
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  ErrorSource source = ErrorSource::kInternal;
  // The same operation may succeed if tried again unchanged.
  bool retryable = false;
  // One line, no trailing newline: what failed, where, and what to do about it.
  std::string message;

  // Prepends where the error was met: "restore snapshot 3f2a: chunk 77: hash differs".
  Error with_context(std::string_view where) && {
    message.insert(0, ": ").insert(0, where);
    return std::move(*this);
  }
};

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> make_error(ErrorCode code, ErrorSource source, std::string message,
                                         bool retryable = false) {
  return std::unexpected<Error>(Error{code, source, retryable, std::move(message)});
}

// Maps errno to a code and names the failed call: error_from_errno(errno, "open /data/x").
inline Error error_from_errno(int err, std::string_view what,
                              ErrorSource source = ErrorSource::kInternal) {
  Error error;
  error.source = source;
  switch (err) {
    case ENOENT:
      error.code = ErrorCode::kNotFound;
      break;
    case EEXIST:
    case EADDRINUSE:
      error.code = ErrorCode::kAlreadyExists;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      error.code = ErrorCode::kPermission;
      break;
    case ENOSPC:
    case EDQUOT:
      error.code = ErrorCode::kNoSpace;
      break;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
      error.code = ErrorCode::kUnavailable;
      error.retryable = true;
      break;
    case ECONNRESET:
    case EPIPE:
      error.code = ErrorCode::kReset;
      break;
    case ETIMEDOUT:
      error.code = ErrorCode::kTimeout;
      error.retryable = true;
      break;
    default:
      error.code = ErrorCode::kIo;
  }
  error.message.append(what).append(": ").append(std::strerror(err));
  return error;
}

}  // namespace remora
