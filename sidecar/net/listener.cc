#include "sidecar/net/listener.h"

#include <cerrno>
#include <string>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sidecar/base/log.h"
#include "sidecar/net/tcp.h"

namespace remora {
namespace {

const char* unix_path(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr_un*>(address.get())->sun_path;
}

// A socket file that nobody listens on any more (its process died) may be replaced.
void remove_stale_unix_socket(const SocketAddress& address) {
  struct stat info{};
  if (::lstat(unix_path(address), &info) != 0 || !S_ISSOCK(info.st_mode)) return;
  // A listener that lives but is too busy to accept says EAGAIN.
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!probe) return;
  if (::connect(probe.get(), address.get(), address.length()) != 0 && errno == ECONNREFUSED) {
    ::unlink(unix_path(address));
  }
}

Error listen_error(int err, const SocketAddress& address) {
  Error error = error_from_errno(err, "listen on " + address.to_string(), ErrorSource::kConfig);
  if (err == EADDRINUSE) {
    error.message += "; stop the process that holds it, or choose another address";
  } else if (err == EACCES) {
    error.message += "; choose a port from 1024 up, or a path you may write";
  } else if (err == EADDRNOTAVAIL) {
    error.message += "; this machine has no such address";
  }
  return error;
}

}  // namespace

Result<std::unique_ptr<Listener>> Listener::open(Loop& loop, const SocketAddress& address,
                                                 AcceptCallback on_accept) {
  return open_raw(loop, address,
                  [&loop, on_accept = std::move(on_accept)](UniqueFd fd, std::string peer) mutable {
                    on_accept(adopt_socket(loop, std::move(fd), std::move(peer)));
                  });
}

Result<std::unique_ptr<Listener>> Listener::open_raw(Loop& loop, const SocketAddress& address,
                                                     RawAcceptCallback on_accept) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return std::unexpected(listen_error(errno, address));
  const bool is_unix = address.family() == AF_UNIX;
  if (is_unix) {
    remove_stale_unix_socket(address);
  } else {
    const int one = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  }
  // The mode must be right from the first moment: a socket file is born with 0777 less the umask.
  const mode_t old_mask = is_unix ? ::umask(0177) : 0;
  const int bound = ::bind(fd.get(), address.get(), address.length());
  const int bind_errno = errno;
  if (is_unix) ::umask(old_mask);
  if (bound != 0) return std::unexpected(listen_error(bind_errno, address));
  if (::listen(fd.get(), listen_backlog) != 0) {
    return std::unexpected(listen_error(errno, address));
  }
  Result<SocketAddress> real = is_unix ? address : local_address(fd.get());
  if (!real) return std::unexpected(std::move(real.error()));
  return std::unique_ptr<Listener>(new Listener(loop, std::move(fd), *real, std::move(on_accept)));
}

Listener::Listener(Loop& loop, UniqueFd fd, const SocketAddress& address,
                   RawAcceptCallback on_accept)
    : loop_(loop), fd_(std::move(fd)), address_(address), on_accept_(std::move(on_accept)) {
  watch_ = loop_.watch_fd(fd_.get(), FdEvents::kRead, [this](FdEvents) { accept_some(); });
}

Listener::~Listener() {
  if (address_.family() == AF_UNIX) ::unlink(unix_path(address_));
}

void Listener::set_paused(bool paused) {
  paused_ = paused;
  if (watch_ == nullptr) return;
  watch_->set_events(paused_ || backoff_ ? FdEvents::kNone : FdEvents::kRead);
}

void Listener::stop() {
  if (watch_ == nullptr) return;
  paused_ = false;
  // Newcomers must not keep it from ending.
  for (int taken = 0; taken < listen_backlog && accept_some(); taken += accepts_per_wake_max) {
  }
  backoff_.cancel();
  watch_.reset();
  fd_.reset();
}

bool Listener::accept_some() {
  for (int i = 0; i < accepts_per_wake_max && !paused_; ++i) {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    UniqueFd fd(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&storage), &length,
                          SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        sleep_on_exhaustion();
      }
      // ECONNABORTED and the like: that caller is gone, the next wake takes the others.
      return false;
    }
    const SocketAddress peer(reinterpret_cast<const sockaddr*>(&storage), length);
    on_accept_(std::move(fd), peer.to_string());
  }
  return !paused_;
}

void Listener::sleep_on_exhaustion() {
  log_warn("accept_paused",
           {{"listener", address_.to_string()},
            {"reason", "out of descriptors or memory; raise the limit (ulimit -n)"},
            {"retry_ms", accept_backoff_ms}});
  watch_->set_events(FdEvents::kNone);
  backoff_ = loop_.add_timer(std::chrono::milliseconds(accept_backoff_ms), [this] {
    backoff_.cancel();
    set_paused(paused_);
  });
}

}  // namespace remora
