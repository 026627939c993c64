// Names to addresses, without blocking and without the C library's resolver, which a static program
// can't use: libevent's, with the name servers, search domains and options of /etc/resolv.conf, and
// /etc/hosts. Nothing is kept: a name that has moved is found at its new address at once.
//
// Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/base/error.h"
#include "sidecar/net/event_loop.h"
#include "sidecar/net/socket_address.h"

namespace remora {

inline constexpr size_t resolved_addresses_max = 16;

// A question under way; destroying it means that the answer is not wanted any more.
class Lookup {
 public:
  virtual ~Lookup() = default;
};

class Resolver {
 public:
  using Done = std::move_only_function<void(Result<std::vector<SocketAddress>>)>;

  // kIo when /etc/resolv.conf can't be used.
  static Result<std::unique_ptr<Resolver>> create(EventLoop& loop);
  virtual ~Resolver() = default;

  // Addresses in the order of preference, at least one. done is called once, from the loop, never
  // from inside the call; it may destroy the lookup. kNotFound when there is no such name,
  // kUnavailable (retryable) when nobody could be asked.
  [[nodiscard]] virtual std::unique_ptr<Lookup> resolve(const std::string& host, uint16_t port,
                                                        Done done) = 0;
};

}  // namespace remora
