// A byte queue: append at the back, consume from the front, contents always contiguous.
// Invariant: head_ <= bytes_.size(). Consuming only moves head_; the space is won back when the
// queue runs empty (the common case on the data path: everything goes out in one write) or when
// the dead front outgrows the live part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace remora {

class Buffer {
 public:
  size_t size() const { return bytes_.size() - head_; }
  bool empty() const { return size() == 0; }
  std::string_view view() const { return std::string_view(bytes_).substr(head_); }

  void append(std::string_view data) { bytes_.append(data); }
  void append(std::span<const uint8_t> data) {
    bytes_.append(reinterpret_cast<const char*>(data.data()), data.size());
  }
  void append(char c) { bytes_ += c; }

  // Appends what write(char* to) puts at to: at most bytes_max bytes; it returns how many.
  template <typename Write>
  void append_with(size_t bytes_max, Write write) {
    const size_t old_size = bytes_.size();
    bytes_.resize_and_overwrite(old_size + bytes_max, [&](char* data, size_t) {
      return old_size + write(data + old_size);
    });
  }

  // n must be at most size().
  void consume(size_t n) {
    head_ += n;
    if (head_ == bytes_.size()) {
      clear();
    } else if (head_ > kCompactAtBytes && head_ > bytes_.size() / 2) {
      bytes_.erase(0, head_);
      head_ = 0;
    }
  }

  // Empties the queue; gives memory back once a burst has made it larger than kKeepBytesMax.
  void clear() {
    head_ = 0;
    if (bytes_.capacity() > kKeepBytesMax) {
      std::string().swap(bytes_);
    } else {
      bytes_.clear();
    }
  }

 private:
  static constexpr size_t kCompactAtBytes = 4096;
  static constexpr size_t kKeepBytesMax = 16 * 1024;
  std::string bytes_;
  size_t head_ = 0;
};

inline std::span<const uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace remora
