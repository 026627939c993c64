// A bump allocator for the short strings of one message. Views into it stay valid, even when the
// ArenaPtr moves, until the ArenaPtr dies. Arenas are pooled per thread, so that a request costs no
// malloc in the steady state.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace remora {

class Arena {
 public:
  // One chunk serves a usual request; larger ones add chunks and give them back on reset.
  static constexpr size_t chunk_bytes = 4096;

  // n bytes, aligned to 8. Never fails (std::bad_alloc aborts).
  char* allocate(size_t n) {
    n = (n + 7) & ~size_t{7};
    if (n > static_cast<size_t>(end_ - next_)) grow(n);
    return std::exchange(next_, next_ + n);
  }
  std::string_view copy(std::string_view text) {
    if (text.empty()) return {};
    char* to = allocate(text.size());
    std::memcpy(to, text.data(), text.size());
    return {to, text.size()};
  }
  void reset() {
    extra_.clear();
    next_ = first_;
    end_ = first_ + chunk_bytes;
  }

 private:
  void grow(size_t n) {
    const size_t size = n > chunk_bytes ? n : chunk_bytes;
    extra_.push_back(std::make_unique_for_overwrite<char[]>(size));
    next_ = extra_.back().get();
    end_ = next_ + size;
  }

  alignas(8) char first_[chunk_bytes];
  char* next_ = first_;
  char* end_ = first_ + chunk_bytes;
  std::vector<std::unique_ptr<char[]>> extra_;
};

struct ArenaReturner {
  void operator()(Arena* arena) const;
};
using ArenaPtr = std::unique_ptr<Arena, ArenaReturner>;

// From this thread's pool (at most arena_pool_size_max kept), or new.
inline constexpr size_t arena_pool_size_max = 64;
ArenaPtr take_arena();

}  // namespace remora
