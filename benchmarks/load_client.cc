#include "benchmarks/load_client.h"

#include <algorithm>
#include <utility>

#include <fcntl.h>

#include "benchmarks/http_text.h"

namespace remora::bench {
namespace {

constexpr size_t read_size_bytes = 256 * 1024;
constexpr size_t reply_head_bytes_max = 64 * 1024;

}  // namespace

LoadClient::LoadClient(const Clock& clock, const LoadPlan& plan)
    : clock_(clock), plan_(plan), events_(plan.connections), buffer_(read_size_bytes) {
  request_.append("GET ").append(plan.path).append(" HTTP/1.1\r\nhost: ");
  request_.append(plan.address)
      .append(":")
      .append(std::to_string(plan.port))
      .append("\r\nuser-agent: bench_load\r\n\r\n");
}

Result<void> LoadClient::connect() {
  auto epoll = make_epoll();
  if (!epoll) return std::unexpected(epoll.error());
  epoll_ = std::move(*epoll);
  for (size_t i = 0; i < plan_.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>());
    if (auto opened = open(*connections_.back()); !opened) return opened;
    idle_.push_back(connections_.back().get());
  }
  return {};
}

Result<void> LoadClient::open(Connection& connection) {
  auto fd = connect_to(plan_.port, plan_.address);
  if (!fd) return std::unexpected(fd.error());
  ::fcntl(fd->get(), F_SETFL, O_NONBLOCK);
  watch(epoll_.get(), EPOLL_CTL_ADD, fd->get(), EPOLLIN, &connection);
  connection = Connection{};
  connection.fd = std::move(*fd);
  return {};
}

Result<std::unique_ptr<LoadResult>> LoadClient::run(uint64_t requests, double rate) {
  auto result = std::make_unique<LoadResult>();
  wanted_ = requests;
  issued_ = finished_ = 0;
  interval_ns_ = rate > 0 ? 1e9 / rate : 0;
  start_ = clock_.now();
  while (finished_ < wanted_) {
    if (auto issued = issue_due(*result); !issued) return std::unexpected(issued.error());
    const auto ready = wait();
    if (!ready) return std::unexpected(ready.error());
    for (int i = 0; i < *ready; ++i) {
      auto* connection = static_cast<Connection*>(events_[static_cast<size_t>(i)].data.ptr);
      if (auto read = read_reply(*connection, *result); !read) return std::unexpected(read.error());
    }
  }
  result->seconds = to_seconds(clock_.now() - start_);
  return result;
}

MonotonicTime LoadClient::due_time(uint64_t index) const {
  return start_ + Duration(static_cast<int64_t>(interval_ns_ * static_cast<double>(index)));
}

// Sends every request whose time has come, as long as a connection is free for it.
Result<void> LoadClient::issue_due(LoadResult& result) {
  while (issued_ < wanted_ && !idle_.empty()) {
    const MonotonicTime now = clock_.now();
    const MonotonicTime due = interval_ns_ > 0 ? due_time(issued_) : now;
    if (due > now) return {};
    Connection& connection = *idle_.front();
    idle_.pop_front();
    connection.due = due;
    connection.busy = true;
    ++issued_;
    if (auto sent = send_request(connection, result); !sent) return sent;
  }
  return {};
}

Result<void> LoadClient::send_request(Connection& connection, LoadResult& result) {
  const ssize_t sent = ::send(connection.fd.get(), request_.data(), request_.size(), MSG_NOSIGNAL);
  // An idle loopback socket has room for a request of this size: less is a lost connection.
  if (sent == static_cast<ssize_t>(request_.size())) return {};
  return lose(connection, result);
}

// Until a reply comes or the next request is due. Nanoseconds matter here: a wait rounded up to a
// millisecond would be charged to the proxy.
Result<int> LoadClient::wait() {
  Duration limit = std::chrono::milliseconds(stall_ms_max);
  const bool next_is_scheduled = interval_ns_ > 0 && issued_ < wanted_ && !idle_.empty();
  if (next_is_scheduled) {
    limit = std::clamp<Duration>(due_time(issued_) - clock_.now(), Duration::zero(), limit);
  }
  const timespec timeout{limit.count() / 1'000'000'000, limit.count() % 1'000'000'000};
  const int ready = ::epoll_pwait2(epoll_.get(), events_.data(), static_cast<int>(events_.size()),
                                   &timeout, nullptr);
  if (ready < 0 && errno == EINTR) return 0;
  if (ready < 0) return std::unexpected(error_from_errno(errno, "epoll_pwait2"));
  if (ready == 0 && !next_is_scheduled) {
    return make_error(ErrorCode::kTimeout, ErrorSource::kUpstream,
                      "no reply for 10 s; is the server stuck?");
  }
  return ready;
}

Result<void> LoadClient::read_reply(Connection& connection, LoadResult& result) {
  const ssize_t got = ::recv(connection.fd.get(), buffer_.data(), buffer_.size(), 0);
  if (got < 0 && (would_block(errno) || errno == EINTR)) return {};
  if (got <= 0 || !connection.busy) return lose(connection, result);
  if (!consume(connection, {buffer_.data(), static_cast<size_t>(got)})) {
    return lose(connection, result);
  }
  if (connection.status == 0 || connection.body_left > 0) return {};
  if (connection.status != 200) ++result.errors;
  result.latency.record(static_cast<uint64_t>((clock_.now() - connection.due).count()));
  finish(connection);
  return {};
}

bool LoadClient::consume(Connection& connection, std::string_view bytes) {
  if (connection.status == 0) {
    connection.input.append(bytes);
    const size_t head_bytes = head_size(connection.input);
    if (head_bytes == 0) return connection.input.size() <= reply_head_bytes_max;
    const std::string_view head = std::string_view(connection.input).substr(0, head_bytes);
    const auto length = content_length(head);
    connection.status = status_of(head);
    if (!length || connection.status == 0) return false;
    connection.body_left = *length;
    bytes = bytes.substr(bytes.size() - (connection.input.size() - head_bytes));
  }
  if (bytes.size() > connection.body_left) return false;
  connection.body_left -= bytes.size();
  return true;
}

void LoadClient::finish(Connection& connection) {
  connection.input.clear();
  connection.status = 0;
  connection.body_left = 0;
  connection.busy = false;
  ++finished_;
  idle_.push_back(&connection);
}

Result<void> LoadClient::lose(Connection& connection, LoadResult& result) {
  const bool was_busy = connection.busy;
  if (auto opened = open(connection); !opened) return opened;
  if (!was_busy) return {};
  ++result.errors;
  finish(connection);
  return {};
}

}  // namespace remora::bench
