#include "k8s/api/pool.h"

#include <algorithm>
#include <utility>

#include "config/read_file.h"
#include "k8s/api/connection.h"
#include "k8s/api/exchange.h"
#include "sidecar/net/tcp.h"

namespace remora::k8s {
namespace {

constexpr size_t token_bytes_max = 64 * 1024;

}  // namespace

Pool::Pool(Loop& loop, ApiServer server, std::shared_ptr<const TlsContext> tls)
    : loop_(loop),
      server_(std::move(server)),
      tls_(std::move(tls)),
      one_for_all_(tls_ != nullptr) {}

Pool::~Pool() {
  *alive_ = false;
  for (Exchange* exchange : exchanges_) exchange->orphan();
  for (auto& connection : connections_) {
    connection->kill();
    loop_.defer_delete(std::move(connection));
  }
}

std::string Pool::token() const {
  if (server_.token_file.empty()) return server_.token;
  Result<std::string> text = config::read_file(server_.token_file, token_bytes_max);
  if (!text) return {};
  while (!text->empty() && (text->back() == '\n' || text->back() == '\r')) text->pop_back();
  return std::move(*text);
}

void Pool::enter(Exchange& exchange) {
  exchanges_.insert(&exchange);
  if (waiting_.size() >= api_calls_waiting_max) {
    return exchange.fail(ErrorCode::kLimitExceeded, "too many calls wait for the API server");
  }
  waiting_.push_back(&exchange);
  pump_soon();
}

void Pool::leave(Exchange& exchange) {
  exchanges_.erase(&exchange);
  std::erase(waiting_, &exchange);
}

void Pool::pump_soon() {
  if (waiting_.empty() || std::exchange(pump_posted_, true)) return;
  loop_.post([this, alive = alive_] {
    if (!*alive) return;
    pump_posted_ = false;
    pump();
  });
}

void Pool::pump() {
  while (!waiting_.empty()) {
    Connection* const connection = find_room();
    if (connection == nullptr) break;
    Exchange* const exchange = waiting_.front();
    waiting_.pop_front();
    ++stats_.requests;
    connection->send(*exchange);
  }
  while (may_open()) open();
}

Connection* Pool::find_room() const {
  const auto found =
      std::ranges::find_if(connections_, [](const auto& c) { return c->has_room(); });
  return found == connections_.end() ? nullptr : found->get();
}

bool Pool::may_open() const {
  if (waiting_.empty() || connections_.size() >= api_connections_max) return false;
  const auto count = [this](bool (Connection::*what)() const) {
    return static_cast<size_t>(
        std::ranges::count_if(connections_, [&](const auto& c) { return ((*c).*what)(); }));
  };
  if (one_for_all_) return count(&Connection::lives) == 0;
  return count(&Connection::connecting) < waiting_.size();
}

void Pool::open() {
  std::unique_ptr<Transport> transport =
      server_.connect
          ? server_.connect()
          : connect_socket(loop_, server_.address, std::chrono::milliseconds(api_connect_ms_max));
  if (tls_) transport = wrap_tls_client(loop_, tls_, std::move(transport), server_.name);
  connections_.push_back(std::make_unique<Connection>(loop_, *this, std::move(transport)));
  ++stats_.connections;
  connections_.back()->start();
}

void Pool::on_connected(Connection& connection) {
  one_for_all_ = connection.is_h2();
  pump_soon();
}

void Pool::on_dead(Connection& connection, bool connected, const Error& why) {
  const auto found = std::ranges::find_if(
      connections_, [&](const auto& held) { return held.get() == &connection; });
  if (found == connections_.end()) return;
  std::unique_ptr<Connection> dead = std::move(*found);
  connections_.erase(found);
  loop_.defer_delete(std::move(dead));
  if (connected) return pump_soon();
  // Whoever asks again does so in their own time.
  for (Exchange* exchange : std::exchange(waiting_, {})) exchange->fail(why.code, why.message);
}

bool Pool::holds(const Connection& connection) const {
  return std::ranges::any_of(connections_,
                             [&](const auto& held) { return held.get() == &connection; });
}

}  // namespace remora::k8s
