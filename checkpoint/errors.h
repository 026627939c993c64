// Short forms for the errors of the snapshot store. All of them carry ErrorSource::kStorage.
#pragma once

#include <string>
#include <utility>

#include "sidecar/base/error.h"

namespace remora::checkpoint {

inline std::unexpected<Error> storage_error(ErrorCode code, std::string message,
                                            bool retryable = false) {
  return make_error(code, ErrorSource::kStorage, std::move(message), retryable);
}

// Somebody who lost the store to another tries to write.
inline std::unexpected<Error> taken_over(const std::string& store, uint64_t newest, uint64_t own) {
  return storage_error(ErrorCode::kPermission,
                       "another writer (epoch " + std::to_string(newest) +
                           ") took over the store " + store + "; this one (epoch " +
                           std::to_string(own) +
                           ") may not publish any more: end it, what takes its place goes on");
}

inline std::unexpected<Error> corrupt(std::string message) {
  return storage_error(ErrorCode::kCorrupt, std::move(message));
}

// Hands a failed result's error up, with or without a word about where it was met.
template <typename T>
std::unexpected<Error> pass_on(Result<T>& failed) {
  return std::unexpected<Error>(std::move(failed.error()));
}
template <typename T>
std::unexpected<Error> pass_on(Result<T>& failed, std::string_view where) {
  return std::unexpected<Error>(std::move(failed.error()).with_context(where));
}

// For clean-up after a failure, where the first error is the one that is told.
template <typename T>
void best_effort(const Result<T>& /*outcome*/) {}

}  // namespace remora::checkpoint
