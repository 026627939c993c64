// Who belongs to the agent: its family by descent, session, group and mark; nobody else.
#include "sidecar/health/process_tree.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace remora {
namespace {

using ::testing::UnorderedElementsAre;

constexpr pid_t self = 10;
constexpr pid_t agent = 100;

// pid, parent, group, session
ProcessEntry process(pid_t pid, pid_t parent, pid_t group, pid_t session) {
  return {pid, parent, group, session, 'S', static_cast<uint64_t>(pid) * 10};
}

std::vector<pid_t> family_of(const std::vector<ProcessEntry>& processes,
                             const std::vector<ProcessEntry>& remembered = {}) {
  std::vector<pid_t> pids;
  for (const auto& entry : find_family(processes, agent, self, "M=1", remembered)) {
    pids.push_back(entry.pid);
  }
  return pids;
}

TEST(FindFamily, TakesDescendantsThatLeftGroupAndSession) {
  EXPECT_THAT(family_of({process(self, 1, 10, 10), process(agent, self, 100, 100),
                         process(103, 102, 103, 103), process(101, agent, 100, 100),
                         process(102, 101, 102, 102)}),
              UnorderedElementsAre(101, 102, 103));
}

TEST(FindFamily, TakesOrphansThatStayedInTheSession) {
  EXPECT_THAT(family_of({process(agent, self, 100, 100), process(104, self, 104, 100)}),
              UnorderedElementsAre(104));
}

TEST(FindFamily, LeavesStrangersAndOurOwnOtherChildrenAlone) {
  EXPECT_THAT(
      family_of({process(1, 0, 1, 1), process(self, 1, 10, 10), process(agent, self, 100, 100),
                 process(50, self, 50, 10), process(51, 50, 50, 10), process(99, 1, 99, 99)}),
      ::testing::IsEmpty());
}

TEST(FindFamily, TakesWhatWasRememberedUnlessThePidWasReused) {
  const auto before = process(105, agent, 105, 105);
  auto reused = process(106, 1, 106, 106);
  const auto was = reused;
  reused.start_ticks += 1;
  EXPECT_THAT(
      family_of({process(105, self, 105, 105), process(107, 105, 105, 105), reused}, {before, was}),
      UnorderedElementsAre(105, 107));
}

TEST(ListProcesses, FindsThisProcess) {
  const auto processes = list_processes();
  const auto it = std::find_if(processes.begin(), processes.end(),
                               [](const ProcessEntry& p) { return p.pid == ::getpid(); });
  ASSERT_NE(it, processes.end());
  EXPECT_EQ(it->parent, ::getppid());
  EXPECT_EQ(it->group, ::getpgrp());
  EXPECT_EQ(it->session, ::getsid(0));
  EXPECT_GT(it->start_ticks, 0u);
  EXPECT_TRUE(signal_process(*it, 0));
}

TEST(SignalProcess, RefusesAReusedPid) {
  const auto processes = list_processes();
  auto it = std::find_if(processes.begin(), processes.end(),
                         [](const ProcessEntry& p) { return p.pid == ::getpid(); });
  ASSERT_NE(it, processes.end());
  ProcessEntry other = *it;
  other.start_ticks += 1;
  EXPECT_FALSE(signal_process(other, 0));
}

TEST(EnvironmentHolds, WantsTheWholeEntry) {
  const char* path = ::getenv("PATH");
  ASSERT_NE(path, nullptr);
  const std::string entry = std::string("PATH=") + path;
  EXPECT_TRUE(environment_holds(::getpid(), entry));
  EXPECT_FALSE(environment_holds(::getpid(), entry.substr(0, entry.size() - 1)));
  EXPECT_FALSE(environment_holds(::getpid(), entry.substr(1)));
}

}  // namespace
}  // namespace remora
