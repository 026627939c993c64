// ProcessReader against a made-up /proc and cgroup tree, and against real processes.
#include "sidecar/health/process.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include "sidecar/base/handle.h"
#include "tests/fakes/temp_directory.h"
#include "tests/unit/health/child_process.h"

namespace remora {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Above every PID that the kernel gives out: nothing here can touch a real process.
constexpr pid_t kAgent = 5'000'000;
constexpr uint64_t kTickNs = 10'000'000;

class ProcTree {
 public:
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }
  struct Process {
    pid_t pid = kAgent;
    char state = 'S';
    pid_t group = kAgent;
    std::array<uint64_t, 4> ticks{};  // user, system, and the same of children waited for
    std::string children = {};
  };
  void add(const Process& process) const {
    const std::string id = std::to_string(process.pid);
    const std::string task = "proc/" + id + "/task/" + id;
    std::string stat = id + " (agent) " + process.state + " 1 " + std::to_string(process.group) +
                       " 1 0 -1 0 0 0 0 0";
    for (const uint64_t ticks : process.ticks) stat += " " + std::to_string(ticks);
    stat += " 20 0 1 0 777 0\n";
    write("proc/" + id + "/stat", stat);
    write(task + "/stat", stat);
    const std::string status =
        "Name:\tagent\nTgid:\t" + id +
        "\nCpus_allowed_list:\t0-3\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t2\n";
    write("proc/" + id + "/status", status);
    write(task + "/status", status);
    write(task + "/schedstat", "100 30 7\n");
    write(task + "/syscall", "202 0x7f00 0x80 0x2 0x0 0x0 0x0 0x7fff 0x7f01\n");
    write(task + "/children", process.children);
    write("proc/" + id + "/io",
          "rchar: 10\nwchar: 20\nsyscr: 9\nsyscw: 9\nread_bytes: 3\nwrite_bytes: 4\n");
    write("proc/" + id + "/limits", "Max open files            10                   20  files\n");
    fs::create_directories(root_ / "proc" / id / "fd");
    write("proc/" + id + "/cgroup", "0::/box\n");
  }
  void open(pid_t pid, int fd, const std::string& target) const {
    fs::create_symlink(target, root_ / "proc" / std::to_string(pid) / "fd" / std::to_string(fd));
  }
  const fs::path& root() const { return root_; }

  ProgressSample read(bool detailed = true) const {
    ProcessReader reader((root_ / "proc").string(), (root_ / "cgroup").string());
    ProgressSample sample;
    reader.read(kAgent, detailed, sample);
    return sample;
  }

 private:
  const TempDirectory directory_;
  const fs::path root_ = directory_.path();
};

TEST(ProcessReader, NothingIsKnownOfAProcessThatIsGone) {
  const ProcTree tree;
  const ProgressSample sample = tree.read();
  EXPECT_FALSE(sample.process_seen);
  EXPECT_EQ(sample.processes, 0u);
  EXPECT_THAT(sample.degraded, IsEmpty()) << "gone is not hidden";
}

TEST(ProcessReader, AZombieIsGone) {
  const ProcTree tree;
  tree.add({.state = 'Z'});
  EXPECT_FALSE(tree.read().process_seen);
}

TEST(ProcessReader, AddsUpTheAgentAndWhatIsBelowIt) {
  const ProcTree tree;
  const std::string child = std::to_string(kAgent + 1);
  const std::string grandchild = std::to_string(kAgent + 2);
  tree.add({.ticks = {7, 3, 0, 0}, .children = child});
  tree.add({.pid = kAgent + 1, .group = kAgent + 1, .ticks = {1, 1, 0, 0}, .children = grandchild});
  tree.add({.pid = kAgent + 2, .group = kAgent + 1, .ticks = {4, 0, 0, 0}});
  const ProgressSample sample = tree.read();
  EXPECT_TRUE(sample.process_seen);
  EXPECT_EQ(sample.processes, 3u);
  EXPECT_EQ(sample.threads_total, 3u);
  EXPECT_EQ(sample.cpu_ns, 16 * kTickNs);
  EXPECT_EQ(sample.runqueue_wait_ns, 90u);
  EXPECT_EQ(sample.io_bytes, 3 * 37u);
  EXPECT_THAT(sample.degraded, IsEmpty());
  ASSERT_EQ(sample.threads.size(), 3u);
  EXPECT_EQ(sample.threads[0].tid, kAgent);
  EXPECT_EQ(sample.threads[0].name, "agent");
  EXPECT_EQ(sample.threads[0].waits_in, "futex");
  EXPECT_TRUE(sample.threads[0].untimed_futex);
}

// An agent that works through short commands uses most of its CPU in processes that no sample sees.
TEST(ProcessReader, CountsTheCpuOfChildrenThatHaveEnded) {
  const ProcTree tree;
  tree.add({.ticks = {1, 2, 30, 40}});
  EXPECT_EQ(tree.read().cpu_ns, 73 * kTickNs);
}

TEST(ProcessReader, CpuStaysATotalWhileAChildEndsAndIsWaitedFor) {
  const std::string child = std::to_string(kAgent + 1);
  const ProcTree runs;
  runs.add({.ticks = {1, 0, 0, 0}, .children = child});
  runs.add({.pid = kAgent + 1, .ticks = {50, 0, 0, 0}});
  const ProcTree ended;
  ended.add({.ticks = {1, 0, 0, 0}, .children = child});
  ended.add({.pid = kAgent + 1, .state = 'Z', .ticks = {50, 0, 0, 0}});
  const ProcTree waited_for;
  waited_for.add({.ticks = {1, 0, 50, 0}});
  EXPECT_EQ(runs.read().cpu_ns, 51 * kTickNs);
  EXPECT_EQ(ended.read().cpu_ns, 51 * kTickNs);
  EXPECT_EQ(ended.read().processes, 1u);
  EXPECT_EQ(waited_for.read().cpu_ns, 51 * kTickNs);
}

TEST(ProcessReader, FindsOrphansOfTheAgentsGroupBelowItself) {
  const ProcTree tree;
  tree.add({});
  tree.add({.pid = kAgent + 1});
  tree.add({.pid = kAgent + 2, .group = kAgent + 2});  // somebody else's
  tree.write("proc/self/task/1/children",
             std::to_string(kAgent + 1) + " " + std::to_string(kAgent + 2));
  ProcessReader reader((tree.root() / "proc").string(), (tree.root() / "cgroup").string());
  ProgressSample sample;
  reader.read(kAgent, true, sample);
  EXPECT_THAT(reader.processes(), ElementsAre(kAgent, kAgent + 1));
}

TEST(ProcessReader, ACycleOfChildrenEnds) {
  const ProcTree tree;
  tree.add({.children = std::to_string(kAgent + 1)});
  tree.add({.pid = kAgent + 1, .children = std::to_string(kAgent)});
  EXPECT_EQ(tree.read().processes, 2u);
}

TEST(ProcessReader, DescriptorsOfTheProcessNearestToItsLimit) {
  const ProcTree tree;
  tree.add({.children = std::to_string(kAgent + 1)});
  tree.add({.pid = kAgent + 1});
  tree.open(kAgent, 0, "/dev/null");
  for (int fd = 0; fd < 9; ++fd) tree.open(kAgent + 1, fd, "/dev/null");
  const ProgressSample sample = tree.read();
  EXPECT_EQ(sample.fds_open, 9u);
  EXPECT_EQ(sample.fds_max, 10u);
  EXPECT_FALSE(sample.has_event_loop);
}

TEST(ProcessReader, AnEpollDescriptorOfTheAgentIsAnEventLoop) {
  const ProcTree tree;
  tree.add({});
  tree.open(kAgent, 3, "anon_inode:[eventpoll]");
  EXPECT_TRUE(tree.read().has_event_loop);
}

TEST(ProcessReader, SaysWhatItCouldNotSee) {
  const ProcTree tree;
  tree.add({});
  // A directory can be opened but not read: what any user, root included, fails at.
  const fs::path io = tree.root() / "proc" / std::to_string(kAgent) / "io";
  fs::remove(io);
  fs::create_directory(io);
  const ProgressSample sample = tree.read();
  EXPECT_TRUE(sample.process_seen);
  EXPECT_THAT(sample.degraded, ElementsAre("io: Is a directory"));
}

TEST(ProcessReader, AFileThatWentWithItsProcessIsNotHidden) {
  const ProcTree tree;
  tree.add({});
  fs::remove(tree.root() / "proc" / std::to_string(kAgent) / "io");
  EXPECT_THAT(tree.read().degraded, IsEmpty());
}

TEST(ProcessReader, DescriptorsThatWentWithTheirProcessAreNotHidden) {
  const ProcTree tree;
  tree.add({});
  fs::remove_all(tree.root() / "proc" / std::to_string(kAgent) / "fd");
  EXPECT_THAT(tree.read().degraded, IsEmpty());
}

TEST(ProcessReader, HostileTextsAreLeftOut) {
  const ProcTree tree;
  tree.add({});
  const std::string task =
      "proc/" + std::to_string(kAgent) + "/task/" + std::to_string(kAgent) + "/";
  tree.write(task + "children", "-1 0 99999999999999999999 x");
  tree.write(task + "status", "voluntary_ctxt_switches:\t-5");
  tree.write(task + "syscall", std::string(100'000, '\xff'));
  tree.write(task + "schedstat", "");
  tree.write("proc/" + std::to_string(kAgent) + "/cgroup", "0::");
  const ProgressSample sample = tree.read();
  EXPECT_TRUE(sample.process_seen);
  EXPECT_EQ(sample.processes, 1u);
  EXPECT_EQ(sample.runqueue_wait_ns, 0u);
}

TEST(ProcessReader, UnifiedCgroup) {
  const ProcTree tree;
  tree.add({});
  tree.write("cgroup/box/cpu.stat", "usage_usec 9\nnr_throttled 4\nthrottled_usec 2500\n");
  tree.write("cgroup/box/cpu.max", "50000 100000\n");
  tree.write("cgroup/box/memory.events", "low 0\noom 3\noom_kill 2\n");
  const ProgressSample sample = tree.read();
  EXPECT_EQ(sample.throttled, std::chrono::microseconds(2500));
  EXPECT_DOUBLE_EQ(sample.cpus_available, 0.5);
  EXPECT_EQ(sample.oom_kills, 2u);
}

TEST(ProcessReader, CgroupsOfTheFirstVersion) {
  const ProcTree tree;
  tree.add({});
  tree.write("proc/" + std::to_string(kAgent) + "/cgroup", "4:memory:/box\n3:cpu,cpuacct:/box\n");
  tree.write("cgroup/cpu/box/cpu.stat", "nr_periods 3\nnr_throttled 4\nthrottled_time 77\n");
  tree.write("cgroup/cpu/box/cpu.cfs_quota_us", "150000\n");
  tree.write("cgroup/cpu/box/cpu.cfs_period_us", "100000\n");
  tree.write("cgroup/memory/box/memory.oom_control", "oom_kill_disable 0\noom_kill 5\n");
  const ProgressSample sample = tree.read();
  EXPECT_EQ(sample.throttled, Duration(77));
  EXPECT_DOUBLE_EQ(sample.cpus_available, 1.5);
  EXPECT_EQ(sample.oom_kills, 5u);
}

TEST(ProcessReader, CpusAreTheFewerOfQuotaAndMask) {
  for (const bool detailed : {false, true}) {
    const ProcTree tree;
    tree.add({});
    EXPECT_DOUBLE_EQ(tree.read(detailed).cpus_available, 4) << "no quota: the mask";
    tree.write("cgroup/box/cpu.max", "1600000 100000\n");
    EXPECT_DOUBLE_EQ(tree.read(detailed).cpus_available, 4) << "a quota of 16 on 4";
    tree.write("cgroup/box/cpu.max", "200000 100000\n");
    EXPECT_DOUBLE_EQ(tree.read(detailed).cpus_available, 2);
  }
}

// A real process.

TEST(ProcessReader, CpuGrowsForAProcessThatSpins) {
  const ChildProcess child([] {
    std::atomic<uint64_t> turns = 0;
    for (;;) turns.fetch_add(1);
  });
  ProcessReader reader("/proc", "/sys/fs/cgroup");
  const auto cpu = [&] {
    ProgressSample sample;
    reader.read(child.pid(), false, sample);
    return sample.cpu_ns;
  };
  const uint64_t before = cpu();
  EXPECT_TRUE(eventually([&] { return cpu() >= before + 5 * kTickNs; }));
}

TEST(ProcessReader, SeesARealProcess) {
  const ChildProcess child([] {
    const UniqueFd epoll(::epoll_create1(0));
    epoll_event event{};
    for (;;) ::epoll_wait(epoll.get(), &event, 1, -1);
  });
  ProcessReader reader("/proc", "/sys/fs/cgroup");
  ProgressSample sample;
  ASSERT_TRUE(eventually([&] {
    sample = {};
    reader.read(child.pid(), true, sample);
    return !sample.threads.empty() && sample.threads[0].waits_in.starts_with("epoll");
  }));
  EXPECT_TRUE(sample.process_seen);
  EXPECT_TRUE(sample.has_event_loop);
  EXPECT_EQ(sample.processes, 1u);
  EXPECT_EQ(sample.threads_total, 1u);
  EXPECT_GT(sample.fds_open, 2u);
  EXPECT_GT(sample.cpus_available, 0);
  EXPECT_FALSE(sample.threads[0].untimed_futex);
}

}  // namespace
}  // namespace remora
