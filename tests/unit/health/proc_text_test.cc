// The parsers of what the kernel shows: what it does show, and what no kernel ever would.
#include "sidecar/health/proc_text.h"

#include <array>
#include <functional>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/syscall.h>

namespace remora {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::string kStat =
    "4711 (a) b) R 1 4700 4700 0 -1 4194560 1 2 3 4 100 20 30 4 20 0 3 0 777 1000 200 18446744073";

TEST(ParseStat, TakesTheNameUpToTheLastParenthesis) {
  const auto stat = parse_stat(kStat);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->tid, 4711);
  EXPECT_EQ(stat->comm, "a) b");
  EXPECT_EQ(stat->state, 'R');
  EXPECT_EQ(stat->ppid, 1);
  EXPECT_EQ(stat->pgrp, 4700);
  EXPECT_EQ(stat->cpu_ticks, 120u);
  EXPECT_EQ(stat->children_cpu_ticks, 34u);
  EXPECT_EQ(stat->start_ticks, 777u);
}

TEST(ParseStat, ANameMayHoldAnything) {
  const std::string rest = kStat.substr(kStat.rfind(')'));
  const std::pair<std::string, std::string> names[] = {
      {"", ""},
      {"(((", "((("},
      {") S 9 9 9 (", ") S 9 9 9 ("},
      {"a\nb\t\x1b[2J\xff", "a?b??[2J?"},
  };
  for (const auto& [name, shown] : names) {
    const auto stat = parse_stat("4711 (" + name + rest);
    ASSERT_TRUE(stat) << name;
    EXPECT_EQ(stat->comm, shown);
    EXPECT_EQ(stat->start_ticks, 777u);
  }
}

TEST(ParseStat, NothingComesOfWhatIsCutShort) {
  // Up to the blank behind field 22 there is no whole answer; a number that is cut is still one.
  const size_t start_begins = kStat.find(" 777");
  for (size_t size = 0; size <= start_begins; ++size) {
    EXPECT_FALSE(parse_stat(kStat.substr(0, size))) << size;
  }
  EXPECT_TRUE(parse_stat(kStat.substr(0, start_begins + 4)));
}

TEST(ParseStat, NothingComesOfNonsense) {
  for (const char* text : {"", "()", ")(", "x (a) R 1 1", "-1 (a) R 1 1 1 0 0 0 0 0 0 0 1 1 1 1",
                           "1 (a) RR 1 1 1 1 0 0 0 0 0 0 1 1 1 1 0 0 0 0 7",
                           "1 (a) R 1 1 1 1 0 0 0 0 0 0 -1 1 1 1 0 0 0 0 7",
                           "1 (a) R 1 99999999999 1 1 0 0 0 0 0 0 1 1 1 1 0 0 0 0 7"}) {
    EXPECT_FALSE(parse_stat(text)) << text;
  }
}

TEST(ParseStatus, TakesTheLinesThatAreUsed) {
  const auto status = parse_status(
      "Name:\tTgid:\t5\nTgid:\t4711\nNSpid:\t4711\t31\t2\nCpus_allowed_list:\t0-3,8,10-11\n"
      "voluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t7\n");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->tgid, 4711);
  EXPECT_EQ(status->ns_tid, 2);
  EXPECT_EQ(status->cpus_allowed, 7u);
  EXPECT_EQ(status->voluntary_switches, 12u);
  EXPECT_EQ(status->involuntary_switches, 7u);
}

TEST(ParseStatus, IsNothingWithoutItsEnd) {
  EXPECT_FALSE(parse_status(""));
  EXPECT_FALSE(parse_status("Tgid:\t1\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches"));
  EXPECT_FALSE(parse_status("nonvoluntary_ctxt_switches:\t-1"));
}

TEST(ParseStatus, CpuListsThatAreNoneCountNothing) {
  for (const char* list : {"", "x", "3-1", "0-", "-1", "0-99999999", "0-65535,0-65535", "1,,2"}) {
    const auto status = parse_status("Cpus_allowed_list:\t" + std::string(list) +
                                     "\nnonvoluntary_ctxt_switches:\t0\n");
    ASSERT_TRUE(status);
    EXPECT_EQ(status->cpus_allowed, 0u) << list;
  }
}

TEST(ParseSchedstat, TwoNumbers) {
  const auto stat = parse_schedstat("100 30 7\n");
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->cpu_ns, 100u);
  EXPECT_EQ(stat->runqueue_wait_ns, 30u);
  EXPECT_FALSE(parse_schedstat("100"));
  EXPECT_FALSE(parse_schedstat("100 -3"));
  EXPECT_FALSE(parse_schedstat(""));
}

TEST(ParseSyscall, Kinds) {
  const auto running = parse_syscall("running\n");
  ASSERT_TRUE(running);
  EXPECT_EQ(running->kind, SyscallState::Kind::kRunning);
  const auto outside = parse_syscall("-1 0x7ffc 0x7f00\n");
  ASSERT_TRUE(outside);
  EXPECT_EQ(outside->kind, SyscallState::Kind::kOutsideSyscall);
  const auto inside = parse_syscall("202 0x7f01 0x189 0x2 0x0 0x0 0xffffffff 0x7ffc 0x7f00\n");
  ASSERT_TRUE(inside);
  EXPECT_EQ(inside->kind, SyscallState::Kind::kInSyscall);
  EXPECT_EQ(inside->number, 202);
  EXPECT_THAT(inside->args, ElementsAre(0x7f01, 0x189, 2, 0, 0, 0xffffffff));
  for (const char* text : {"", "x", "202", "202 0x1 0x2 0x3 0x4 0x5", "202 0x1 zz 0x3 0x4 0x5 0x6",
                           "202 0x11111111111111111 0x2 0x3 0x4 0x5 0x6"}) {
    EXPECT_FALSE(parse_syscall(text)) << text;
  }
}

SyscallState in_futex(uint64_t operation, uint64_t timeout) {
  return {.kind = SyscallState::Kind::kInSyscall,
          .number = SYS_futex,
          .args = {0x1000, operation, 2, timeout, 0, 0}};
}

TEST(Syscall, UntimedFutexes) {
  for (const uint64_t wait :
       {FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_WAIT_REQUEUE_PI}) {
    EXPECT_TRUE(is_untimed_futex(in_futex(wait, 0))) << wait;
    EXPECT_TRUE(is_untimed_futex(in_futex(wait | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME, 0)));
    EXPECT_FALSE(is_untimed_futex(in_futex(wait, 0x7ffc))) << wait;
  }
  EXPECT_FALSE(is_untimed_futex(in_futex(FUTEX_WAKE, 0)));
  SyscallState other = in_futex(FUTEX_WAIT, 0);
  other.number = SYS_read;
  EXPECT_FALSE(is_untimed_futex(other));
  EXPECT_FALSE(is_untimed_futex(SyscallState{}));
}

TEST(Syscall, Names) {
  EXPECT_EQ(syscall_name(in_futex(0, 0)), "futex");
  SyscallState state = in_futex(0, 0);
  state.number = SYS_epoll_pwait;
  EXPECT_EQ(syscall_name(state), "epoll_pwait");
  state.number = 99'999;
  EXPECT_EQ(syscall_name(state), "syscall 99999");
  EXPECT_EQ(syscall_name(SyscallState{}), "");
}

TEST(ParseIo, AddsFourLines) {
  EXPECT_EQ(parse_io_bytes("rchar: 10\nwchar: 20\nsyscr: 9\nsyscw: 9\nread_bytes: 3\n"
                           "write_bytes: 4\ncancelled_write_bytes: 99\n"),
            37u);
  EXPECT_EQ(parse_io_bytes("rchar: 18446744073709551615\nwchar: 5\n"), ~uint64_t{0}) << "saturates";
  EXPECT_FALSE(parse_io_bytes(""));
  EXPECT_FALSE(parse_io_bytes("rchar: x"));
  EXPECT_FALSE(parse_io_bytes("rchar"));
}

TEST(ParseLimits, OpenFiles) {
  const std::string before =
      "Limit                     Soft Limit           Hard Limit           Units     \n"
      "Max processes             63000                63000                processes \n"
      "Max open files            ";
  EXPECT_EQ(parse_open_files_limit(before + "1024  4096  files\n"), 1024u);
  EXPECT_EQ(parse_open_files_limit(before + "unlimited  unlimited  files\n"), 0u);
  EXPECT_FALSE(parse_open_files_limit(before));
  EXPECT_FALSE(parse_open_files_limit(""));
}

TEST(ParseChildren, TakesPidsOnly) {
  EXPECT_THAT(parse_children("12 13 -4 0 x 99999999999 14 "), ElementsAre(12, 13, 14));
  EXPECT_THAT(parse_children(""), IsEmpty());
}

TEST(ParseChildren, IsBounded) {
  std::string text;
  for (size_t i = 0; i < 2 * children_max; ++i) text += "7 ";
  EXPECT_EQ(parse_children(text).size(), children_max);
}

TEST(ParseSocketLink, TakesTheInode) {
  EXPECT_EQ(parse_socket_link("socket:[1234]"), 1234u);
  for (const char* link : {"", "socket:[]", "socket:[", "socket:[12", "socket:[x]", "pipe:[12]"}) {
    EXPECT_FALSE(parse_socket_link(link)) << link;
  }
}

TEST(ParseCgroup, BothVersions) {
  const CgroupPaths unified = parse_cgroup("0::/user.slice/a:b\n");
  EXPECT_EQ(unified.unified, "/user.slice/a:b") << "a path may hold colons";
  EXPECT_FALSE(unified.memory);
  const CgroupPaths first = parse_cgroup("12:memory:/m\n4:cpu,cpuacct:/c\n1:name=systemd:/s\nx\n");
  EXPECT_EQ(first.memory, "/m");
  EXPECT_EQ(first.cpu, "/c");
  EXPECT_FALSE(first.unified);
}

TEST(ParseCgroup, CountersAndQuotas) {
  EXPECT_EQ(parse_keyed_counter("oom 3\noom_kill 2\n", "oom_kill"), 2u);
  EXPECT_FALSE(parse_keyed_counter("oom_kill\n", "oom_kill"));
  EXPECT_FALSE(parse_keyed_counter("oom_kill -2", "oom_kill"));
  EXPECT_FALSE(parse_keyed_counter("", "oom_kill"));
  EXPECT_EQ(parse_cpu_max("50000 100000\n"), 0.5);
  EXPECT_FALSE(parse_cpu_max("max 100000\n"));
  EXPECT_FALSE(parse_cpu_max("50000 0"));
  EXPECT_FALSE(parse_cpu_max("50000"));
  EXPECT_EQ(parse_integer(" -1\n"), -1);
  EXPECT_FALSE(parse_integer("1x"));
  EXPECT_FALSE(parse_integer(""));
}

TEST(FindMapping, NamesTheMappingThatHoldsTheAddress) {
  const std::string maps =
      "1000-2000 r-xp 00003000 fe:00 42   /usr/lib/my lib.so\n"
      "2000-3000 rw-p 00000000 00:00 0\n"
      "3000-4000 rw-p 00000000 00:00 0    [heap]\n"
      "garbage\n"
      "5000-4000 rw-p 00000000 00:00 0    [backwards]\n"
      "6000-7000";
  EXPECT_EQ(find_mapping(maps, 0x1010), "my lib.so+0x3010");
  EXPECT_EQ(find_mapping(maps, 0x2000), "anonymous memory") << "an end is not part of it";
  EXPECT_EQ(find_mapping(maps, 0x3fff), "[heap]");
  EXPECT_EQ(find_mapping(maps, 0x4800), "");
  EXPECT_EQ(find_mapping(maps, 0x6000), "anonymous memory") << "cut short";
  EXPECT_EQ(find_mapping("", 0), "");
  EXPECT_EQ(find_mapping("0-10 r-xp 0 0 0 /x/\x1b[2J", 5), "?[2J+0x5");
}

}  // namespace
}  // namespace remora
