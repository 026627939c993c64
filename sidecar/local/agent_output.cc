#include "sidecar/local/agent_output.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <unistd.h>

namespace remora {
namespace {

// Where to cut text of at most bytes_max bytes without splitting a UTF-8 character: RFC 3629
// section 3, a character has at most three continuation bytes.
size_t cut_before(std::string_view text, size_t bytes_max) {
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; };
  size_t cut = bytes_max;
  for (int i = 0; i < 3 && cut > 0 && cut < text.size() && continues(text[cut]); ++i) --cut;
  return cut < text.size() && continues(text[cut]) ? bytes_max : cut;
}

}  // namespace

void LineSplitter::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const size_t room = agent_output_line_bytes_max + 1 - partial_.size();
    const size_t take = std::min({end, bytes.size(), room});
    partial_.append(bytes.substr(0, take));
    bytes.remove_prefix(take);
    if (!bytes.empty() && bytes.front() == '\n' && partial_.size() <= agent_output_line_bytes_max) {
      bytes.remove_prefix(1);
      if (partial_.ends_with('\r')) partial_.pop_back();
      sink_(partial_);
      partial_.clear();
    } else if (partial_.size() > agent_output_line_bytes_max) {
      give_piece();
    }
  }
}

void LineSplitter::give_piece() {
  const size_t cut = cut_before(partial_, agent_output_line_bytes_max);
  sink_(std::string_view(partial_).substr(0, cut));
  partial_.erase(0, cut);
}

void LineSplitter::finish() {
  if (partial_.empty()) return;
  sink_(partial_);
  partial_.clear();
}

void LogTail::append(std::string_view line) {
  if (bytes_max_ == 0) return;
  text_.append(line.substr(0, bytes_max_)).push_back('\n');
  if (text_.size() > 2 * bytes_max_) text_ = text();
}

std::string LogTail::text() const {
  if (text_.size() <= bytes_max_) return text_;
  const size_t begin = text_.size() - bytes_max_;
  // The first whole line: unless one begins right there, after the next line end.
  if (text_[begin - 1] == '\n') return text_.substr(begin);
  return text_.substr(text_.find('\n', begin) + 1);
}

OutputPipe::OutputPipe(Loop& loop, UniqueFd pipe, LineSplitter::Sink sink)
    : pipe_(std::move(pipe)), lines_(std::move(sink)) {
  watch_ = loop.watch_fd(pipe_.get(), FdEvents::kRead, [this](FdEvents) {
    if (!read_once()) close();
  });
}

bool OutputPipe::read_once() {
  std::array<char, agent_output_read_bytes_max> bytes;
  const ssize_t n = ::read(pipe_.get(), bytes.data(), bytes.size());
  if (n > 0) lines_.append({bytes.data(), static_cast<size_t>(n)});
  return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

void OutputPipe::finish() {
  if (!pipe_) return;
  std::array<char, agent_output_read_bytes_max> bytes;
  size_t total = 0;
  ssize_t n = 0;
  while (total < agent_output_last_bytes_max &&
         (n = ::read(pipe_.get(), bytes.data(), bytes.size())) > 0) {
    lines_.append({bytes.data(), static_cast<size_t>(n)});
    total += static_cast<size_t>(n);
  }
  close();
}

void OutputPipe::close() {
  lines_.finish();
  watch_.reset();
  pipe_.reset();
}

}  // namespace remora
