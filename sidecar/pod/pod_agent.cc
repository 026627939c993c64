#include "sidecar/pod/pod_agent.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/process_group_quiesce.h"
#include "sidecar/base/handle.h"
#include "sidecar/base/log.h"
#include "sidecar/health/oom_counter.h"
#include "sidecar/health/process_tree.h"
#include "sidecar/pod/pidfd_exit.h"

namespace remora {
namespace {

using std::chrono::milliseconds;

// A process has its final environment from its exec on, which comes soon after its birth: one that
// has been without the mark for so long is somebody else.
constexpr milliseconds unmarked_watch{5'000};
// An absence that is worth a line in the log.
constexpr milliseconds absence_told_after{2'000};
constexpr Duration cgroup_follow_interval = milliseconds(5'000);
constexpr milliseconds exit_code_poll{2};
// When an agent ends, its container's other processes (kubectl exec, an exec probe) live on for
// moments until the runtime ends them. They carry the mark, too. Those that are older than this are
// known by it; a younger one is held but not begun with before it has outlived the others.
constexpr uint64_t leftover_age_s_min = 1;
constexpr milliseconds settle{100};
// Nothing is left of a container after this; who carries the mark then is the next instance.
constexpr milliseconds leftovers_live_max{5'000};

AgentExit exit_of(std::optional<int> status) {
  if (!status) return {.exit_code = exit_code_unknown, .signal = 0, .oom_killed = false};
  if (WIFSIGNALED(*status)) {
    return {.exit_code = 128 + WTERMSIG(*status), .signal = WTERMSIG(*status), .oom_killed = false};
  }
  return {.exit_code = WEXITSTATUS(*status), .signal = 0, .oom_killed = false};
}

}  // namespace

class PodAgent::Impl {
 public:
  Impl(Loop& loop, PodAgentOptions options)
      : loop_(loop), options_(std::move(options)), mark_("REMORA_AGENT=" + options_.container) {
    look_later(Duration{0});
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    *alive_ = false;
    if (hold_) static_cast<void>(hold_->cont());
  }

  void set_events(OrchestratorEvents& events) { events_ = &events; }
  void leave_stopping_to_others() { stopping_is_ours_ = false; }
  void start_agent();
  void stop_agent(Duration grace);
  std::string waits_for() const;

 private:
  enum class State {
    kAbsent,
    kHeld,     // found before it was asked for
    kRunning,  // asked for and found
    kEnded,    // its exit code is being found out
  };

  void look_later(Duration after);
  void look();
  std::optional<ProcessEntry> find_instance();
  bool is_marked(const ProcessEntry& entry);
  void take(const ProcessEntry& entry);
  void hold();
  void begin();
  void follow_cgroup();
  void on_ended();
  void note_leftovers();
  void find_out_exit();
  void forget();
  void signal_agent(int signo) const;
  void cancel_start();

  Loop& loop_;
  const PodAgentOptions options_;
  const std::string mark_;
  OrchestratorEvents* events_ = nullptr;
  State state_ = State::kAbsent;
  bool wanted_ = false;  // start_agent was called for the next instance
  bool stopping_is_ours_ = true;
  uint64_t generation_ = 0;

  ProcessEntry process_;
  UniqueFd pidfd_;
  std::unique_ptr<FdWatch> end_watch_;
  std::optional<checkpoint::Quiesce> hold_;
  std::optional<OomCounter> oom_;
  bool kill_sent_ = false;
  std::optional<MonotonicTime> kill_due_;
  MonotonicTime ended_at_ = MonotonicTime::min();  // the last instance
  MonotonicTime taken_at_{};
  uint32_t ends_in_a_row_ = 0;  // as a kubelet counts them

  // Unmarked processes, by PID and birth, and since when they are known.
  std::map<std::pair<pid_t, uint64_t>, MonotonicTime> strangers_;
  std::vector<ProcessEntry> leftovers_;  // of the last instance
  std::optional<MonotonicTime> absent_since_;
  bool absence_told_ = false;
  Subscription look_timer_;
  Subscription kill_timer_;
  Subscription cgroup_timer_;
  Subscription exit_timer_;
  Subscription begin_timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

void PodAgent::Impl::look_later(Duration after) {
  look_timer_ = loop_.add_timer(after, [this] { look(); });
}

void PodAgent::Impl::look() {
  const MonotonicTime now = loop_.now();
  if (ended_at_ != MonotonicTime::min() && now - ended_at_ > leftovers_live_max) {
    leftovers_.clear();
  }
  if (const auto found = find_instance()) return take(*found);
  if (!absent_since_) absent_since_ = now;
  if (!absence_told_ && now - *absent_since_ >= absence_told_after) {
    absence_told_ = true;
    log_info(
        "agent_awaited",
        {{"container", options_.container},
         {"backoff_s", to_seconds(kubelet_backoff(ends_in_a_row_))},
         {"reason", "no process carries " + mark_ +
                        "; the runtime starts it, after its back-off (a kubelet's is given)"}});
  }
  look_later(milliseconds(pod_look_interval_ms));
}

bool PodAgent::Impl::is_marked(const ProcessEntry& entry) {
  const std::pair key(entry.pid, entry.start_ticks);
  const auto known = strangers_.find(key);
  if (known != strangers_.end() && loop_.now() - known->second > unmarked_watch) return false;
  if (environment_holds(entry.pid, mark_)) return true;
  if (known == strangers_.end()) strangers_.emplace(key, loop_.now());
  return false;
}

// The container's first process: the oldest one with the mark whose parent does not have it. What
// is started in the container later (kubectl exec, an exec probe) has the mark too, but is younger.
std::optional<ProcessEntry> PodAgent::Impl::find_instance() {
  const std::vector<ProcessEntry> processes = list_processes();
  std::erase_if(strangers_, [&](const auto& item) {
    return std::ranges::none_of(processes, [&](const ProcessEntry& entry) {
      return item.first == std::pair(entry.pid, entry.start_ticks);
    });
  });
  std::vector<ProcessEntry> marked;
  for (const ProcessEntry& entry : processes) {
    if (entry.state == 'Z' || entry.pid == ::getpid()) continue;
    const bool left_over = std::ranges::any_of(leftovers_, [&](const ProcessEntry& old) {
      return old.pid == entry.pid && old.start_ticks == entry.start_ticks;
    });
    if (!left_over && is_marked(entry)) marked.push_back(entry);
  }
  const auto has_marked_parent = [&](const ProcessEntry& entry) {
    return std::ranges::any_of(
        marked, [&](const ProcessEntry& other) { return other.pid == entry.parent; });
  };
  std::erase_if(marked, has_marked_parent);
  const auto oldest = std::ranges::min_element(marked, {}, [](const ProcessEntry& entry) {
    return std::pair(entry.start_ticks, entry.pid);
  });
  return oldest == marked.end() ? std::nullopt : std::optional(*oldest);
}

void PodAgent::Impl::take(const ProcessEntry& entry) {
  pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, entry.pid, 0)));
  if (!pidfd_) return look_later(milliseconds(pod_look_interval_ms));
  process_ = entry;
  taken_at_ = loop_.now();
  absent_since_.reset();
  absence_told_ = false;
  kill_sent_ = false;
  state_ = State::kHeld;
  oom_.emplace(entry.pid);
  // A descriptor of a process that is gone already is readable at once.
  end_watch_ = loop_.watch_fd(pidfd_.get(), FdEvents::kRead, [this](FdEvents) { on_ended(); });
  const bool settled = ended_at_ == MonotonicTime::min() || loop_.now() - ended_at_ >= settle;
  if (wanted_ && settled) return begin();
  hold();
  if (!settled) {
    begin_timer_ = loop_.add_timer(ended_at_ + settle - loop_.now(), [this] {
      begin_timer_.cancel();
      if (wanted_) begin();
    });
  }
}

void PodAgent::Impl::hold() {
  if (process_.group != process_.pid) {
    log_warn("agent_not_held", {{"container", options_.container},
                                {"pid", process_.pid},
                                {"reason", "it does not lead its process group"}});
    return;
  }
  hold_ =
      checkpoint::process_group_quiesce(process_.pid, milliseconds(pod_hold_ms_max), loop_.clock());
  if (const Result<void> stopped = hold_->stop(); !stopped) {
    log_warn("agent_not_held", {{"container", options_.container},
                                {"pid", process_.pid},
                                {"reason", stopped.error().message}});
    hold_.reset();
    return;
  }
  log_debug("agent_held", {{"container", options_.container}, {"pid", process_.pid}});
}

void PodAgent::Impl::start_agent() {
  wanted_ = true;
  if (state_ == State::kHeld && !begin_timer_) begin();
}

void PodAgent::Impl::begin() {
  wanted_ = false;
  state_ = State::kRunning;
  ++generation_;
  leftovers_.clear();
  if (hold_) {
    if (const auto quiet = hold_->cont(); !quiet) {
      log_warn("agent_not_continued", {{"reason", quiet.error().message}});
    }
    hold_.reset();
  }
  follow_cgroup();
  loop_.post([this, alive = alive_, instance = AgentInstance{generation_, process_.pid}] {
    // It may have ended meanwhile: then that is told after this, never before.
    if (*alive) events_->on_agent_started(instance);
  });
}

void PodAgent::Impl::follow_cgroup() {
  cgroup_timer_ = loop_.add_timer(cgroup_follow_interval, [this] {
    oom_->follow();
    follow_cgroup();
  });
}

void PodAgent::Impl::signal_agent(int signo) const {
  // The pidfd keeps us from hitting a stranger: a group lives on under its leader's number only
  // while the leader is there or members are left.
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), 0, nullptr, 0) != 0) return;
  if (process_.group != process_.pid || ::kill(-process_.pid, signo) != 0) {
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signo, nullptr, 0);
  }
}

void PodAgent::Impl::stop_agent(Duration grace) {
  if (state_ != State::kRunning) return cancel_start();
  if (!stopping_is_ours_) return;
  grace = options_.stop_grace.value_or(grace);
  const MonotonicTime due = loop_.clock().now() + grace;
  if (kill_due_ && *kill_due_ <= due) return;
  const bool first = !kill_due_;
  kill_due_ = due;
  const auto kill_now = [this] {
    kill_sent_ = true;
    signal_agent(SIGKILL);
  };
  if (grace <= Duration{0}) return kill_now();
  if (first) {
    signal_agent(options_.stop_signal);
    signal_agent(SIGCONT);
  }
  kill_timer_ = loop_.add_timer(grace, kill_now);
}

// Nobody may wait for an instance that nobody starts any more.
void PodAgent::Impl::cancel_start() {
  if (!std::exchange(wanted_, false)) return;
  if (state_ == State::kHeld) {
    // One that stands still would not see the signals of whoever ends it.
    if (hold_) static_cast<void>(std::exchange(hold_, std::nullopt)->cont());
    if (stopping_is_ours_) signal_agent(SIGTERM);
  }
  loop_.post([this, alive = alive_] {
    if (!*alive) return;
    events_->on_agent_start_failed(
        make_error(ErrorCode::kCancelled, ErrorSource::kAgent, "ended before it began").error());
  });
}

std::string PodAgent::Impl::waits_for() const {
  if (!wanted_ || state_ != State::kAbsent || !absent_since_) return {};
  const double waited_s = to_seconds(loop_.clock().now() - *absent_since_);
  if (ends_in_a_row_ == 0) {
    return fmt::format("the runtime to start container {}, for {:.1f} s", options_.container,
                       waited_s);
  }
  return fmt::format(
      "the runtime to start container {} again, for {:.1f} s; a kubelet's back-off after {} ends "
      "in a row: {:g} s",
      options_.container, waited_s, ends_in_a_row_, to_seconds(kubelet_backoff(ends_in_a_row_)));
}

void PodAgent::Impl::on_ended() {
  end_watch_.reset();
  begin_timer_.cancel();
  kill_timer_.cancel();
  cgroup_timer_.cancel();
  const bool ran = state_ == State::kRunning;
  state_ = State::kEnded;
  if (hold_) static_cast<void>(std::exchange(hold_, std::nullopt)->cont());
  const bool ran_long = loop_.now() - taken_at_ > milliseconds(kubelet_backoff_forgotten_ms);
  ends_in_a_row_ = ran_long ? 1 : ends_in_a_row_ + 1;
  ended_at_ = loop_.now();
  note_leftovers();
  if (!ran) {
    log_info("agent_ended_unstarted", {{"container", options_.container}, {"pid", process_.pid}});
    forget();
    return;
  }
  find_out_exit();
}

void PodAgent::Impl::note_leftovers() {
  const uint64_t now = ticks_since_boot();
  for (const ProcessEntry& entry : list_processes()) {
    const bool is_old = entry.start_ticks + leftover_age_s_min * ticks_per_second() < now;
    if (is_old && environment_holds(entry.pid, mark_)) leftovers_.push_back(entry);
  }
}

// Its parent, outside the pod, collects it within milliseconds.
void PodAgent::Impl::find_out_exit() {
  const std::optional<int> status = wait_status_of(pidfd_.get(), process_.pid);
  if (!status && loop_.now() - ended_at_ < milliseconds(pod_exit_code_wait_ms_max)) {
    exit_timer_ = loop_.add_timer(exit_code_poll, [this] { find_out_exit(); });
    return;
  }
  AgentExit exit = exit_of(status);
  const bool may_be_oom = exit.signal == SIGKILL || exit.exit_code == exit_code_unknown;
  exit.oom_killed = may_be_oom && !kill_sent_ && oom_->kills() > 0;
  forget();
  loop_.post([this, alive = alive_, generation = generation_, exit] {
    if (*alive) events_->on_agent_exited(generation, exit);
  });
}

void PodAgent::Impl::forget() {
  state_ = State::kAbsent;
  pidfd_.reset();
  oom_.reset();
  kill_due_.reset();
  look_later(Duration{0});
}

Duration kubelet_backoff(uint32_t ends_in_a_row) {
  constexpr std::chrono::seconds first(10);
  constexpr std::chrono::seconds longest(300);
  if (ends_in_a_row < 2) return Duration{0};
  const uint32_t doublings = std::min(ends_in_a_row - 2, 5U);
  return std::min(first * (1U << doublings), longest);
}

PodAgent::PodAgent(Loop& loop, PodAgentOptions options)
    : impl_(std::make_unique<Impl>(loop, std::move(options))) {}
PodAgent::~PodAgent() = default;
void PodAgent::leave_stopping_to_others() { impl_->leave_stopping_to_others(); }
void PodAgent::set_events(OrchestratorEvents& events) { impl_->set_events(events); }
void PodAgent::start_agent() { impl_->start_agent(); }
void PodAgent::stop_agent(Duration grace) { impl_->stop_agent(grace); }
std::string PodAgent::log_tail(uint64_t /*generation*/) const { return {}; }
std::string PodAgent::waits_for() const { return impl_->waits_for(); }

}  // namespace remora
