#include "sidecar/proxy/upstream_pool.h"

#include <algorithm>

#include "sidecar/net/tcp.h"

namespace remora {

UpstreamPool::~UpstreamPool() {
  waiting_.clear();
  connections_.clear();
}

UpstreamConnection* UpstreamPool::acquire(http::Version version, Waiter& waiter) {
  if (waiting_.empty()) {
    if (UpstreamConnection* ready = find_ready(version)) return ready;
  }
  waiting_.push_back({&waiter, version});
  serve_waiting();
  return nullptr;
}

void UpstreamPool::leave(Waiter& waiter) {
  std::erase_if(waiting_, [&](const Waiting& w) { return w.waiter == &waiter; });
}

UpstreamConnection* UpstreamPool::find_ready(http::Version version) {
  if (version != http::Version::kHttp2) {
    while (!idle_h1_.empty()) {
      UpstreamConnection* connection = idle_h1_.back();
      idle_h1_.pop_back();
      if (connection->can_open()) return connection;
    }
    return nullptr;
  }
  for (const auto& connection : connections_) {
    if (connection->version() == http::Version::kHttp2 && connection->can_open()) {
      return connection.get();
    }
  }
  return nullptr;
}

size_t UpstreamPool::connecting(http::Version version) const {
  return static_cast<size_t>(std::ranges::count_if(connections_, [&](const auto& connection) {
    return connection->version() == version && !connection->connected();
  }));
}

void UpstreamPool::connect(http::Version version) {
  std::unique_ptr<Transport> transport =
      options_.connect ? options_.connect()
                       : connect_socket(loop_, options_.address, options_.connect_timeout);
  connections_.push_back(std::make_unique<UpstreamConnection>(loop_, *this, std::move(transport),
                                                              version, options_.limits));
}

// Opens as many connections as the waiting need: one each for HTTP/1.1, one for all for HTTP/2.
void UpstreamPool::serve_waiting() {
  const auto open_for = [&](http::Version version) {
    size_t wanted = static_cast<size_t>(std::ranges::count(waiting_, version, &Waiting::version));
    if (version == http::Version::kHttp2) wanted = std::min<size_t>(wanted, 1);
    for (size_t i = connecting(version);
         i < wanted && connections_.size() < options_.connections_max; ++i) {
      connect(version);
    }
  };
  open_for(http::Version::kHttp11);
  open_for(http::Version::kHttp2);
}

void UpstreamPool::on_connection_ready(UpstreamConnection& connection) {
  // Hands the connection to those who wait for its kind, in order, for as long as it has room.
  while (connection.can_open()) {
    const auto next = std::ranges::find(waiting_, connection.version(), &Waiting::version);
    if (next == waiting_.end()) break;
    Waiter* waiter = next->waiter;
    waiting_.erase(next);
    waiter->on_upstream_ready(connection);
  }
  if (connection.version() != http::Version::kHttp2 && connection.can_open() &&
      std::ranges::find(idle_h1_, &connection) == idle_h1_.end()) {
    idle_h1_.push_back(&connection);
  }
}

void UpstreamPool::on_connection_closed(UpstreamConnection& connection, const Error& error,
                                        bool was_connected) {
  const http::Version version = connection.version();
  std::erase(idle_h1_, &connection);
  const auto it =
      std::ranges::find_if(connections_, [&](const auto& c) { return c.get() == &connection; });
  if (it != connections_.end()) {
    std::swap(*it, connections_.back());
    loop_.defer_delete(std::move(connections_.back()));
    connections_.pop_back();
  }
  if (was_connected) {
    serve_waiting();
    return;
  }
  // Nobody answers there: one refusal speaks for all who wait for this kind, so that each decides
  // now whether to hold on instead of queueing for its own refusal.
  std::vector<Waiter*> failed;
  std::erase_if(waiting_, [&](const Waiting& w) {
    if (w.version == version) failed.push_back(w.waiter);
    return w.version == version;
  });
  for (Waiter* waiter : failed) waiter->on_upstream_connect_failed(error);
}

void UpstreamPool::expire_idle(MonotonicTime now) {
  const Error reason{ErrorCode::kTimeout, ErrorSource::kUpstream, true, "idle too long"};
  std::vector<UpstreamConnection*> expired;
  for (const auto& connection : connections_) {
    if (connection->connected() && connection->idle() &&
        now - connection->idle_since() > options_.idle_timeout) {
      expired.push_back(connection.get());
    }
  }
  for (UpstreamConnection* connection : expired) connection->close(reason);
}

void UpstreamPool::close_idle() {
  const Error reason{ErrorCode::kUnavailable, ErrorSource::kAgent, true, "the agent is gone"};
  std::vector<UpstreamConnection*> idle;
  for (const auto& connection : connections_) {
    if (connection->connected() && connection->idle()) idle.push_back(connection.get());
  }
  for (UpstreamConnection* connection : idle) connection->close(reason);
}

}  // namespace remora
