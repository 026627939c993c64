// Every rule of the classifier, told as an agent's life.
#include "sidecar/health/classify.h"

#include <csignal>

#include "tests/unit/health/classify_fixture.h"

namespace remora {
namespace {

using enum FaultKind;
using ::testing::HasSubstr;

// --- the end of the process ---

struct Ending {
  const char* name;
  AgentExited exited;
  std::optional<FaultKind> kind;
  const char* summary;  // a part of it
};

class Endings : public ClassifierTest, public testing::WithParamInterface<Ending> {};

TEST_P(Endings, AreTold) {
  AgentExited exited = GetParam().exited;
  exited.generation = kGeneration;
  const std::optional<Fault> fault = tell(exited);
  EXPECT_EQ(classifier_.activity(), "gone");
  if (!GetParam().kind) {
    EXPECT_THAT(fault, IsNoFault());
    return;
  }
  ASSERT_THAT(fault, IsFault(*GetParam().kind));
  EXPECT_THAT(fault->summary, HasSubstr(GetParam().summary));
  EXPECT_EQ(fault->evidence.front().kind, "exit");
  EXPECT_EQ(fault->detected_at, now_);
  EXPECT_TRUE(classifier_.active(fault->kind));
}

AgentExited exit_of(int code, std::string log_tail = {}) {
  return {.exit_code = code, .log_tail_hint = std::move(log_tail)};
}
AgentExited killed_by(int signal, std::string log_tail = {}) {
  return {.exit_code = 128 + signal, .signal = signal, .log_tail_hint = std::move(log_tail)};
}
AgentExited oom_killed() {
  AgentExited exited = killed_by(SIGKILL);
  exited.oom_killed = true;
  return exited;
}
AgentExited requested(AgentExited exited) {
  exited.requested = true;
  return exited;
}

const Ending kEndings[] = {
    {"ExitCode", exit_of(3), kCrash, "exited with code 3"},
    {"Zero", exit_of(0), std::nullopt, ""},
    {"Requested", requested(killed_by(SIGTERM)), std::nullopt, ""},
    {"RequestedAndOomKilled", requested(oom_killed()), std::nullopt, ""},
    {"Segfault", killed_by(SIGSEGV), kCrash, "signal 11 (SIGSEGV)"},
    {"Killed", killed_by(SIGKILL), kCrash, "signal 9 (SIGKILL)"},
    {"SignalWithoutName", killed_by(34), kCrash, "signal 34 (SIG?)"},
    {"OomKilled", oom_killed(), kResourceExhaustion, "out of memory"},
    {"MemoryError", exit_of(1, "Traceback\nMemoryError\n"), kResourceExhaustion, "out of memory"},
    {"BadAlloc", killed_by(SIGABRT, "what():  std::bad_alloc"), kResourceExhaustion,
     "out of memory"},
    {"NodeHeap", killed_by(SIGABRT, "FATAL ERROR: JavaScript heap out of memory"),
     kResourceExhaustion, "out of memory"},
    {"Descriptors", exit_of(1, "OSError: [Errno 24] Too many open files: 'x'"), kResourceExhaustion,
     "out of file descriptors"},
    {"Disk", exit_of(1, "write: No space left on device"), kResourceExhaustion,
     "out of disk space"},
    {"Threads", exit_of(1, "RuntimeError: can't start new thread"), kResourceExhaustion,
     "out of threads"},
    {"OrdinaryLastWords", exit_of(1, "KeyError: 'memory'"), kCrash, "exited with code 1"},
};
INSTANTIATE_TEST_SUITE_P(All, Endings, testing::ValuesIn(kEndings),
                         [](const auto& made) { return std::string(made.param.name); });

TEST_F(ClassifierTest, ACrashQuotesTheLastLine) {
  const auto fault = tell(exit_of(1, "first\nKeyError: 'x'\r\n\n"));
  ASSERT_THAT(fault, IsFault(kCrash));
  EXPECT_THAT(evidence_of(*fault), HasSubstr("log: last line: KeyError: 'x'\n"));
}

TEST_F(ClassifierTest, EachGenerationCrashesAnew) {
  EXPECT_THAT(tell(exit_of(1)), IsFault(kCrash));
  start(kGeneration + 1);
  EXPECT_FALSE(classifier_.active(kCrash));
  EXPECT_THAT(tell(exit_of(1)), IsFault(kCrash));
}

// --- hang ---

TEST_F(ClassifierTest, IdleIsNeverAHang) {
  EXPECT_THAT(live(1h), IsNoFault());
  EXPECT_EQ(classifier_.activity(), "idle");
}

TEST_F(ClassifierTest, ARequestWithoutProgressForTheWindowIsAHang) {
  live(5s);
  request();
  const MonotonicTime began = now_;
  EXPECT_THAT(live(kWindow - kInterval), IsNoFault());
  EXPECT_EQ(classifier_.activity(), "stalled");
  const auto fault = sample([](ProgressSample&) {});
  ASSERT_THAT(fault, IsFault(kHang));
  EXPECT_THAT(fault->summary, HasSubstr("POST /invoke"));
  EXPECT_EQ(fault->began_at, began);
  EXPECT_EQ(fault->detected_at, began + kWindow);
  EXPECT_THAT(evidence_of(*fault), HasSubstr("progress: in the last 30.0 s it used 0 ms of CPU"));
  EXPECT_THAT(evidence_of(*fault), HasSubstr("request: 1 in the agent, the oldest (POST /invoke)"));
}

TEST_F(ClassifierTest, AHangIsToldOnceAndAgainAfterItHasCleared) {
  live(5s);
  request();
  ASSERT_THAT(live(kWindow), IsFault(kHang));
  EXPECT_THAT(live(10min), IsNoFault()) << "told already";
  answer();
  live(1s);
  EXPECT_FALSE(classifier_.active(kHang));
  request();
  EXPECT_THAT(live(kWindow), IsFault(kHang));
}

TEST_F(ClassifierTest, AWholeWindowMustHaveBeenSeen) {
  // The first sample finds a request that is old already: nothing is known about its past.
  request();
  agent_.oldest_age = kWindow * 2;
  EXPECT_THAT(live(kWindow - kWindow / 10), IsNoFault());
  EXPECT_THAT(live(kWindow / 5), IsFault(kHang));
}

TEST_F(ClassifierTest, TwoSamplesProveNothing) {
  live(1s);
  request();
  agent_.oldest_age = kWindow;
  now_ += kWindow;
  EXPECT_THAT(tell(agent_), IsNoFault());
}

TEST_F(ClassifierTest, AnyKindOfProgressIsNoHang) {
  const std::pair<const char*, void (*)(ProgressSample&)> kinds[] = {
      {"CPU", [](ProgressSample& a) { use_cpu(a, 100ms); }},
      {"a byte from the agent", [](ProgressSample& a) { a.bytes_from_agent += 1; }},
      {"files or sockets", [](ProgressSample& a) { a.io_bytes += 100'000; }},
  };
  for (const auto& [name, progress] : kinds) {
    start();
    request();
    EXPECT_THAT(live(5min, progress), IsNoFault()) << name;
    EXPECT_EQ(classifier_.activity(), "busy") << name;
    EXPECT_THAT(live(kWindow + 1s), IsFault(kHang)) << name << " has ended";
  }
}

TEST_F(ClassifierTest, TheTicksOfARuntimeAreNoProgress) {
  live(5s);
  request();
  EXPECT_THAT(live(kWindow,
                   [](ProgressSample& a) {
                     use_cpu(a, 15ms);
                     a.io_bytes += 1000;
                   }),
              IsFault(kHang));
}

TEST_F(ClassifierTest, WhatNewRequestsAndProbesCostIsNoProgress) {
  live(5s);
  request();
  EXPECT_THAT(live(kWindow,
                   [](ProgressSample& a) {
                     a.requests_started += 100;  // accepted and parked
                     use_cpu(a, 150ms);
                   }),
              IsFault(kHang));
}

TEST_F(ClassifierTest, WhatCanNotBeSeenIsNotClaimed) {
  request();
  agent_.process_seen = false;
  EXPECT_THAT(live(10min), IsNoFault());
}

TEST_F(ClassifierTest, SamplesOfAnotherGenerationAreIgnored) {
  request();
  agent_.generation = kGeneration - 1;
  EXPECT_THAT(live(10min), IsNoFault());
  EXPECT_EQ(classifier_.activity(), "unknown");
}

TEST_F(ClassifierTest, NothingIsJudgedOnceItIsGone) {
  request();
  live(10s);
  tell(requested(exit_of(0)));
  EXPECT_THAT(live(10min), IsNoFault());
  EXPECT_THAT(fail(ProbeKind::kLiveness, 9), IsNoFault());
}

TEST_F(ClassifierTest, StalledWithoutDescriptorsIsExhaustion) {
  live(5s);
  request();
  agent_.fds_open = 1023;
  agent_.fds_max = 1024;
  const auto fault = live(kWindow);
  ASSERT_THAT(fault, IsFault(kResourceExhaustion));
  EXPECT_THAT(evidence_of(*fault), HasSubstr("1023 of 1024 descriptors"));
}

TEST_F(ClassifierTest, AHangShowsThreadsAndWhatCouldNotBeSeen) {
  live(5s);
  request();
  agent_.has_event_loop = true;
  agent_.accept_backlog = 4;
  agent_.threads = {{.tid = 100, .name = "main", .state = 'S', .waits_in = "futex"}};
  agent_.degraded = {"io: Permission denied"};
  const auto fault = live(kWindow);
  ASSERT_THAT(fault, IsFault(kHang));
  const std::string evidence = evidence_of(*fault);
  EXPECT_THAT(evidence, HasSubstr("thread: thread 100 (main) state S in futex"));
  EXPECT_THAT(evidence, HasSubstr("event_loop: the main thread has an event loop but waits"));
  EXPECT_THAT(evidence, HasSubstr("backlog: 4 connections"));
  EXPECT_THAT(evidence, HasSubstr("degraded: io: Permission denied"));
  EXPECT_THAT(classifier_.degraded(), testing::ElementsAre("io: Permission denied"));
}

// --- deadlock ---

class Deadlocks : public ClassifierTest {
 protected:
  static DeadlockSample crossed(uint64_t switches) {
    const auto edge = [&](pid_t tid, pid_t owner) {
      return DeadlockEdge{.tid = tid,
                          .thread_name = "w" + std::to_string(tid),
                          .lock_kind = "mutex",
                          .lock_address = 0x4010,
                          .lock_place = "libfoo.so+0x10",
                          .owner_tid = owner,
                          .owner_name = "w" + std::to_string(owner),
                          .switches = switches};
    };
    return {.generation = kGeneration, .pid = 100, .cycle = {edge(4, 5), edge(5, 4)}, .threads = 2};
  }
  static DeadlockSample no_cycle() { return {.generation = kGeneration, .pid = 100, .cycle = {}}; }
  std::optional<Fault> see(const DeadlockSample& what) {
    now_ += kInterval;
    return tell(what);
  }
};

TEST_F(Deadlocks, TheSameCycleTwiceIsProof) {
  EXPECT_THAT(see(crossed(9)), IsNoFault()) << "once is no proof";
  const MonotonicTime first = now_;
  const auto fault = see(crossed(9));
  ASSERT_THAT(fault, IsFault(kDeadlock));
  EXPECT_EQ(fault->began_at, first);
  EXPECT_THAT(evidence_of(*fault),
              HasSubstr("lock: thread 4 (w4) waits for mutex 0x4010 in libfoo.so+0x10 held by "
                        "thread 5 (w5)"));
  EXPECT_THAT(see(crossed(9)), IsNoFault()) << "told already";
}

TEST_F(Deadlocks, ACycleWhoseThreadsHaveRunIsNone) {
  for (uint64_t switches = 1; switches < 50; ++switches) {
    ASSERT_THAT(see(crossed(switches)), IsNoFault());
  }
}

TEST_F(Deadlocks, TheTwoMustFollowEachOther) {
  see(crossed(9));
  EXPECT_THAT(see(no_cycle()), IsNoFault());
  EXPECT_THAT(see(crossed(9)), IsNoFault());
  EXPECT_THAT(see(crossed(9)), IsFault(kDeadlock));
}

TEST_F(Deadlocks, AnotherProcessOrLockOrGenerationIsNotTheSame) {
  see(crossed(9));
  DeadlockSample other = crossed(9);
  other.pid = 101;
  EXPECT_THAT(see(other), IsNoFault());
  other.cycle[0].lock_address = 0x5000;
  EXPECT_THAT(see(other), IsNoFault());
  other.generation = kGeneration + 1;
  EXPECT_THAT(see(other), IsNoFault());
  start(kGeneration + 1);
  EXPECT_THAT(see(other), IsNoFault()) << "what the last agent did is forgotten";
  EXPECT_THAT(see(other), IsFault(kDeadlock));
}

TEST_F(Deadlocks, ClearsWhenTheCycleIsGone) {
  see(crossed(9));
  ASSERT_THAT(see(crossed(9)), IsFault(kDeadlock));
  see(no_cycle());
  EXPECT_FALSE(classifier_.active(kDeadlock));
}

TEST_F(Deadlocks, AreNotLookedForWhenSwitchedOff) {
  classifier_.set_policy({.hang_window = kWindow, .deadlock = false});
  for (int i = 0; i < 5; ++i) ASSERT_THAT(see(crossed(9)), IsNoFault());
}

TEST_F(Deadlocks, BeganWithTheOldestRequest) {
  live(2s);
  request();
  const MonotonicTime began = now_;
  live(3s);
  tell(crossed(9));
  const auto fault = tell(crossed(9));
  ASSERT_THAT(fault, IsFault(kDeadlock));
  EXPECT_EQ(fault->began_at, began);
}

TEST_F(Deadlocks, LocksWithoutOwnersAreAHangThatSaysSo) {
  live(5s);
  request();
  const auto fault = live(kWindow, [&](ProgressSample&) {
    DeadlockSample locks = no_cycle();
    locks.all_untimed_futex = true;
    locks.threads = 3;
    tell(locks);
  });
  ASSERT_THAT(fault, IsFault(kHang));
  EXPECT_THAT(evidence_of(*fault), HasSubstr("lock: all 3 threads wait for locks"));
}

// --- state ---

TEST_F(ClassifierTest, DamagedStateIsToldAtEachCheck) {
  const auto fault = tell(StateChecked{.damaged = true, .problem = "app.db is malformed"});
  ASSERT_THAT(fault, IsFault(kStateDamaged));
  EXPECT_THAT(fault->summary, HasSubstr("app.db is malformed"));
  EXPECT_THAT(tell(StateChecked{.damaged = true, .problem = "again"}), IsFault(kStateDamaged));
  EXPECT_THAT(tell(StateChecked{}), IsNoFault());
  EXPECT_FALSE(classifier_.active(kStateDamaged));
}

}  // namespace
}  // namespace remora
