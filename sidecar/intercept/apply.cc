#include "sidecar/intercept/apply.h"

#include <cerrno>
#include <cstddef>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sidecar/intercept/netlink_socket.h"

namespace remora::intercept {
namespace {

// Paces the attempts of one command and ends them.
class Attempts {
 public:
  explicit Attempts(const Clock& clock)
      : clock_(clock), deadline_(clock.now() + std::chrono::milliseconds(apply_wait_ms_max)) {}

  int count() const { return count_; }
  bool used_up() const { return count_ >= apply_attempts_max || clock_.now() >= deadline_; }
  // Begins another one; false when it is time to give up.
  bool next() {
    if (used_up()) return false;
    ++count_;
    return true;
  }
  // After one that another writer spoiled.
  static void pause() { ::poll(nullptr, 0, apply_pause_ms); }

 private:
  const Clock& clock_;
  MonotonicTime deadline_;
  int count_ = 0;
};

// An abstract socket's name belongs to one network namespace, has at most one owner, needs no file
// system, and is free again when its owner dies in whatever way.
UniqueFd take_turn(const Clock& clock) {
  constexpr std::string_view name = "remora intercept";
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return fd;  // out of descriptors: what needs one next says so
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(&address.sun_path[1], name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const MonotonicTime deadline = clock.now() + std::chrono::milliseconds(turn_wait_ms_max);
  while (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 &&
         errno == EADDRINUSE && clock.now() < deadline) {
    ::poll(nullptr, 0, apply_pause_ms);
  }
  return fd;
}

// A socket of its own for each attempt: nothing of a failed one is read by the next.
Result<Found> read_once() {
  auto socket = NetlinkSocket::open();
  if (!socket) return std::unexpected(std::move(socket.error()));
  Found found;
  auto asked = socket->ask(table_question(1), [&](const NetlinkMessage& message) {
    if (auto table = decode_table(message)) found.table = *table;
  });
  if (!asked && asked.error().code != ErrorCode::kNotFound) {
    return std::unexpected(std::move(asked.error()));
  }
  asked = socket->ask(chains_question(2), [&](const NetlinkMessage& message) {
    if (auto chain = decode_chain(message)) found.chains.push_back(std::move(*chain));
  });
  if (!asked) return std::unexpected(std::move(asked.error()));
  if (!found.table) return found;
  asked = socket->ask(rules_question(3), [&](const NetlinkMessage& message) {
    if (auto rule = decode_rule(message)) found.rules.push_back(std::move(*rule));
  });
  if (!asked) return std::unexpected(std::move(asked.error()));
  return found;
}

Result<Found> read_found(Attempts& attempts) {
  Error last{ErrorCode::kTimeout, ErrorSource::kInternal, true,
             "read the rules in force: no time left"};
  while (attempts.next()) {
    auto found = read_once();
    if (found || !found.error().retryable) return found;
    last = std::move(found.error());
    Attempts::pause();
  }
  return std::unexpected(
      std::move(last).with_context("other writers of nf_tables left no quiet moment to read in"));
}

Result<void> write_once(const Transaction& transaction) {
  auto socket = NetlinkSocket::open();
  if (!socket) return std::unexpected(std::move(socket.error()));
  return socket->transact(transaction);
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) {
    if (!text.empty()) text += "; ";
    text += line;
  }
  return text;
}

// One writing. EEXIST says that a chain of ours came to hang elsewhere after we had looked.
Result<void> write_rules(const Ruleset& wanted, const Comparison& difference) {
  if (difference.repair == Repair::kRefill) {
    auto refilled = write_once(refill_transaction(wanted, difference.extra_chains));
    if (refilled || refilled.error().code != ErrorCode::kAlreadyExists) return refilled;
  }
  return write_once(replace_transaction(wanted));
}

}  // namespace

Result<ApplyReport> apply(const InterceptOptions& options, const Clock& clock) {
  if (auto valid = validate(options); !valid) return std::unexpected(std::move(valid.error()));
  const Ruleset wanted = build_ruleset(options);
  const UniqueFd turn = take_turn(clock);
  Attempts attempts(clock);
  ApplyReport report;
  std::string last = "no attempt was made";
  while (!attempts.used_up()) {
    auto found = read_found(attempts);
    if (!found) return std::unexpected(std::move(found.error()));
    const Comparison difference = compare(wanted, *found);
    report.attempts = attempts.count();
    if (difference.repair == Repair::kNone) {
      report.notes = earlier_chains(wanted, *found);
      return report;
    }
    last = joined(difference.problems);
    // What was written once and isn't there any more has another writer.
    if (report.changed) Attempts::pause();
    auto written = write_rules(wanted, difference);
    if (!written) {
      if (!written.error().retryable) return std::unexpected(std::move(written.error()));
      last = written.error().message;
      Attempts::pause();
    }
    report.changed = report.changed || written.has_value();
  }
  return make_error(ErrorCode::kTimeout, ErrorSource::kInternal,
                    "the rules did not stay as written for " +
                        std::to_string(apply_wait_ms_max / 1000) +
                        " s; does another program write table inet remora? Last seen: " + last,
                    true);
}

Result<CheckReport> check(const InterceptOptions& options, const Clock& clock) {
  if (auto valid = validate(options); !valid) return std::unexpected(std::move(valid.error()));
  const Ruleset wanted = build_ruleset(options);
  Attempts attempts(clock);
  auto found = read_found(attempts);
  if (!found) return std::unexpected(std::move(found.error()));
  return CheckReport{.problems = compare(wanted, *found).problems,
                     .notes = earlier_chains(wanted, *found)};
}

Result<bool> remove(const Clock& clock) {
  const UniqueFd turn = take_turn(clock);
  Attempts attempts(clock);
  auto found = read_found(attempts);
  if (!found) return std::unexpected(std::move(found.error()));
  if (!found->table) return false;
  while (true) {
    auto written = write_once(remove_transaction());
    if (written) return true;
    if (!written.error().retryable || !attempts.next()) {
      return std::unexpected(std::move(written.error()));
    }
    Attempts::pause();
  }
}

bool is_initial_network_namespace() {
  return ::access("/proc/sys/net/core/netdev_budget", F_OK) == 0;
}

}  // namespace remora::intercept
