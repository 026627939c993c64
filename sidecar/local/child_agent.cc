#include "sidecar/local/child_agent.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/base/log.h"
#include "sidecar/health/oom_counter.h"
#include "sidecar/health/process_tree.h"
#include "sidecar/local/agent_output.h"
#include "sidecar/local/spawn.h"

namespace remora {
namespace {

using std::chrono::milliseconds;

constexpr size_t log_tails_kept = 2;
// How often its cgroup is looked up, doubling from the first to the last.
constexpr Duration cgroup_follow_min = milliseconds(10);
constexpr Duration cgroup_follow_max = milliseconds(5000);
// Between two looks at what is left of an agent; doubles up to the second.
constexpr Duration leftovers_poll_first = milliseconds(1);
constexpr Duration leftovers_poll_last = milliseconds(50);

std::string make_mark() {
  uint64_t bits = 0;
  // Never fails for so few bytes once the kernel has booted (getrandom(2)).
  if (::getrandom(&bits, sizeof bits, 0) != sizeof bits) std::abort();
  return fmt::format("REMORA_AGENT_MARK={:016x}", bits);
}

// waitid on a pidfd reports what /proc would show as a zombie; WNOWAIT keeps it one, and with it
// its PID and process group.
std::optional<AgentExit> peek_exit(int pidfd) {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0) {
    return std::nullopt;
  }
  if (info.si_code == CLD_EXITED) return AgentExit{info.si_status, 0, false};
  return AgentExit{128 + info.si_status, info.si_status, false};
}

}  // namespace

class ChildAgent::Impl {
 public:
  Impl(Loop& loop, ChildAgentOptions options)
      : loop_(loop), options_(std::move(options)), mark_(make_mark()) {
    if (options_.command.empty()) std::abort();
    // What the agent's children leave behind comes to us instead of to init.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    child_signal_ = loop_.watch_signal(SIGCHLD, [this] { look_for_orphans_later(); });
  }
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void set_events(OrchestratorEvents& events) { events_ = &events; }
  void set_options(ChildAgentOptions options) { options_ = std::move(options); }
  void start_agent();
  void stop_agent(Duration grace);
  std::string log_tail(uint64_t generation) const;

 private:
  enum class State {
    kNone,
    kExecuting,  // forked; exec's outcome is awaited
    kRunning,
    kCollecting,  // its process has ended; what it left behind is being ended
  };
  struct Tail {
    uint64_t generation = 0;
    LogTail lines;
  };

  void on_exec_report();
  void follow_cgroup(Duration after);
  void on_exited();
  void collect();
  void finish_exit();
  void fail_start(const Error& error);
  void signal_group(int signo) const;
  void kill_everything();
  std::vector<ProcessEntry> family() const;
  void listen(UniqueFd pipe, const char* stream, std::unique_ptr<OutputPipe>& to);
  void forget_process();
  void look_for_orphans_later();
  void reap_orphans();

  Loop& loop_;
  ChildAgentOptions options_;
  const std::string mark_;
  OrchestratorEvents* events_ = nullptr;
  State state_ = State::kNone;
  uint64_t generation_ = 0;
  std::deque<Tail> tails_;  // newest last

  SpawnPlan plan_;
  Spawned process_;
  std::unique_ptr<FdWatch> report_watch_;
  std::unique_ptr<FdWatch> exit_watch_;
  std::unique_ptr<OutputPipe> output_;
  std::unique_ptr<OutputPipe> error_;
  std::optional<OomCounter> oom_;
  Subscription cgroup_timer_;
  AgentExit exit_;
  std::optional<MonotonicTime> kill_due_;
  Subscription kill_timer_;
  // Seen below the agent while its tree still held together.
  std::vector<ProcessEntry> remembered_;
  MonotonicTime collect_until_{};
  Duration collect_pause_{};
  Subscription collect_timer_;

  Subscription child_signal_;
  Subscription orphan_timer_;
  std::vector<ProcessEntry> zombies_seen_;  // at the last look for orphans
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

ChildAgent::Impl::~Impl() {
  *alive_ = false;
  if (state_ == State::kNone) return;
  kill_everything();
  ::waitpid(process_.pid, nullptr, 0);
}

void ChildAgent::Impl::start_agent() {
  if (state_ != State::kNone) std::abort();
  plan_.command = options_.command;
  plan_.working_dir = options_.working_dir;
  std::vector<std::string> additions = {mark_};
  additions.insert(additions.end(), options_.environment.begin(), options_.environment.end());
  plan_.environment = environment_with(additions);

  auto spawned = spawn_agent(plan_);
  if (!spawned) {
    loop_.post([this, alive = alive_, error = std::move(spawned.error())]() mutable {
      if (*alive) events_->on_agent_start_failed(error);
    });
    return;
  }
  state_ = State::kExecuting;
  process_ = std::move(*spawned);
  ++generation_;
  tails_.push_back({generation_, LogTail(options_.log_tail_bytes)});
  if (tails_.size() > log_tails_kept) tails_.pop_front();
  oom_.emplace(process_.pid);
  follow_cgroup(cgroup_follow_min);
  listen(std::move(process_.standard_output), "stdout", output_);
  listen(std::move(process_.standard_error), "stderr", error_);
  report_watch_ = loop_.watch_fd(process_.exec_report.get(), FdEvents::kRead,
                                 [this](FdEvents) { on_exec_report(); });
}

void ChildAgent::Impl::listen(UniqueFd pipe, const char* stream, std::unique_ptr<OutputPipe>& to) {
  to = std::make_unique<OutputPipe>(
      loop_, std::move(pipe), [this, stream, generation = generation_](std::string_view line) {
        log_info("agent_output", {{"stream", stream}, {"generation", generation}, {"line", line}});
        for (Tail& tail : tails_) {
          if (tail.generation == generation) tail.lines.append(line);
        }
      });
}

void ChildAgent::Impl::on_exec_report() {
  const auto error = read_exec_report(process_.exec_report.get(), plan_);
  report_watch_.reset();
  process_.exec_report.reset();
  if (error) {
    fail_start(*error);
    return;
  }
  state_ = State::kRunning;
  exit_watch_ =
      loop_.watch_fd(process_.pidfd.get(), FdEvents::kRead, [this](FdEvents) { on_exited(); });
  events_->on_agent_started({generation_, process_.pid});
}

void ChildAgent::Impl::fail_start(const Error& error) {
  // It is in _exit already, so this does not block.
  ::waitpid(process_.pid, nullptr, 0);
  tails_.pop_back();
  --generation_;
  forget_process();
  events_->on_agent_start_failed(error);
}

void ChildAgent::Impl::stop_agent(Duration grace) {
  if (state_ != State::kExecuting && state_ != State::kRunning) return;
  const MonotonicTime due = loop_.clock().now() + grace;
  if (kill_due_ && *kill_due_ <= due) return;
  const bool first = !kill_due_;
  kill_due_ = due;
  if (grace <= Duration{0}) {
    kill_timer_.cancel();
    kill_everything();
    return;
  }
  if (first) {
    signal_group(SIGTERM);
    // A stopped process would never see it.
    signal_group(SIGCONT);
  }
  kill_timer_ = loop_.add_timer(grace, [this] { kill_everything(); });
}

void ChildAgent::Impl::signal_group(int signo) const {
  // Before setsid in the child there is no group yet.
  if (::kill(-process_.pid, signo) != 0) ::kill(process_.pid, signo);
}

std::vector<ProcessEntry> ChildAgent::Impl::family() const {
  const auto processes = list_processes();
  return find_family(processes, process_.pid, ::getpid(), mark_, remembered_);
}

void ChildAgent::Impl::kill_everything() {
  // Once the agent is dead its descendants are nobody's: remember them while they are its own.
  remembered_ = family();
  signal_group(SIGKILL);
  for (const ProcessEntry& entry : remembered_) signal_process(entry, SIGKILL);
}

// Commands that place themselves in a cgroup do it early; later moves are rare.
void ChildAgent::Impl::follow_cgroup(Duration after) {
  cgroup_timer_ = loop_.add_timer(after, [this, after] {
    oom_->follow();
    follow_cgroup(std::min<Duration>(after * 2, cgroup_follow_max));
  });
}

void ChildAgent::Impl::on_exited() {
  const auto exit = peek_exit(process_.pidfd.get());
  if (!exit) return;
  exit_ = *exit;
  exit_.oom_killed = exit_.signal == SIGKILL && !kill_due_ && oom_->kills() > 0;
  exit_watch_.reset();
  kill_timer_.cancel();
  state_ = State::kCollecting;
  collect_until_ = loop_.clock().now() + milliseconds(leftovers_wait_ms_max);
  collect_pause_ = leftovers_poll_first;
  collect();
}

// The agent's own process stays a zombie until all else is gone: that keeps its PID, and with it
// the group's number, from being given to a stranger.
void ChildAgent::Impl::collect() {
  ::kill(-process_.pid, SIGKILL);
  size_t left = 0;
  // Once dead they show neither mark nor descent any more, so those found are remembered.
  remembered_ = family();
  for (const ProcessEntry& entry : remembered_) {
    if (entry.state == 'Z') {
      // A zombie of another parent is collected once that parent is gone and it comes to us.
      if (entry.parent == ::getpid()) ::waitpid(entry.pid, nullptr, WNOHANG);
      if (entry.parent != ::getpid()) ++left;
      continue;
    }
    signal_process(entry, SIGKILL);
    ++left;
  }
  if (left > 0 && loop_.clock().now() < collect_until_) {
    collect_timer_ = loop_.add_timer(collect_pause_, [this] { collect(); });
    collect_pause_ = std::min(2 * collect_pause_, leftovers_poll_last);
    return;
  }
  if (left > 0) log_warn("agent_leftovers", {{"generation", generation_}, {"processes", left}});
  finish_exit();
}

void ChildAgent::Impl::finish_exit() {
  ::waitpid(process_.pid, nullptr, 0);
  output_->finish();
  error_->finish();
  forget_process();
  events_->on_agent_exited(generation_, exit_);
}

void ChildAgent::Impl::forget_process() {
  state_ = State::kNone;
  report_watch_.reset();
  exit_watch_.reset();
  output_.reset();
  error_.reset();
  cgroup_timer_.cancel();
  oom_.reset();
  process_ = Spawned{};
  kill_due_.reset();
  kill_timer_.cancel();
  remembered_.clear();
}

std::string ChildAgent::Impl::log_tail(uint64_t generation) const {
  for (const Tail& tail : tails_) {
    if (tail.generation == generation) return tail.lines.text();
  }
  return {};
}

void ChildAgent::Impl::look_for_orphans_later() {
  if (orphan_timer_) return;
  orphan_timer_ = loop_.add_timer(milliseconds(orphan_reap_after_ms), [this] {
    orphan_timer_.cancel();
    reap_orphans();
  });
}

// Whoever starts a process in Remora collects it soon; a zombie that stays is an orphan's.
void ChildAgent::Impl::reap_orphans() {
  siginfo_t info{};
  const bool any = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
  if (!any) {
    zombies_seen_.clear();
    return;
  }
  std::vector<ProcessEntry> zombies;
  for (const ProcessEntry& entry : list_processes()) {
    if (entry.state != 'Z' || entry.parent != ::getpid() || entry.pid == process_.pid) continue;
    const bool stayed = std::any_of(zombies_seen_.begin(), zombies_seen_.end(), [&](const auto& z) {
      return z.pid == entry.pid && z.start_ticks == entry.start_ticks;
    });
    if (stayed) {
      ::waitpid(entry.pid, nullptr, WNOHANG);
    } else {
      zombies.push_back(entry);
    }
  }
  zombies_seen_ = std::move(zombies);
  if (!zombies_seen_.empty()) look_for_orphans_later();
}

ChildAgent::ChildAgent(Loop& loop, ChildAgentOptions options)
    : impl_(std::make_unique<Impl>(loop, std::move(options))) {}
ChildAgent::~ChildAgent() = default;
void ChildAgent::set_events(OrchestratorEvents& events) { impl_->set_events(events); }
void ChildAgent::start_agent() { impl_->start_agent(); }
void ChildAgent::stop_agent(Duration grace) { impl_->stop_agent(grace); }
std::string ChildAgent::log_tail(uint64_t generation) const { return impl_->log_tail(generation); }
void ChildAgent::set_options(ChildAgentOptions options) { impl_->set_options(std::move(options)); }

}  // namespace remora
