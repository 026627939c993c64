// Owners for things that C and the kernel hand out. Move-only; the destructor releases.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <unistd.h>

namespace remora {

// A file descriptor that is closed exactly once.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

// A C object with its own release function: CHandle<event, event_free>.
template <auto Release>
struct CDeleter {
  template <typename T>
  void operator()(T* p) const {
    // This is the RAII that the checks ask for, also where Release is free().
    Release(p);  // NOLINT(cppcoreguidelines-no-malloc,cppcoreguidelines-owning-memory)
  }
};
template <typename T, auto Release>
using CHandle = std::unique_ptr<T, CDeleter<Release>>;

// What every asynchronous call returns: destroying it cancels the call, after which its callback
// never runs. A default-made or finished handle does nothing.
class Subscription {
 public:
  class Impl {
   public:
    virtual ~Impl() = default;
  };
  Subscription() = default;
  explicit Subscription(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
  explicit operator bool() const { return impl_ != nullptr; }
  void cancel() { impl_.reset(); }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace remora
