// The wait-for graph of a process's pthread locks (glibc, x86_64), read from outside: which thread
// waits for which lock, and who holds it. Nothing is stopped; about 0.1 ms a process.
//
// A futex address comes from /proc/PID/task/TID/syscall, the holder from the lock's own memory:
// mutexes keep their owner's TID at +8, robust ones in the futex word, rwlocks held by a writer at
// +24 of the lock, and pthread_join waits on the TID in the other thread's descriptor. Readers of
// an rwlock, condition variables and the locks of other runtimes (Python, Java, Go, Node) name no
// owner: there is no edge for them. Threads go on while a sample is taken, so a cycle counts only
// if none of its threads has run meanwhile; the classifier asks for two samples that agree besides.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

#include "sidecar/health/observation.h"

namespace remora {

// The threads of the cycle, beginning with the lowest TID; empty when there is none. Each thread
// waits for at most one lock, so each key has one edge.
std::vector<DeadlockEdge> find_cycle(const std::map<pid_t, DeadlockEdge>& waits);

// One process, now. generation is left 0.
DeadlockSample read_deadlock(const std::string& proc_root, pid_t pid);

}  // namespace remora
