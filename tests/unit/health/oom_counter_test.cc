// Which counter tells that the kernel's OOM killer struck the agent.
#include "sidecar/health/oom_counter.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "tests/fakes/temp_directory.h"

namespace remora {
namespace {

class OomCounterTest : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root_.path() + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void place(const std::string& cgroup) const { write("proc/7/cgroup", "4:memory:" + cgroup); }
  void machine(int kills) const {
    write("proc/vmstat", "nr_free_pages 5\noom_kill " + std::to_string(kills) + "\n");
  }
  void cgroup(const std::string& name, int kills) const {
    write("cgroup/memory/" + name + "/memory.oom_control",
          "oom_kill_disable 0\nunder_oom 0\noom_kill " + std::to_string(kills) + "\n");
  }
  OomCounter counter() const {
    return OomCounter(7, root_.path() + "/proc", root_.path() + "/cgroup");
  }

  TempDirectory root_;
};

TEST_F(OomCounterTest, CountsFromTheStart) {
  place("/pod");
  cgroup("pod", 3);
  const OomCounter counted = counter();
  EXPECT_EQ(counted.kills(), 0u);
  cgroup("pod", 5);
  EXPECT_EQ(counted.kills(), 2u);
}

TEST_F(OomCounterTest, FollowsTheAgentToAnotherCgroup) {
  place("/pod");
  cgroup("pod", 3);
  cgroup("pod/agent", 40);
  OomCounter counted = counter();
  place("/pod/agent");
  counted.follow();
  EXPECT_EQ(counted.kills(), 0u);
  cgroup("pod/agent", 41);
  EXPECT_EQ(counted.kills(), 1u);
}

// It moved after the last look, so that the cgroup it was killed in was never seen.
TEST_F(OomCounterTest, AKillInAnUnseenCgroupShowsInTheMachinesCount) {
  place("/pod");
  cgroup("pod", 3);
  machine(10);
  OomCounter counted = counter();
  machine(11);  // somebody else's, before the last two looks
  counted.follow();
  counted.follow();
  EXPECT_EQ(counted.kills(), 0u);
  machine(12);
  EXPECT_EQ(counted.kills(), 1u);
}

// The kernel has let go of its cgroup (v1 shows the root then), but it hasn't ended.
TEST_F(OomCounterTest, ALookWhileItIsDyingDoesntHideItsKill) {
  place("/pod/agent");
  cgroup("pod/agent", 0);
  machine(10);
  OomCounter counted = counter();
  counted.follow();
  cgroup("pod/agent", 1);
  machine(11);
  place("/");
  cgroup("", 0);
  counted.follow();
  EXPECT_EQ(counted.kills(), 1u);
}

TEST_F(OomCounterTest, NothingToReadIsNoKill) {
  OomCounter counted = counter();
  counted.follow();
  EXPECT_EQ(counted.kills(), 0u);
}

TEST_F(OomCounterTest, UnifiedHierarchyAboveWhatIsMounted) {
  write("proc/7/cgroup", "0::/kubepods/pod1/agent\n");
  write("cgroup/memory.events", "low 0\noom 1\noom_kill 0\n");
  const OomCounter counted = counter();
  write("cgroup/memory.events", "low 0\noom 1\noom_kill 1\n");
  EXPECT_EQ(counted.kills(), 1u);
}

}  // namespace
}  // namespace remora
