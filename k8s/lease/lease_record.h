// A coordination.k8s.io/v1 Lease as text and as values. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sidecar/base/clock.h"
#include "sidecar/base/error.h"

namespace remora::k8s {

struct LeaseRecord {
  std::string holder;  // empty: nobody's
  int64_t duration_s = 0;
  std::string acquire_time;  // as it stands there
  std::string renew_time;
  int64_t transitions = 0;
  std::string resource_version;

  // Whether anything that a holder writes is the same.
  bool same_as(const LeaseRecord& other) const {
    return holder == other.holder && renew_time == other.renew_time &&
           acquire_time == other.acquire_time && transitions == other.transitions;
  }
};

// kProtocol when it is no Lease.
Result<LeaseRecord> read_lease(std::string_view json);
std::string write_lease(const LeaseRecord& record, std::string_view namespace_name,
                        std::string_view name);
// "2026-01-01T00:00:00.000000Z", Kubernetes' MicroTime.
std::string micro_time(WallTime time);

}  // namespace remora::k8s
