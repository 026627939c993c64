#include "sidecar/health/classify.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace remora {
namespace {

// Bytes through read and write calls per second of the window that count as work: parked probes
// and a logger's heartbeat stay below it.
constexpr uint64_t kWorkingIoBytesPerSecond = 4096;
// Descriptors left below which nothing can be accepted or opened any more.
constexpr uint64_t kDescriptorsSpare = 2;

struct ExhaustionSign {
  std::string_view text;  // as runtimes print it
  std::string_view resource;
};
constexpr ExhaustionSign kExhaustionSigns[] = {
    {"MemoryError", "memory"},
    {"std::bad_alloc", "memory"},
    {"Cannot allocate memory", "memory"},
    {"OutOfMemoryError", "memory"},
    {"heap out of memory", "memory"},
    {"Too many open files", "file descriptors"},
    {"No space left on device", "disk space"},
    {"can't start new thread", "threads"},
    {"Resource temporarily unavailable", "threads"},
};

const ExhaustionSign* exhaustion_in(std::string_view log_tail) {
  for (const ExhaustionSign& sign : kExhaustionSigns) {
    if (log_tail.find(sign.text) != std::string_view::npos) return &sign;
  }
  return nullptr;
}

std::string_view last_line(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  const size_t at = text.rfind('\n');
  return at == std::string_view::npos ? text : text.substr(at + 1);
}

std::string describe_exit(const AgentExited& exited) {
  if (exited.exit_code < 0) return "ended, exit code unknown";
  if (exited.signal == 0) return fmt::format("exited with code {}", exited.exit_code);
  const char* name = ::sigabbrev_np(exited.signal);
  return fmt::format("killed by signal {} (SIG{})", exited.signal, name == nullptr ? "?" : name);
}

std::string describe_thread(const ThreadState& thread) {
  std::string text = fmt::format("thread {} ({}) state {}", thread.tid, thread.name, thread.state);
  if (!thread.waits_in.empty()) text += " in " + thread.waits_in;
  if (thread.untimed_futex) text += ", on a lock without a time limit";
  return text;
}

size_t index_of(ProbeKind kind) { return static_cast<size_t>(kind); }

}  // namespace

std::optional<Fault> Classifier::observe(const Observation& observation) {
  return std::visit([&](const auto& what) { return on(observation.at, what); }, observation.what);
}

std::optional<Fault> Classifier::raise(Fault fault) {
  bool& active = active_[static_cast<size_t>(fault.kind)];
  if (std::exchange(active, true)) return std::nullopt;
  return fault;
}

void Classifier::forget_agent() {
  active_.fill(false);
  probes_ = {};
  marks_.clear();
  last_sample_.reset();
  last_deadlock_.reset();
  probe_arrivals_ = 0;
  overload_by_cpu_ = false;
}

std::optional<Fault> Classifier::on(MonotonicTime at, const AgentStarted& started) {
  forget_agent();
  generation_ = started.generation;
  running_ = true;
  started_at_ = last_explained_at_ = last_idle_at_ = at;
  return std::nullopt;
}

std::optional<Fault> Classifier::on(MonotonicTime at, const AgentExited& exited) {
  forget_agent();
  running_ = false;
  if (exited.requested || (exited.exit_code == 0 && exited.signal == 0)) return std::nullopt;
  Fault fault{.kind = FaultKind::kCrash,
              .summary = "the agent " + describe_exit(exited),
              .evidence = {{"exit", describe_exit(exited)}},
              .began_at = at,
              .detected_at = at};
  const ExhaustionSign* sign = exhaustion_in(exited.log_tail_hint);
  if (exited.oom_killed) {
    fault.kind = FaultKind::kResourceExhaustion;
    fault.summary += ": out of memory";
    fault.evidence.push_back({"oom", "the cgroup's oom_kill counter rose"});
  } else if (sign != nullptr) {
    fault.kind = FaultKind::kResourceExhaustion;
    fault.summary += fmt::format(": out of {}", sign->resource);
    fault.evidence.push_back({"log", fmt::format("its last output says \"{}\"", sign->text)});
  }
  if (const std::string_view line = last_line(exited.log_tail_hint); !line.empty()) {
    fault.evidence.push_back({"log", "last line: " + std::string(line)});
  }
  return raise(std::move(fault));
}

std::optional<Fault> Classifier::on(MonotonicTime at, const ProbeResult& result) {
  ProbeState& state = probes_[index_of(result.probe)];
  ++probe_arrivals_;
  const bool failed = result.outcome == ProbeOutcome::kFailure;
  if (failed && !state.failing) state.failing_since = at;
  state.failing = failed;
  if (!failed) state.explained = 0;
  const bool past_threshold = failed && result.consecutive >= result.failure_threshold;
  if (past_threshold && !state.past_threshold) state.sampled = false;
  state.past_threshold = past_threshold;
  state.last = result;
  return judge_probe(at, result.probe);
}

// What a probe past its threshold means depends on what else the agent does.
std::optional<Fault> Classifier::judge_probe(MonotonicTime at, ProbeKind kind) {
  const ProbeState& state = probes_[index_of(kind)];
  if (!running_ || kind == ProbeKind::kReadiness || !state.past_threshold) return std::nullopt;
  const bool past_window = at - state.failing_since >= policy_.hang_window;
  if (kind == ProbeKind::kLiveness && last_sample_ && last_sample_->process_seen) {
    // While nothing was suspected, calls were not looked at: the next sample has them.
    if (!state.sampled && !past_window) return std::nullopt;
    const Usage recent = usage_since(at - recent_window);
    if (is_starved(recent)) {
      if (!past_window) return std::nullopt;
      overload_by_cpu_ = true;
      return raise(starved_fault(at, recent));
    }
    if (const OutboundCall* call = explaining_call()) {
      return past_window ? raise(dependency_fault(at, call)) : std::nullopt;
    }
    if (is_working(recent) && !past_window) return std::nullopt;
    // The dependency is back, and all who waited for it at once: each is asked anew first.
    const uint32_t unexplained =
        state.last.consecutive - std::min(state.explained, state.last.consecutive);
    if (unexplained < state.last.failure_threshold) return std::nullopt;
  }
  Fault fault{.kind = FaultKind::kHang,
              .summary = fmt::format("the {} probe failed {} times in a row", probe_kind_name(kind),
                                     state.last.consecutive),
              .evidence = {{"probe", state.last.reason}},
              .began_at = state.failing_since,
              .detected_at = at};
  add_progress_evidence(fault.evidence);
  return raise(std::move(fault));
}

std::optional<Fault> Classifier::on(MonotonicTime at, const ProgressSample& sample) {
  if (!running_ || sample.generation != generation_) return std::nullopt;
  remember(at, sample);
  for (ProbeState& probe : probes_) probe.sampled = true;
  const Usage recent = usage_since(at - recent_window);
  if (overload_by_cpu_ && !is_starved(recent)) {
    overload_by_cpu_ = false;
    if (at - last_rejection_at_ >= policy_.overload_clear_after) clear(FaultKind::kOverload);
  }
  if (std::optional<Fault> fault = judge_progress(at)) return fault;
  return judge_probe(at, ProbeKind::kLiveness);
}

void Classifier::remember(MonotonicTime at, const ProgressSample& sample) {
  last_sample_ = sample;
  last_sample_at_ = at;
  degraded_ = sample.degraded;
  if (sample.in_flight == 0) last_idle_at_ = at;
  if (explaining_call() != nullptr) {
    last_explained_at_ = at;
    ProbeState& liveness = probes_[index_of(ProbeKind::kLiveness)];
    if (liveness.failing) liveness.explained = liveness.last.consecutive;
  }
  const Mark mark{.at = at,
                  .cpu_ns = sample.cpu_ns,
                  .runqueue_wait_ns = sample.runqueue_wait_ns,
                  .bytes_from_agent = sample.bytes_from_agent,
                  .io_bytes = sample.io_bytes,
                  .arrivals = sample.requests_started + probe_arrivals_,
                  .throttled = sample.throttled,
                  .oom_kills = sample.oom_kills};
  const Duration resolution =
      std::max(policy_.hang_window, recent_window) / static_cast<int64_t>(marks_max / 2);
  // The newest mark always stays; the one before it goes when it is too near to its predecessor.
  if (marks_.size() >= 2 && marks_.back().at - marks_[marks_.size() - 2].at < resolution) {
    marks_.pop_back();
  }
  marks_.push_back(mark);
  const MonotonicTime oldest_needed = at - std::max(policy_.hang_window, recent_window);
  // One mark from before the window is kept: the window is measured from it.
  while (marks_.size() > marks_max || (marks_.size() > 2 && marks_[1].at <= oldest_needed)) {
    marks_.pop_front();
  }
}

Classifier::Usage Classifier::usage_since(MonotonicTime from) const {
  Usage usage;
  if (marks_.size() < 2) return usage;
  size_t first = 0;
  while (first + 1 < marks_.size() - 1 && marks_[first + 1].at <= from) ++first;
  const Mark& a = marks_[first];
  const Mark& b = marks_.back();
  const auto grown = [](uint64_t before, uint64_t after) {
    return after > before ? after - before : 0;  // processes that ended take their counters along
  };
  usage.span = b.at - a.at;
  usage.cpu = Duration(static_cast<int64_t>(grown(a.cpu_ns, b.cpu_ns)));
  usage.runqueue_wait =
      Duration(static_cast<int64_t>(grown(a.runqueue_wait_ns, b.runqueue_wait_ns)));
  usage.throttled = b.throttled > a.throttled ? b.throttled - a.throttled : Duration::zero();
  usage.bytes = grown(a.bytes_from_agent, b.bytes_from_agent);
  const double seconds = to_seconds(usage.span);
  if (static_cast<double>(grown(a.io_bytes, b.io_bytes)) >
      seconds * static_cast<double>(kWorkingIoBytesPerSecond)) {
    usage.bytes += grown(a.io_bytes, b.io_bytes);
  }
  usage.cpu_allowed = std::chrono::duration_cast<Duration>(
      seconds * std::chrono::duration<double>(policy_.background_cpu_per_second_max));
  usage.cpu_allowed +=
      policy_.cpu_per_arrival_max * static_cast<int64_t>(grown(a.arrivals, b.arrivals));
  usage.samples = marks_.size() - first;
  return usage;
}

bool Classifier::is_starved(const Usage& usage) const {
  if (usage.span <= Duration::zero()) return false;
  const double held_back = to_seconds(std::max(usage.throttled, usage.runqueue_wait));
  return held_back >= policy_.starved_share_min * to_seconds(usage.span);
}

bool Classifier::is_saturated(const Usage& usage) const {
  if (!last_sample_ || last_sample_->cpus_available <= 0 || usage.span <= Duration::zero()) {
    return false;
  }
  return to_seconds(usage.cpu) >=
         policy_.saturated_share_min * last_sample_->cpus_available * to_seconds(usage.span);
}

bool Classifier::is_working(const Usage& usage) const {
  return usage.bytes > 0 || usage.cpu > usage.cpu_allowed;
}

const OutboundCall* Classifier::explaining_call() const {
  if (!last_sample_) return nullptr;
  for (const OutboundCall& call : last_sample_->outbound) {
    // An answer that has been silent for a whole window is no longer coming in.
    const bool explains =
        call.state != OutboundCall::State::kStreaming || call.pending_for < policy_.hang_window;
    if (explains) return &call;
  }
  return nullptr;
}

bool Classifier::out_of_descriptors() const {
  return last_sample_ && last_sample_->fds_max > 0 &&
         last_sample_->fds_open + kDescriptorsSpare >= last_sample_->fds_max;
}

std::optional<Fault> Classifier::judge_progress(MonotonicTime at) {
  const ProgressSample& sample = *last_sample_;
  const bool waiting_long = sample.in_flight > 0 && sample.oldest_age >= policy_.hang_window;
  const OutboundCall* call = explaining_call();
  if (call == nullptr) clear(FaultKind::kDependency);
  if (!waiting_long) {
    if (!probes_[index_of(ProbeKind::kLiveness)].past_threshold &&
        !probes_[index_of(ProbeKind::kStartup)].past_threshold) {
      clear(FaultKind::kHang);
    }
    return std::nullopt;
  }
  if (!sample.process_seen) return std::nullopt;  // nothing is known: nothing is claimed
  const Usage usage = usage_since(at - policy_.hang_window);
  if (usage.samples < window_samples_min || usage.span < policy_.hang_window * 9 / 10) {
    return std::nullopt;
  }
  if (is_starved(usage)) {
    overload_by_cpu_ = true;
    return raise(starved_fault(at, usage));
  }
  if (is_working(usage)) return std::nullopt;
  if (call != nullptr) {
    return call->pending_for >= policy_.hang_window ? raise(dependency_fault(at, call))
                                                    : std::nullopt;
  }
  // It was waiting for somebody until lately: the window counts from then.
  if (at - last_explained_at_ < policy_.hang_window) return std::nullopt;
  return raise(stalled_fault(at, usage));
}

Fault Classifier::stalled_fault(MonotonicTime at, const Usage& usage) const {
  const ProgressSample& sample = *last_sample_;
  Fault fault{.kind = FaultKind::kHang,
              .summary = fmt::format("{} has been in the agent for {:.1f} s without any progress",
                                     sample.oldest_request, to_seconds(sample.oldest_age)),
              .evidence = {},
              .began_at = at - sample.oldest_age,
              .detected_at = at};
  if (out_of_descriptors()) {
    fault.kind = FaultKind::kResourceExhaustion;
    fault.summary += ": out of file descriptors";
    fault.evidence.push_back({"descriptors", fmt::format("{} of {} descriptors are open",
                                                         sample.fds_open, sample.fds_max)});
  }
  fault.evidence.push_back(
      {"progress", fmt::format("in the last {:.1f} s it used {:.0f} ms of CPU, moved no byte and "
                               "made no call",
                               to_seconds(usage.span), to_seconds(usage.cpu) * 1e3)});
  add_progress_evidence(fault.evidence);
  return fault;
}

Fault Classifier::dependency_fault(MonotonicTime at, const OutboundCall* call) const {
  Fault fault{.kind = FaultKind::kDependency,
              .summary = fmt::format("the agent waits for {} since {:.1f} s", call->peer,
                                     to_seconds(call->pending_for)),
              .evidence = {},
              .began_at = at - call->pending_for,
              .detected_at = at};
  for (const OutboundCall& pending : last_sample_->outbound) {
    fault.evidence.push_back(
        {"outbound",
         fmt::format("{}: {} for {:.1f} s", pending.peer,
                     pending.state == OutboundCall::State::kConnecting ? "connecting"
                                                                       : "awaiting an answer",
                     to_seconds(pending.pending_for))});
  }
  add_progress_evidence(fault.evidence);
  return fault;
}

Fault Classifier::starved_fault(MonotonicTime at, const Usage& usage) const {
  Fault fault{.kind = FaultKind::kOverload,
              .summary = "the agent is short of CPU",
              .evidence = {},
              .began_at = at - usage.span,
              .detected_at = at};
  fault.evidence.push_back(
      {"cpu", fmt::format("in the last {:.1f} s its quota held it back for {:.1f} s, it waited "
                          "{:.1f} s for a free CPU, and it ran for {:.1f} s",
                          to_seconds(usage.span), to_seconds(usage.throttled),
                          to_seconds(usage.runqueue_wait), to_seconds(usage.cpu))});
  return fault;
}

void Classifier::add_progress_evidence(std::vector<EvidenceItem>& evidence) const {
  if (!last_sample_) return;
  const ProgressSample& sample = *last_sample_;
  if (sample.in_flight > 0) {
    evidence.push_back(
        {"request", fmt::format("{} in the agent, the oldest ({}) for {:.1f} s", sample.in_flight,
                                sample.oldest_request, to_seconds(sample.oldest_age))});
  }
  if (last_deadlock_ && last_deadlock_->all_untimed_futex) {
    evidence.push_back({"lock", fmt::format("all {} threads wait for locks without a time limit: a "
                                            "deadlock of locks whose owner can't be seen from "
                                            "outside is likely",
                                            last_deadlock_->threads)});
  }
  if (sample.has_event_loop && !sample.threads.empty() &&
      sample.threads.front().waits_in != "epoll_wait" && !sample.threads.front().waits_in.empty()) {
    evidence.push_back({"event_loop", "the main thread has an event loop but waits in " +
                                          sample.threads.front().waits_in});
  }
  if (sample.accept_backlog > 0) {
    evidence.push_back(
        {"backlog", fmt::format("{} connections wait to be accepted", sample.accept_backlog)});
  }
  for (const ThreadState& thread : sample.threads) {
    evidence.push_back({"thread", describe_thread(thread)});
  }
  for (const std::string& what : sample.degraded) evidence.push_back({"degraded", what});
}

std::optional<Fault> Classifier::on(MonotonicTime at, const DeadlockSample& sample) {
  if (!running_ || sample.generation != generation_ || !policy_.deadlock) return std::nullopt;
  const bool same =
      last_deadlock_ && last_deadlock_->pid == sample.pid && last_deadlock_->cycle == sample.cycle;
  if (!same) deadlock_first_seen_ = at;
  last_deadlock_ = sample;
  if (sample.cycle.empty()) {
    clear(FaultKind::kDeadlock);
    return std::nullopt;
  }
  if (!same) return std::nullopt;  // once is no proof
  Fault fault{.kind = FaultKind::kDeadlock,
              .summary = fmt::format("{} threads wait for each other's locks", sample.cycle.size()),
              .evidence = {},
              .began_at = deadlock_first_seen_,
              .detected_at = at};
  if (last_sample_ && last_sample_->in_flight > 0) {
    fault.began_at = std::min(fault.began_at, at - last_sample_->oldest_age);
  }
  for (const DeadlockEdge& edge : sample.cycle) {
    fault.evidence.push_back(
        {"lock", fmt::format("thread {} ({}) waits for {} {:#x}{}{} held by thread {} ({})",
                             edge.tid, edge.thread_name, edge.lock_kind, edge.lock_address,
                             edge.lock_place.empty() ? "" : " in ", edge.lock_place, edge.owner_tid,
                             edge.owner_name)});
  }
  add_progress_evidence(fault.evidence);
  return raise(std::move(fault));
}

std::optional<Fault> Classifier::on(MonotonicTime at, const OverloadSample& sample) {
  const bool grew = rejected_known_ && sample.rejected > rejected_;
  const uint64_t since = grew ? sample.rejected - rejected_ : 0;
  rejected_known_ = true;
  rejected_ = sample.rejected;
  if (!grew) {
    if (!overload_by_cpu_ && at - last_rejection_at_ >= policy_.overload_clear_after) {
      clear(FaultKind::kOverload);
    }
    return std::nullopt;
  }
  last_rejection_at_ = at;
  Fault fault{.kind = FaultKind::kOverload,
              .summary = fmt::format("{} requests were turned away at the limit of {} in flight",
                                     since, sample.in_flight_max),
              .evidence = {},
              .began_at = at,
              .detected_at = at};
  fault.evidence.push_back({"limit", fmt::format("{} requests in flight of {}", sample.in_flight,
                                                 sample.in_flight_max)});
  if (is_saturated(usage_since(at - recent_window))) {
    fault.evidence.push_back({"cpu", "the agent uses all the CPU that it may use"});
  }
  return raise(std::move(fault));
}

std::optional<Fault> Classifier::on(MonotonicTime at, const StateChecked& checked) {
  clear(FaultKind::kStateDamaged);
  if (!checked.damaged) return std::nullopt;
  return raise(Fault{.kind = FaultKind::kStateDamaged,
                     .summary = "the state directory is damaged: " + checked.problem,
                     .evidence = {{"state", checked.problem}},
                     .began_at = at,
                     .detected_at = at});
}

std::string_view Classifier::activity() const {
  if (!running_) return generation_ == 0 ? "unknown" : "gone";
  if (!last_sample_ || marks_.size() < 2) return "unknown";
  const Usage recent = usage_since(last_sample_at_ - recent_window);
  if (is_starved(recent)) return "starved";
  if (last_sample_->in_flight == 0 && !is_working(recent)) return "idle";
  if (is_working(recent)) return "busy";
  if (explaining_call() != nullptr) return "waiting";
  return "stalled";
}

}  // namespace remora
