// A small agent in C++ that can deadlock: the workload of the cluster tests' deadlock. Linked
// statically, so its image holds nothing else.
//
// HTTP/1.1, one thread for each connection, at most connections_max of them:
//   GET  /healthz         200, whatever the locks do
//   POST /work            takes both locks in order and counts
//   POST /fault/deadlock  two threads take them in opposite order and wait for each other
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

// Many, so that callers who wait for a lock do not keep the health check out.
constexpr int connections_max = 1024;
constexpr size_t request_bytes_max = 64 * 1024;

pthread_mutex_t ledger = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t index_lock = PTHREAD_MUTEX_INITIALIZER;
long work_done = 0;
std::counting_semaphore<connections_max> free_connections(connections_max);

long work() {
  pthread_mutex_lock(&ledger);
  pthread_mutex_lock(&index_lock);
  const long count = ++work_done;
  pthread_mutex_unlock(&index_lock);
  pthread_mutex_unlock(&ledger);
  return count;
}

struct Writer {
  const char* name;
  pthread_mutex_t* first;
  pthread_mutex_t* second;
  pthread_barrier_t* both_hold_one;
};

void* lock_in_order(void* argument) {
  const auto* writer = static_cast<const Writer*>(argument);
  ::prctl(PR_SET_NAME, writer->name, 0, 0, 0);
  pthread_mutex_lock(writer->first);
  pthread_barrier_wait(writer->both_hold_one);
  pthread_mutex_lock(writer->second);
  return nullptr;
}

// Does not come back.
void deadlock() {
  pthread_barrier_t both_hold_one;
  pthread_barrier_init(&both_hold_one, nullptr, 2);
  Writer ledger_first{"ledger-writer", &ledger, &index_lock, &both_hold_one};
  Writer index_first{"index-writer", &index_lock, &ledger, &both_hold_one};
  pthread_t threads[2];
  pthread_create(&threads[0], nullptr, lock_in_order, &ledger_first);
  pthread_create(&threads[1], nullptr, lock_in_order, &index_first);
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
}

std::string answer(std::string_view request) {
  if (request.starts_with("POST /work ")) return "{\"count\": " + std::to_string(work()) + "}";
  if (request.starts_with("POST /fault/deadlock ")) deadlock();
  return "{\"status\": \"ok\", \"pid\": " + std::to_string(::getpid()) + "}";
}

size_t content_length(const std::string& head) {
  for (size_t at = 0; (at = head.find('\n', at)) != std::string::npos;) {
    ++at;
    constexpr std::string_view name = "content-length:";
    if (::strncasecmp(head.c_str() + at, name.data(), name.size()) == 0) {
      return std::strtoul(head.c_str() + at + name.size(), nullptr, 10);
    }
  }
  return 0;
}

bool send_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

void serve(int fd) {
  std::string buffer;
  char piece[4096];
  while (buffer.size() <= request_bytes_max) {
    const size_t end = buffer.find("\r\n\r\n");
    if (end != std::string::npos) {
      const std::string head = buffer.substr(0, end + 2);
      const size_t length = end + 4 + content_length(head);
      if (buffer.size() >= length) {
        buffer.erase(0, length);
        const std::string body = answer(head);
        const std::string reply =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
            std::to_string(body.size()) + "\r\n\r\n" + body;
        if (!send_all(fd, reply)) break;
        continue;
      }
    }
    const ssize_t got = ::recv(fd, piece, sizeof piece, 0);
    if (got <= 0) break;
    buffer.append(piece, static_cast<size_t>(got));
  }
  ::close(fd);
  free_connections.release();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: locking_agent PORT\n");
    return 2;
  }
  // As process 1 it would ignore it otherwise.
  std::signal(SIGTERM, [](int) { ::_exit(0); });
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::strtol(argv[1], nullptr, 10)));
  if (listener < 0 ||
      ::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, 128) != 0) {
    std::perror("locking_agent: cannot listen");
    return 1;
  }
  while (true) {
    free_connections.acquire();
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      free_connections.release();
      continue;
    }
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::thread(serve, fd).detach();
  }
}
