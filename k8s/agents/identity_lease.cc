#include "k8s/agents/identity_lease.h"

#include <algorithm>

#include "k8s/healing/plan.h"

namespace remora::k8s {
namespace {

constexpr std::string_view fenced_prefix = "fenced:";

LeaseRecord held_by(LeaseRecord lease, std::string holder, int64_t transitions, WallTime now) {
  if (lease.holder != holder) lease.acquire_time = micro_time(now);
  lease.holder = std::move(holder);
  lease.renew_time = micro_time(now);
  lease.duration_s = identity_lease_duration_s;
  lease.transitions = transitions;
  return lease;
}

}  // namespace

std::string identity_lease_name(const std::string& namespace_name, const std::string& agent) {
  // Cut anywhere, it is still a name.
  std::string prefix = "agent-" + namespace_name + "-" + agent;
  std::ranges::replace(prefix, '.', '-');
  return name_with_hash(prefix, namespace_name + "/" + agent);
}

std::string identity_holder(const std::string& pod, const std::string& uid) {
  return pod + "_" + uid;
}

bool is_fenced(const LeaseRecord& lease) { return lease.holder.starts_with(fenced_prefix); }

std::string uid_of_holder(const LeaseRecord& lease) {
  const size_t at = lease.holder.rfind('_');
  return at == std::string::npos ? std::string() : lease.holder.substr(at + 1);
}

HoldVerdict judge_hold(const std::optional<LeaseRecord>& known, const std::string& holder,
                       uint64_t epoch, bool holder_lives, WallTime now) {
  const auto number = static_cast<int64_t>(std::min<uint64_t>(epoch, INT64_MAX));
  if (!known) return {.write = held_by({}, holder, number, now)};
  const int64_t newest = known->transitions;
  if (known->holder == std::string(fenced_prefix) + holder) return {.is_lost = true};
  if (known->holder == holder) {
    return {.write = held_by(*known, holder, std::max(number, newest), now)};
  }
  // A fence is one epoch ahead: whoever claims the store next has just that one.
  const bool comes_next = is_fenced(*known) ? number >= newest : number > newest;
  if (comes_next) return {.write = held_by(*known, holder, number, now)};
  // A store that was made anew counts from 1 again, and whoever held the old one is gone.
  if (!holder_lives) return {.write = held_by(*known, holder, newest + 1, now)};
  return {.is_lost = true};
}

std::optional<LeaseRecord> fence_lease(const std::optional<LeaseRecord>& known,
                                       const std::string& holder, uint64_t epoch, WallTime now) {
  const std::string fenced = std::string(fenced_prefix) + holder;
  const auto number = static_cast<int64_t>(std::min<uint64_t>(epoch, INT64_MAX - 1));
  if (!known) return held_by({}, fenced, number + 1, now);
  if (known->holder != holder) return std::nullopt;
  return held_by(*known, fenced, std::max(known->transitions, number) + 1, now);
}

std::optional<LeaseRecord> unfence_lease(const std::optional<LeaseRecord>& known,
                                         const std::string& holder, WallTime now) {
  if (!known || known->holder != std::string(fenced_prefix) + holder) return std::nullopt;
  return held_by(*known, holder, known->transitions, now);
}

}  // namespace remora::k8s
