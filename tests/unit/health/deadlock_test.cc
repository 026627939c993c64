// The wait-for graph: the cycle finder by table, and the reader against real processes.
#include "sidecar/health/deadlock.h"

#include <array>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sidecar/health/proc_text.h"
#include "sidecar/health/process.h"
#include "tests/unit/health/child_process.h"

namespace remora {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<pid_t> cycle_of(const std::vector<std::pair<pid_t, pid_t>>& edges) {
  std::map<pid_t, DeadlockEdge> waits;
  for (const auto& [tid, owner] : edges) {
    waits[tid].tid = tid;
    waits[tid].owner_tid = owner;
  }
  std::vector<pid_t> tids;
  for (const DeadlockEdge& edge : find_cycle(waits)) tids.push_back(edge.tid);
  return tids;
}

TEST(FindCycle, NothingWaits) { EXPECT_THAT(cycle_of({}), IsEmpty()); }

TEST(FindCycle, AChainEndsAtAThreadThatRuns) {
  EXPECT_THAT(cycle_of({{1, 2}, {2, 3}, {3, 4}}), IsEmpty());
}

TEST(FindCycle, ManyWaitForOneOwner) { EXPECT_THAT(cycle_of({{1, 9}, {2, 9}, {3, 9}}), IsEmpty()); }

TEST(FindCycle, TwoThreads) { EXPECT_THAT(cycle_of({{1, 2}, {2, 1}}), ElementsAre(1, 2)); }

TEST(FindCycle, OneThreadThatWaitsForItself) { EXPECT_THAT(cycle_of({{7, 7}}), ElementsAre(7)); }

TEST(FindCycle, BeginsWithTheLowestWhereverItWasEntered) {
  // Entered at 8, by way of 1; the order of waiting is kept.
  EXPECT_THAT(cycle_of({{1, 8}, {8, 5}, {5, 9}, {9, 8}}), ElementsAre(5, 9, 8));
}

TEST(FindCycle, LeavesOutThoseThatOnlyWaitForIt) {
  EXPECT_THAT(cycle_of({{1, 2}, {2, 3}, {3, 4}, {4, 3}, {5, 1}}), ElementsAre(3, 4));
}

TEST(FindCycle, IsFoundBehindThreadsThatAreInNone) {
  EXPECT_THAT(cycle_of({{1, 2}, {2, 50}, {3, 1}, {10, 11}, {11, 12}, {12, 10}}),
              ElementsAre(10, 11, 12));
}

TEST(FindCycle, TakesALongChainInItsStride) {
  constexpr pid_t kThreads = 1000;
  std::vector<std::pair<pid_t, pid_t>> edges;
  for (pid_t tid = 1; tid < kThreads; ++tid) edges.emplace_back(tid, tid + 1);
  EXPECT_THAT(cycle_of(edges), IsEmpty());
  edges.emplace_back(kThreads, 1);
  EXPECT_EQ(cycle_of(edges).size(), static_cast<size_t>(kThreads));
}

// Two locks of one kind: what the child's threads take crosswise.
struct LockPair {
  const char* name;
  const char* kind;  // as the edges call it
  void (*make)(std::array<std::function<void()>, 2>&);
};

// Each make() puts the two ways to lock into its argument; those own the locks.
void make_std_mutexes(std::array<std::function<void()>, 2>& lock) {
  auto locks = std::make_shared<std::array<std::mutex, 2>>();
  for (size_t i = 0; i < 2; ++i) lock[i] = [locks, i] { (*locks)[i].lock(); };
}

template <typename Configure>
void make_pthread_mutexes(std::array<std::function<void()>, 2>& lock, Configure configure) {
  auto locks = std::make_shared<std::array<pthread_mutex_t, 2>>();
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  configure(&attributes);
  for (size_t i = 0; i < 2; ++i) {
    ::pthread_mutex_init(&(*locks)[i], &attributes);
    lock[i] = [locks, i] { ::pthread_mutex_lock(&(*locks)[i]); };
  }
}

void make_recursive(std::array<std::function<void()>, 2>& lock) {
  make_pthread_mutexes(lock, [](pthread_mutexattr_t* attributes) {
    ::pthread_mutexattr_settype(attributes, PTHREAD_MUTEX_RECURSIVE);
  });
}

void make_error_checking(std::array<std::function<void()>, 2>& lock) {
  make_pthread_mutexes(lock, [](pthread_mutexattr_t* attributes) {
    ::pthread_mutexattr_settype(attributes, PTHREAD_MUTEX_ERRORCHECK);
  });
}

void make_robust(std::array<std::function<void()>, 2>& lock) {
  make_pthread_mutexes(lock, [](pthread_mutexattr_t* attributes) {
    ::pthread_mutexattr_setrobust(attributes, PTHREAD_MUTEX_ROBUST);
  });
}

void make_rwlocks(std::array<std::function<void()>, 2>& lock) {
  auto locks = std::make_shared<std::array<pthread_rwlock_t, 2>>();
  for (size_t i = 0; i < 2; ++i) {
    ::pthread_rwlock_init(&(*locks)[i], nullptr);
    lock[i] = [locks, i] { ::pthread_rwlock_wrlock(&(*locks)[i]); };
  }
}

// Each of two threads holds one lock before either asks for the other's; the main thread sleeps.
void deadlock_crosswise(const LockPair& pair) {
  std::array<std::function<void()>, 2> lock;
  pair.make(lock);
  std::barrier both_hold(2);
  const auto run = [&](size_t mine, const char* name) {
    ::pthread_setname_np(::pthread_self(), name);
    lock[mine]();
    both_hold.arrive_and_wait();
    lock[1 - mine]();
  };
  const std::jthread first(run, 0, "alpha");
  const std::jthread second(run, 1, "beta");
  for (;;) ::pause();
}

class RealDeadlock : public testing::TestWithParam<LockPair> {};

TEST_P(RealDeadlock, IsACycleOfTwoThatStaysTheSame) {
  const ChildProcess child([] { deadlock_crosswise(GetParam()); });
  DeadlockSample sample;
  ASSERT_TRUE(eventually([&] {
    sample = read_deadlock("/proc", child.pid());
    return !sample.cycle.empty();
  }));
  EXPECT_EQ(sample.pid, child.pid());
  EXPECT_EQ(sample.threads, 3u);
  EXPECT_FALSE(sample.all_untimed_futex) << "the main thread is in pause()";
  ASSERT_EQ(sample.cycle.size(), 2u);
  const DeadlockEdge& a = sample.cycle[0];
  const DeadlockEdge& b = sample.cycle[1];
  EXPECT_LT(a.tid, b.tid);
  EXPECT_NE(a.tid, child.pid());
  EXPECT_EQ(a.owner_tid, b.tid);
  EXPECT_EQ(b.owner_tid, a.tid);
  EXPECT_THAT((std::array{a.thread_name, b.thread_name}),
              testing::UnorderedElementsAre("alpha", "beta"));
  EXPECT_EQ(a.owner_name, b.thread_name);
  EXPECT_EQ(b.owner_name, a.thread_name);
  EXPECT_EQ(a.lock_kind, GetParam().kind);
  EXPECT_EQ(b.lock_kind, GetParam().kind);
  EXPECT_NE(a.lock_address, b.lock_address);
  EXPECT_NE(a.lock_place, "");
  EXPECT_GT(a.switches, 0u);
  // The proof that the classifier asks for: the same once more, and nobody has run.
  EXPECT_TRUE(eventually([&] {
    const auto before = read_deadlock("/proc", child.pid()).cycle;
    return !before.empty() && before == read_deadlock("/proc", child.pid()).cycle;
  }));
}

INSTANTIATE_TEST_SUITE_P(Locks, RealDeadlock,
                         testing::Values(LockPair{"StdMutex", "mutex", make_std_mutexes},
                                         LockPair{"Recursive", "mutex", make_recursive},
                                         LockPair{"ErrorChecking", "mutex", make_error_checking},
                                         LockPair{"Robust", "robust mutex", make_robust},
                                         LockPair{"RwlockWriters", "rwlock", make_rwlocks}),
                         [](const auto& made) { return std::string(made.param.name); });

TEST(ReadDeadlock, ARingOfThree) {
  const ChildProcess child([] {
    std::array<std::mutex, 3> locks;
    std::barrier all_hold(3);
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < locks.size(); ++i) {
      threads.emplace_back([&, i] {
        locks[i].lock();
        all_hold.arrive_and_wait();
        locks[(i + 1) % locks.size()].lock();
      });
    }
    for (;;) ::pause();
  });
  std::vector<DeadlockEdge> cycle;
  ASSERT_TRUE(eventually([&] {
    cycle = read_deadlock("/proc", child.pid()).cycle;
    return !cycle.empty();
  }));
  ASSERT_EQ(cycle.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(cycle[i].owner_tid, cycle[(i + 1) % 3].tid);
}

// Runtimes count in their futex words, and in a container TIDs are small numbers too: a word that
// happens to equal one is no thread that is joined.
TEST(ReadDeadlock, ACounterThatEqualsATidNamesNobody) {
  void* const page = ::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  auto* const word = new (page) std::atomic<int>(0);
  const ChildProcess child([word] {
    *word = ::getpid();
    std::thread worker(
        [word] { ::syscall(SYS_futex, word, FUTEX_WAIT, ::getpid(), nullptr, nullptr, 0); });
    worker.join();
  });
  DeadlockSample sample;
  ASSERT_TRUE(eventually([&] {
    sample = read_deadlock("/proc", child.pid());
    return sample.threads == 2 && sample.all_untimed_futex;
  }));
  EXPECT_EQ(*word, child.pid());
  EXPECT_THAT(sample.cycle, IsEmpty());
  ::munmap(page, sizeof(std::atomic<int>));
}

TEST(ReadDeadlock, ThreadThatIsJoinedWaitsForALockOfItsJoiner) {
  const ChildProcess child([] {
    std::mutex held;
    held.lock();
    std::thread worker([&] { held.lock(); });
    worker.join();
  });
  DeadlockSample sample;
  ASSERT_TRUE(eventually([&] {
    sample = read_deadlock("/proc", child.pid());
    return sample.cycle.size() == 2;
  }));
  EXPECT_EQ(sample.cycle[0].tid, child.pid());
  EXPECT_EQ(sample.cycle[0].lock_kind, "join");
  EXPECT_EQ(sample.cycle[1].lock_kind, "mutex");
  EXPECT_TRUE(sample.all_untimed_futex);
}

TEST(ReadDeadlock, WaitingForALockWhoseOwnerIsBusyIsNone) {
  const ChildProcess child([] {
    std::mutex held;
    held.lock();
    const std::jthread worker([&] { held.lock(); });
    for (;;) ::pause();
  });
  const std::string tasks = "/proc/" + std::to_string(child.pid()) + "/task";
  ASSERT_TRUE(eventually([&] {
    const std::vector<int> tids = list_numbers(tasks);
    if (tids.size() != 2) return false;
    const auto text = read_small_file(tasks + "/" + std::to_string(tids[1]) + "/syscall");
    const auto state = text ? parse_syscall(*text) : std::nullopt;
    return state && is_untimed_futex(*state);
  })) << "the worker never came to wait";
  for (int i = 0; i < 100; ++i) {
    ASSERT_THAT(read_deadlock("/proc", child.pid()).cycle, IsEmpty());
  }
}

TEST(ReadDeadlock, HealthyContendedProgramGivesNone) {
  constexpr size_t kThreads = 8;
  constexpr int kSamples = 200;
  void* const page = ::mmap(nullptr, sizeof(std::atomic<uint64_t>), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  auto* const rounds = new (page) std::atomic<uint64_t>(0);
  const ChildProcess child([rounds] {
    std::array<std::mutex, 3> locks;
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        for (;;) {
          // Always in ascending order: contended, and never a deadlock.
          const std::lock_guard low(locks[i % 2]);
          const std::lock_guard high(locks[2]);
          rounds->fetch_add(1);
        }
      });
    }
    for (;;) ::pause();
  });
  ASSERT_TRUE(eventually(
      [&] { return read_deadlock("/proc", child.pid()).threads == kThreads + 1 && *rounds > 0; }));
  const uint64_t before = *rounds;
  for (int i = 0; i < kSamples; ++i) {
    ASSERT_THAT(read_deadlock("/proc", child.pid()).cycle, IsEmpty()) << "sample " << i;
  }
  EXPECT_TRUE(eventually([&] { return *rounds > before; })) << "it was not healthy";
  ::munmap(page, sizeof(std::atomic<uint64_t>));
}

TEST(ReadDeadlock, PythonNamesNoOwnerButEveryThreadWaitsUntimed) {
  if (std::system("python3 -c 'import threading' >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "no python3";
  }
  const ChildProcess child([] {
    ::execlp("python3", "python3", "-c", R"(
import threading
a, b, both = threading.Lock(), threading.Lock(), threading.Barrier(2)
def take(first, second):
    with first:
        both.wait()
        second.acquire()
threads = [threading.Thread(target=take, args=p) for p in ((a, b), (b, a))]
for t in threads: t.start()
for t in threads: t.join()
)",
             nullptr);
    ::_exit(127);
  });
  DeadlockSample sample;
  ASSERT_TRUE(eventually([&] {
    sample = read_deadlock("/proc", child.pid());
    return sample.threads == 3 && sample.all_untimed_futex;
  }));
  EXPECT_THAT(sample.cycle, IsEmpty()) << "Python's locks do not say who holds them";
}

// From here on the calling process's process_vm_readv fails with EPERM.
bool refuse_process_vm_readv() {
  std::array filter = {
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{.len = filter.size(), .filter = filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(ReadDeadlock, IsReadUnderASeccompProfileThatRefusesProcessVmReadv) {
  constexpr int kFound = 42;
  const ChildProcess observer([] {
    const ChildProcess child(
        [] { deadlock_crosswise({.name = "", .kind = "mutex", .make = make_std_mutexes}); });
    if (!refuse_process_vm_readv()) ::_exit(1);
    const bool found =
        eventually([&] { return read_deadlock("/proc", child.pid()).cycle.size() == 2; });
    ::kill(child.pid(), SIGKILL);
    ::_exit(found ? kFound : 2);
  });
  siginfo_t end{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(observer.pid()), &end, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(end.si_code, CLD_EXITED);
  EXPECT_EQ(end.si_status, kFound);
}

TEST(ReadDeadlock, AProcessThatIsGone) {
  pid_t gone = 0;
  {
    const ChildProcess child([] {});
    gone = child.pid();
  }
  const DeadlockSample sample = read_deadlock("/proc", gone);
  EXPECT_EQ(sample.threads, 0u);
  EXPECT_THAT(sample.cycle, IsEmpty());
  EXPECT_FALSE(sample.all_untimed_futex) << "nothing seen is no evidence";
}

}  // namespace
}  // namespace remora
