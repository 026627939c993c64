// Content-defined chunking: a rolling "gear" hash decides where a stream is cut, so that bytes
// inserted at the front move only the cuts around them (the FastCDC idea: Xia et al., USENIX ATC
// 2016). Deterministic: cuts depend on the bytes alone, and the table and masks below are part of
// the store's format (changing them loses deduplication, not data).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "sidecar/base/error.h"

namespace remora::checkpoint {

inline constexpr size_t chunk_bytes_min = 64 * 1024;
inline constexpr size_t chunk_bytes_avg = 256 * 1024;
inline constexpr size_t chunk_bytes_max = 1024 * 1024;

// Length of the first chunk of data. data must hold chunk_bytes_max bytes or reach to the end of
// the stream. Result is 0 only for empty data; at most chunk_bytes_max.
size_t next_cut(std::string_view data);

// Cuts a stream that arrives in pieces. Use: while (more) fill space() and added(n); then take
// chunks with next(at_end) until it returns an empty view. Holds at most stream_buffer_bytes.
class StreamChunker {
 public:
  static constexpr size_t stream_buffer_bytes = 4 * chunk_bytes_max;

  StreamChunker();
  void reset();
  // Where to write the next bytes; empty when full (take chunks first).
  std::span<char> space();
  void added(size_t bytes) { end_ += bytes; }
  // The next whole chunk, valid until the next call of space(); empty when more bytes are needed,
  // or at_end and nothing is left.
  std::string_view next(bool at_end);

 private:
  std::string buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace remora::checkpoint
