#include "sidecar/health/probes.h"

#include <algorithm>
#include <utility>

#include "sidecar/health/probe_attempt.h"

namespace remora {

std::unique_ptr<ProbeAttempt> start_probe(Loop& loop, const ProbeAction& action, Duration timeout,
                                          ProbeDone done) {
  return std::visit(
      [&](const auto& probe) { return start_attempt(loop, probe, timeout, std::move(done)); },
      action);
}

std::string answer_excerpt(std::string_view answer) {
  size_t size = std::min(answer.size(), probe_reason_bytes_max);
  const auto continues = [](char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; };
  while (size > 0 && size < answer.size() && continues(answer[size])) --size;
  std::string text(answer.substr(0, size));
  constexpr char kDelete = 0x7F;
  for (char& c : text) {
    if (static_cast<uint8_t>(c) < ' ' || c == kDelete) c = ' ';
  }
  const size_t begin = text.find_first_not_of(' ');
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

// One probe's schedule and thresholds.
class Prober::Track {
 public:
  using Report = std::move_only_function<void(const ProbeResult&)>;

  Track(Loop& loop, ProbeKind kind, ProbeSpec spec, Starter& starter, Report report)
      : loop_(loop),
        kind_(kind),
        spec_(std::move(spec)),
        starter_(starter),
        report_(std::move(report)),
        // An agent is alive until proven otherwise, and ready only once it has said so.
        healthy_(kind == ProbeKind::kLiveness) {}

  Track(const Track&) = delete;
  Track& operator=(const Track&) = delete;

  void begin(Duration delay) {
    timer_ = loop_.add_timer(delay, [this] { attempt(); });
  }
  bool healthy() const { return healthy_; }
  const ProbeSpec& spec() const { return spec_; }

 private:
  void attempt() {
    began_at_ = loop_.clock().now();
    attempt_ = starter_(loop_, spec_.action, spec_.timeout,
                        [this](ProbeAnswer answer) { on_answer(std::move(answer)); });
  }

  void on_answer(ProbeAnswer answer) {
    attempt_.reset();
    const MonotonicTime now = loop_.clock().now();
    const ProbeOutcome outcome = answer.ok ? ProbeOutcome::kSuccess : ProbeOutcome::kFailure;
    in_a_row_ = outcome == last_outcome_ ? in_a_row_ + 1 : 1;
    last_outcome_ = outcome;
    const uint32_t needed = answer.ok ? spec_.success_threshold : spec_.failure_threshold;
    if (in_a_row_ >= needed) healthy_ = answer.ok;
    // The period counts from the attempt's begin; a slow one delays the next.
    const Duration spent = now - began_at_;
    begin(spent >= spec_.period ? Duration::zero() : spec_.period - spent);
    // Last: the report may stop the prober and end this track.
    Report report = std::move(report_);
    report_ = nullptr;
    bool alive = true;
    alive_ = &alive;
    report(ProbeResult{.probe = kind_,
                       .outcome = outcome,
                       .reason = std::move(answer.reason),
                       .timed_out = answer.timed_out,
                       .elapsed = spent,
                       .consecutive = in_a_row_,
                       .failure_threshold = spec_.failure_threshold,
                       .healthy = healthy_});
    if (!alive) return;
    alive_ = nullptr;
    report_ = std::move(report);
  }

 public:
  ~Track() {
    if (alive_ != nullptr) *alive_ = false;
  }

 private:
  Loop& loop_;
  const ProbeKind kind_;
  const ProbeSpec spec_;
  Starter& starter_;
  Report report_;
  bool healthy_;
  bool* alive_ = nullptr;
  std::optional<ProbeOutcome> last_outcome_;
  uint32_t in_a_row_ = 0;
  MonotonicTime began_at_{};
  std::unique_ptr<ProbeAttempt> attempt_;
  Subscription timer_;
};

Prober::Prober(Loop& loop, ProbeSet probes, Sink sink, Starter starter)
    : loop_(loop),
      probes_(std::move(probes)),
      sink_(std::make_shared<Sink>(std::move(sink))),
      starter_(std::move(starter)) {}

Prober::~Prober() = default;

namespace {

size_t index_of(ProbeKind kind) { return static_cast<size_t>(kind); }

const std::optional<ProbeSpec>& spec_of(const ProbeSet& probes, ProbeKind kind) {
  if (kind == ProbeKind::kStartup) return probes.startup;
  return kind == ProbeKind::kLiveness ? probes.liveness : probes.readiness;
}

}  // namespace

void Prober::start() {
  stop();
  running_ = true;
  started_at_ = loop_.now();
  if (!probes_.startup) {
    started_ = true;
    begin_after_startup();
    return;
  }
  auto& track = tracks_[index_of(ProbeKind::kStartup)];
  track = std::make_unique<Track>(
      loop_, ProbeKind::kStartup, *probes_.startup, starter_,
      [this](const ProbeResult& result) { on_result(ProbeKind::kStartup, result); });
  track->begin(probes_.startup->initial_delay);
}

void Prober::begin_after_startup() {
  for (const ProbeKind kind : {ProbeKind::kLiveness, ProbeKind::kReadiness}) {
    const std::optional<ProbeSpec>& spec = spec_of(probes_, kind);
    auto& track = tracks_[index_of(kind)];
    track.reset();
    if (!spec) continue;
    track = std::make_unique<Track>(
        loop_, kind, *spec, starter_,
        [this, kind](const ProbeResult& result) { on_result(kind, result); });
    const Duration since_start = loop_.now() - started_at_;
    track->begin(std::max(spec->initial_delay - since_start, Duration::zero()));
  }
}

void Prober::on_result(ProbeKind kind, const ProbeResult& result) {
  // The sink may destroy this prober: it is called last, on a copy that keeps it alive.
  const std::shared_ptr<Sink> sink = sink_;
  if (kind == ProbeKind::kStartup && tracks_[index_of(kind)]->healthy() && !started_) {
    started_ = true;
    tracks_[index_of(kind)].reset();
    begin_after_startup();
  }
  (*sink)(result);
}

void Prober::stop() {
  running_ = false;
  started_ = false;
  for (auto& track : tracks_) track.reset();
}

void Prober::set_probes(ProbeSet probes) {
  probes_ = std::move(probes);
  if (!running_) return;
  if (started_) {
    begin_after_startup();
  } else {
    start();
  }
}

bool Prober::ready() const {
  if (!running_ || !started_) return false;
  const auto& track = tracks_[index_of(ProbeKind::kReadiness)];
  return track == nullptr || track->healthy();
}

bool Prober::live() const {
  const auto& track = tracks_[index_of(ProbeKind::kLiveness)];
  return track == nullptr || track->healthy();
}

}  // namespace remora
