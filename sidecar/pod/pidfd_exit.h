// How a process ended that is not our child. Linux only tells its parent; two side doors are open
// to others with the same user: the zombie's line in /proc, and the pidfd (PIDFD_GET_INFO).
#pragma once

#include <optional>

#include <sys/types.h>

namespace remora {

// As wait(2) would give it; nothing when it is not known (any more, or yet: ask again shortly after
// the pidfd has become readable).
std::optional<int> wait_status_of(int pidfd, pid_t pid);

}  // namespace remora
