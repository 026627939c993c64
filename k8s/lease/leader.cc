#include "k8s/lease/leader.h"

#include <utility>

#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

constexpr std::chrono::milliseconds duration{lease_duration_ms};
constexpr std::chrono::milliseconds renew_deadline{lease_renew_deadline_ms};
constexpr std::chrono::milliseconds retry{lease_retry_ms};
constexpr int resign_ms_max = 2'000;

}  // namespace

Leader::Leader(Loop& loop, ApiClient& client, LeaderOptions options, Task elected, Task lost)
    : loop_(loop),
      client_(client),
      options_(std::move(options)),
      elected_(std::move(elected)),
      lost_(std::move(lost)),
      random_(options_.seed) {}

void Leader::start() { again_in({}, &Leader::look); }

bool Leader::may_write() const {
  return state_ == State::kLeads && loop_.clock().now() < renewed_at_ + renew_deadline &&
         loop_.clock().wall_now() < renewed_wall_ + renew_deadline;
}

ApiRequest Leader::request(std::string method, bool named) const {
  ApiRequest request;
  request.method = std::move(method);
  request.path = "/apis/coordination.k8s.io/v1/namespaces/" + options_.namespace_name + "/leases";
  if (named) request.path += "/" + options_.name;
  // One that hangs must leave time for others before the deadline.
  request.answer_ms_max = lease_renew_deadline_ms / 2;
  request.retry_throttled = false;
  return request;
}

void Leader::look() {
  request_ = request("GET", true);
  call_ = client_.call(request_, [this](const Result<ApiReply>& reply) { on_look(reply); });
}

void Leader::on_look(const Result<ApiReply>& reply) {
  if (state_ == State::kOver) return;
  if (!reply) {
    note(reply.error());
    return again();
  }
  if (reply->status == 404) return write({}, true);
  if (!reply->ok()) {
    note(api_error(request_, *reply));
    return again();
  }
  Result<LeaseRecord> record = read_lease(reply->body);
  if (!record) {
    note(record.error());
    return again();
  }
  on_record(std::move(*record));
}

// What stands there decides: ours is renewed, another's is left until it has been still for long
// enough.
void Leader::on_record(LeaseRecord record) {
  trouble_.clear();
  const MonotonicTime now = loop_.clock().now();
  if (!has_seen_ || !record.same_as(seen_)) {
    has_seen_ = true;
    seen_at_ = now;
  }
  seen_ = std::move(record);
  const bool ours = seen_.holder == options_.identity;
  if (state_ == State::kLeads && !ours) return lose("another replica has taken the lease");
  if (!ours && !seen_.holder.empty() && now < seen_at_ + duration) return again();
  write(seen_, false);
}

void Leader::write(LeaseRecord record, bool create) {
  asked_at_ = loop_.clock().now();
  asked_wall_ = loop_.clock().wall_now();
  const std::string now = micro_time(asked_wall_);
  if (record.holder != options_.identity || create) {
    if (!create) ++record.transitions;
    record.holder = options_.identity;
    record.acquire_time = now;
  }
  record.renew_time = now;
  record.duration_s = lease_duration_ms / 1000;
  request_ = request(create ? "POST" : "PUT", !create);
  request_.body = write_lease(record, options_.namespace_name, options_.name);
  // A renewal that was held up so long that others may have taken over must not be sent.
  if (state_ == State::kLeads) request_.may_send = [this] { return may_write(); };
  call_ = client_.call(
      request_, [this, record](const Result<ApiReply>& reply) { on_written(record, reply); });
}

void Leader::on_written(const LeaseRecord& wanted, const Result<ApiReply>& reply) {
  if (state_ == State::kOver) return;
  if (!reply || !reply->ok()) {
    // Also one that was written and whose answer was lost: the next look finds it.
    if (!reply) note(reply.error());
    if (reply && reply->status != 409) note(api_error(request_, *reply));
    return again();
  }
  const Result<LeaseRecord> stored = read_lease(reply->body);
  seen_ = stored ? *stored : wanted;
  has_seen_ = true;
  seen_at_ = loop_.clock().now();
  renewed_at_ = asked_at_;
  renewed_wall_ = asked_wall_;
  trouble_.clear();
  const Duration left = renewed_at_ + renew_deadline - loop_.clock().now();
  deadline_ = loop_.add_timer(std::max(left, Duration{}),
                              [this] { lose("the lease could not be renewed in time"); });
  again_in(retry, &Leader::renew);
  if (state_ != State::kFollows) return;
  state_ = State::kLeads;
  log_info("leading", {{"lease", options_.name}, {"identity", options_.identity}});
  elected_();
}

void Leader::renew() {
  if (state_ == State::kLeads) write(seen_, false);
}

// Only its own: a leader looks again because its write failed.
void Leader::again() {
  std::uniform_int_distribution<int64_t> jitter(0, lease_retry_ms / 5);
  const bool leads = state_ == State::kLeads;
  again_in(leads ? retry / 2 : retry + std::chrono::milliseconds(jitter(random_)), &Leader::look);
}

void Leader::again_in(Duration delay, void (Leader::*what)()) {
  next_ = loop_.add_timer(delay, [this, what] {
    if (state_ == State::kLeads && !may_write()) return lose("the lease has run out");
    (this->*what)();
  });
}

void Leader::lose(const char* why) {
  if (state_ != State::kLeads) return;
  state_ = State::kOver;
  call_.reset();
  next_.cancel();
  log_error("leadership_lost", {{"lease", options_.name}, {"why", why}, {"holder", seen_.holder}});
  if (resigned_) return std::exchange(resigned_, nullptr)();
  lost_();
}

void Leader::resign(Task done) {
  const bool leads = this->leads();
  if (!leads) {
    state_ = State::kOver;
    call_.reset();
    next_.cancel();
    deadline_.cancel();
    next_ = loop_.add_timer({}, [done = std::move(done)]() mutable { done(); });
    return;
  }
  next_.cancel();
  resigned_ = std::move(done);
  LeaseRecord record = seen_;
  record.holder.clear();
  record.duration_s = 1;
  record.renew_time = micro_time(loop_.clock().wall_now());
  request_ = request("PUT", true);
  request_.answer_ms_max = resign_ms_max;
  request_.body = write_lease(record, options_.namespace_name, options_.name);
  request_.may_send = [this] { return may_write(); };
  call_ = client_.call(request_, [this](const Result<ApiReply>& reply) {
    state_ = State::kOver;
    if (reply && reply->ok()) log_info("lease_given_back", {{"lease", options_.name}});
    deadline_.cancel();
    if (resigned_) std::exchange(resigned_, nullptr)();
  });
}

void Leader::note(const Error& error) {
  if (error.message == trouble_) return;
  trouble_ = error.message;
  log_warn("lease_failed", {{"lease", options_.name}, {"error", trouble_}});
}

}  // namespace remora::k8s
