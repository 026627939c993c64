// The agent's standard output and error: from bytes to lines, and the last of them kept.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "sidecar/base/handle.h"
#include "sidecar/net/loop.h"

namespace remora {

// A longer line is given in pieces of at most this size.
inline constexpr size_t agent_output_line_bytes_max = 8 * 1024;
// Read from one stream before the loop gets its turn.
inline constexpr size_t agent_output_read_bytes_max = 16 * 1024;
// Read of what an agent that has ended left in its pipe.
inline constexpr size_t agent_output_last_bytes_max = 1 << 20;

// Cuts a stream into lines, without their line ends. Pieces of a line that is too long end between
// two UTF-8 characters where there are any.
class LineSplitter {
 public:
  using Sink = std::move_only_function<void(std::string_view line)>;
  explicit LineSplitter(Sink sink) : sink_(std::move(sink)) {}
  void append(std::string_view bytes);
  // What has no line end yet is a line too.
  void finish();

 private:
  void give_piece();

  Sink sink_;
  std::string partial_;
};

// The newest whole lines, at most bytes_max of them.
class LogTail {
 public:
  explicit LogTail(size_t bytes_max) : bytes_max_(bytes_max) {}
  void append(std::string_view line);
  std::string text() const;

 private:
  size_t bytes_max_;
  std::string text_;  // up to twice bytes_max_, so that trimming is rare
};

// Reads one pipe for as long as it is open. Loop thread.
class OutputPipe {
 public:
  // pipe must be non-blocking.
  OutputPipe(Loop& loop, UniqueFd pipe, LineSplitter::Sink sink);
  // The writer has ended: reads what is left, gives the last line, closes.
  void finish();

 private:
  // False at the end of the stream.
  bool read_once();
  void close();

  UniqueFd pipe_;
  LineSplitter lines_;
  std::unique_ptr<FdWatch> watch_;
};

}  // namespace remora
