// Leader election: of several replicas, the one whose name stands in a Lease may write. The rules
// are those of Kubernetes' own controllers, so that any of them would understand our Lease.
//
// - Whoever sees the Lease unchanged for lease_duration_ms, by their own clock from when they saw
//   it first, may take it. Times written in it are never compared with a clock: clocks differ.
// - The leader renews every retry_ms. Not renewed for renew_deadline_ms, it has lost.
// - may_write() is for ApiRequest::may_send: a leader that was stopped or cut off, and so has lost
//   without knowing it, finds its time over before a byte goes out. The deadline counts from before
//   the renewal was sent, by a clock that goes on while the process is stopped; and by the wall
//   clock, which goes on while the whole machine is.
// - It loses once. A process that has lost ends (and is started anew): there is no other way to
// take
//   back what it was about to do.
//
// Loop thread only.
#pragma once

#include <memory>
#include <random>
#include <string>

#include "k8s/api/client.h"
#include "k8s/lease/lease_record.h"

namespace remora::k8s {

inline constexpr int lease_duration_ms = 15'000;
inline constexpr int lease_renew_deadline_ms = 10'000;
inline constexpr int lease_retry_ms = 2'000;

struct LeaderOptions {
  std::string namespace_name;
  std::string name;
  std::string identity;  // of this process, never used twice
  uint32_t seed = 1;
};

class Leader {
 public:
  // elected is called once at most; lost once at most, and only after elected. client must outlive
  // it.
  Leader(Loop& loop, ApiClient& client, LeaderOptions options, Task elected, Task lost);
  Leader(const Leader&) = delete;
  Leader& operator=(const Leader&) = delete;
  ~Leader() = default;

  void start();
  // Gives the Lease back, if it is ours, so that another may take it at once; done is called when
  // that is written or can't be.
  void resign(Task done);

  bool leads() const { return state_ == State::kLeads && may_write(); }
  bool may_write() const;
  // Who holds the Lease, as far as known.
  const std::string& holder() const { return seen_.holder; }

 private:
  enum class State { kFollows, kLeads, kOver };

  void look();
  void on_look(const Result<ApiReply>& reply);
  void on_record(LeaseRecord record);
  void write(LeaseRecord record, bool create);
  void on_written(const LeaseRecord& wanted, const Result<ApiReply>& reply);
  void renew();
  void lose(const char* why);
  void again();
  void again_in(Duration delay, void (Leader::*what)());
  void note(const Error& error);
  ApiRequest request(std::string method, bool named) const;

  Loop& loop_;
  ApiClient& client_;
  const LeaderOptions options_;
  Task elected_;
  Task lost_;
  Task resigned_;
  State state_ = State::kFollows;
  LeaseRecord seen_;
  MonotonicTime seen_at_{};
  bool has_seen_ = false;
  MonotonicTime asked_at_{};  // when the write under way was begun
  WallTime asked_wall_{};
  MonotonicTime renewed_at_{};
  WallTime renewed_wall_{};
  std::string trouble_;  // logged
  std::minstd_rand random_;
  ApiRequest request_;
  std::unique_ptr<ApiCall> call_;
  Subscription next_;
  Subscription deadline_;
};

}  // namespace remora::k8s
