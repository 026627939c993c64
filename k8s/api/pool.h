// The connections of an ApiClient and the exchanges that wait for room on one. With HTTP/2 that is
// one connection, and a second one while the first is being drained; with HTTP/1.1 as many as
// exchanges are under way, up to api_connections_max.
//
// Exchanges go out in the order in which they came, from a task of the loop.
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "k8s/api/client.h"

namespace remora::k8s {

class Connection;
class Exchange;

inline constexpr size_t api_connections_max = 32;
inline constexpr size_t api_calls_waiting_max = 10'000;

class Pool {
 public:
  Pool(Loop& loop, ApiServer server, std::shared_ptr<const TlsContext> tls);
  // What is under way ends without an answer.
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  const ApiServer& server() const { return server_; }
  const ApiClientStats& stats() const { return stats_; }
  // As the file has it now; one that can't be read is answered 401, which says more than we could.
  std::string token() const;

  void enter(Exchange& exchange);
  void leave(Exchange& exchange);
  void pump_soon();
  void count_throttled() { ++stats_.throttled; }

  // From connections.
  void on_connected(Connection& connection);
  void on_dead(Connection& connection, bool connected, const Error& why);
  bool holds(const Connection& connection) const;
  // Turns false when the pool is destroyed.
  std::shared_ptr<const bool> alive() const { return alive_; }

 private:
  void pump();
  Connection* find_room() const;
  bool may_open() const;
  void open();

  Loop& loop_;
  const ApiServer server_;
  const std::shared_ptr<const TlsContext> tls_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::set<Exchange*> exchanges_;
  std::deque<Exchange*> waiting_;
  ApiClientStats stats_;
  bool one_for_all_;  // the server is thought to speak HTTP/2
  bool pump_posted_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace remora::k8s
