// Fixed little-endian integers and length-prefixed strings: the only encoding of the store's own
// files. The reader never reads past its input: the first short field makes failed() true and every
// later value zero, so a parser checks once at its end (and before it trusts a count).
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/hash.h"

namespace remora::checkpoint {

class ByteWriter {
 public:
  template <std::integral T>
  void put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      out_ += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
    }
  }
  void put_bytes(std::string_view bytes) { out_.append(bytes); }
  // u32 length, then the bytes.
  void put_string(std::string_view text) {
    put(static_cast<uint32_t>(text.size()));
    out_.append(text);
  }
  const std::string& bytes() const { return out_; }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : left_(bytes) {}

  template <std::integral T>
  T get() {
    const std::string_view raw = get_bytes(sizeof(T));
    uint64_t value = 0;
    for (size_t i = 0; i < raw.size(); ++i) {
      value |= uint64_t{static_cast<uint8_t>(raw[i])} << (8 * i);
    }
    return static_cast<T>(value);
  }
  std::string_view get_bytes(size_t n) {
    if (failed_ || n > left_.size()) {
      failed_ = true;
      return {};
    }
    const std::string_view out = left_.substr(0, n);
    left_.remove_prefix(n);
    return out;
  }
  std::string_view get_string(size_t bytes_max) {
    const auto n = get<uint32_t>();
    if (n > bytes_max) failed_ = true;
    return get_bytes(n);
  }
  Digest get_digest() {
    Digest out;
    const std::string_view raw = get_bytes(out.bytes.size());
    for (size_t i = 0; i < raw.size(); ++i) out.bytes[i] = static_cast<uint8_t>(raw[i]);
    return out;
  }
  size_t left() const { return left_.size(); }
  bool failed() const { return failed_; }

 private:
  std::string_view left_;
  bool failed_ = false;
};

}  // namespace remora::checkpoint
