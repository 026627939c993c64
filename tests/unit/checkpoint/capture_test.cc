#include "checkpoint/capture.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "checkpoint/memory_store.h"
#include "checkpoint/verify.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

class CaptureTest : public CheckpointTest {
 protected:
  std::vector<Entry> entries_of(Store& store, const SnapshotInfo& info) {
    auto reader = store.begin_read();
    auto entries = read_entries(**reader, info.record);
    EXPECT_TRUE(entries.has_value());
    return *entries;
  }
  const Entry* find(const std::vector<Entry>& entries, const std::string& path) {
    for (const Entry& entry : entries) {
      if (entry.path == path) return &entry;
    }
    return nullptr;
  }
};

TEST_F(CaptureTest, WhatIsTakenComesBackByteForByte) {
  write_file(state_ + "/a", "alpha");
  write_file(state_ + "/sub/deep/b", noise(3 << 20));
  write_file(state_ + "/empty", "");
  std::filesystem::create_directory(state_ + "/empty dir");
  std::filesystem::create_symlink("/etc/passwd", state_ + "/link");
  write_file(state_ + "/zeros", std::string(5 << 20, '\0') + "end");
  ::chmod((state_ + "/a").c_str(), 0640);
  ::chmod((state_ + "/sub").c_str(), 0500);
  const auto before = tree_of(state_);
  const auto mtime = std::filesystem::last_write_time(state_ + "/sub/deep/b");
  const auto store = open_store();
  const CaptureReport report = take(*store);
  EXPECT_EQ(report.snapshot.record.file_count, 4U);

  RestoreOptions options = restore_options();
  options.state_dir = scratch_ / "other";
  const auto restored = restore_latest(*store, options);
  ASSERT_TRUE(restored.has_value()) << restored.error().message;
  EXPECT_EQ(tree_of(options.state_dir), before);
  EXPECT_EQ(std::filesystem::last_write_time(options.state_dir + "/sub/deep/b"), mtime);
  const auto mode = [&](const char* name) {
    struct stat st{};
    ::lstat((options.state_dir + name).c_str(), &st);
    return st.st_mode & 07777;
  };
  EXPECT_EQ(mode("/a"), 0640U);
  EXPECT_EQ(mode("/sub"), 0500U);
  struct stat st{};
  ::stat((options.state_dir + "/zeros").c_str(), &st);
  EXPECT_LT(st.st_blocks * 512, 3 << 20) << "zeros should come back as holes";
  ::chmod((state_ + "/sub").c_str(), 0700);
  ::chmod((options.state_dir + "/sub").c_str(), 0700);
}

TEST_F(CaptureTest, AnUnchangedStateReadsAndStoresNextToNothing) {
  for (int i = 0; i < 50; ++i) write_file(state_ + "/f" + std::to_string(i), noise(20000, i));
  const auto store = open_store();
  EXPECT_GE(take(*store).bytes_read, 1'000'000U);
  const CaptureReport second = take(*store);
  EXPECT_EQ(second.files_read, 0U);
  EXPECT_EQ(second.bytes_read, 0U);
  EXPECT_EQ(second.snapshot.record.added_bytes, 0U);
  EXPECT_EQ(store->list()->size(), 2U);

  CaptureOptions options = capture_options();
  options.skip_if_unchanged = true;
  const auto skipped = take_snapshot(*store, *store->current_epoch(), options);
  EXPECT_TRUE(skipped->unchanged);
  EXPECT_EQ(skipped->snapshot.id, second.snapshot.id);
  EXPECT_EQ(store->list()->size(), 2U);

  write_file(state_ + "/f7", "changed");
  const CaptureReport third = take(*store);
  EXPECT_EQ(third.files_read, 1U);
  EXPECT_EQ(third.bytes_read, 7U);
}

TEST_F(CaptureTest, AFileTouchedAMomentAgoIsReadAgain) {
  // With a clock that is not ahead, a just written file can't be trusted by its time stamp.
  const SystemClock now;
  write_file(state_ + "/f", "same size 1");
  const auto store = open_store();
  CaptureOptions options = capture_options();
  options.clock = &now;
  ASSERT_TRUE(take_snapshot(*store, {}, options).has_value());
  EXPECT_EQ(take_snapshot(*store, {}, options)->files_read, 1U);
}

// bytedance/deer-flow#3011: a constant blob stored again at every step.
TEST_F(CaptureTest, TwoThousandStepsWithAConstantBlobStoreItOnce) {
  const std::string blob = noise(20 << 20);
  write_file(state_ + "/blob", blob);
  MemoryStore store(scratch_.path());
  uint64_t added = 0;
  for (int step = 0; step < 2000; ++step) {
    write_file(state_ + "/step", std::to_string(step));
    // Rewritten now and then, as frameworks do that save everything each time.
    if (step % 500 == 499) write_file(state_ + "/blob", blob);
    added += take(store).snapshot.record.added_bytes;
    if (step % 100 != 99) continue;
    ASSERT_TRUE(store.prune({.keep_last = 10}).has_value());
  }
  EXPECT_LT(added, (20U << 20) + 2000 * 8192U);
  EXPECT_LT(store.chunk_count(), 300U);
}

TEST_F(CaptureTest, AnInsertionIntoALargeFileStoresLittle) {
  const std::string data = noise(16 << 20);
  write_file(state_ + "/log", data);
  const auto store = open_store();
  take(*store);
  write_file(state_ + "/log", "inserted" + data);
  EXPECT_LT(take(*store).snapshot.record.added_bytes, 4U << 20);
}

TEST_F(CaptureTest, SpecialFilesAreSkippedAndListed) {
  write_file(state_ + "/f", "x");
  ASSERT_EQ(::mkfifo((state_ + "/fifo").c_str(), 0600), 0);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string socket_path = state_ + "/sock";
  socket_path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(fd);
  const auto store = open_store();
  const CaptureReport report = take(*store);
  EXPECT_EQ(report.skipped, (std::vector<std::string>{"fifo (fifo)", "sock (socket)"}));
  const auto entries = entries_of(*store, report.snapshot);
  EXPECT_EQ(find(entries, "fifo")->type, EntryType::kSkipped);
  EXPECT_EQ(find(entries, "sock")->text, "socket");
}

TEST_F(CaptureTest, ExcludesByNameAndByPath) {
  write_file(state_ + "/keep", "x");
  write_file(state_ + "/a.tmp", "x");
  write_file(state_ + "/sub/b.tmp", "x");
  write_file(state_ + "/cache/deep/c", "x");
  write_file(state_ + "/sub/cache", "x");
  CaptureOptions options = capture_options();
  options.exclude = {"*.tmp", "cache/*"};
  const auto store = open_store();
  const auto report = take_snapshot(*store, {}, options);
  const auto entries = entries_of(*store, report->snapshot);
  EXPECT_NE(find(entries, "keep"), nullptr);
  EXPECT_NE(find(entries, "sub/cache"), nullptr);
  EXPECT_NE(find(entries, "cache"), nullptr);
  EXPECT_EQ(find(entries, "a.tmp"), nullptr);
  EXPECT_EQ(find(entries, "sub/b.tmp"), nullptr);
  EXPECT_EQ(find(entries, "cache/deep"), nullptr);
}

TEST_F(CaptureTest, AStoreInsideTheStateIsLeftOut) {
  write_file(state_ + "/f", "x");
  auto store = LocalStore::open({.root = state_ + "/.store", .mode = OpenMode::kCreate});
  const auto report = take_snapshot(**store, {}, capture_options());
  EXPECT_EQ(report->snapshot.record.file_count, 1U);
  EXPECT_EQ(find(entries_of(**store, report->snapshot), ".store"), nullptr);
  CaptureOptions same = capture_options();
  same.state_dir = state_ + "/.store";
  EXPECT_EQ(take_snapshot(**store, {}, same).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(CaptureTest, AnEmptiedOrLostStateIsNeverTaken) {
  write_file(state_ + "/f", "x");
  const auto store = open_store();
  take(*store);
  std::filesystem::remove(state_ + "/f");
  auto refused = try_take(*store);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
  std::filesystem::remove(state_);
  refused = try_take(*store);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(store->list()->size(), 1U);
  std::filesystem::create_directory(state_);
  CaptureOptions options = capture_options();
  options.accept_loss = true;
  EXPECT_TRUE(take_snapshot(*store, {}, options).has_value());
}

// Changes files while the capture believes the agent to stand still or not.
class CaptureStop : public CaptureTest {
 protected:
  Quiesce quiesce(std::function<void()> at_stop, std::function<void()> at_cont = [] {}) {
    return {.stop = [this, at_stop]() -> Result<void> {
              order_ += "stop ";
              at_stop();
              return {};
            },
            .cont = [this, at_cont]() -> Result<QuietPeriod> {
              order_ += "cont ";
              at_cont();
              return QuietPeriod{.stopped = std::chrono::milliseconds(7), .unbroken = unbroken_};
            }};
  }
  std::string order_;
  bool unbroken_ = true;
};

TEST_F(CaptureStop, TheCutIsOfTheStop) {
  write_file(state_ + "/index", "1");
  write_file(state_ + "/data", "1");
  write_file(state_ + "/goes", "x");
  const auto store = open_store();
  // What the agent did between the first reading and the stop.
  Quiesce q = quiesce(
      [&] {
        write_file(state_ + "/index", "22");
        write_file(state_ + "/data", "22");
        write_file(state_ + "/big", noise(20 << 20));  // more than is kept in memory
        write_file(state_ + "/new/deep", "n");
        std::filesystem::remove(state_ + "/goes");
      },
      // And once it goes on: must not be seen.
      [&] { write_file(state_ + "/index", "333"); });
  CaptureOptions options = capture_options();
  options.quiesce = &q;
  const auto report = take_snapshot(*store, {}, options);
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(order_, "stop cont ");
  EXPECT_TRUE(report->quiesced);
  EXPECT_EQ(report->snapshot.record.stopped_ns, 7'000'000U);
  RestoreOptions to = restore_options();
  to.state_dir = scratch_ / "out";
  ASSERT_TRUE(restore_latest(*store, to).has_value());
  const auto tree = tree_of(to.state_dir);
  EXPECT_EQ(tree.at("index"), "22");
  EXPECT_EQ(tree.at("data"), "22");
  EXPECT_EQ(tree.at("new/deep"), "n");
  EXPECT_EQ(tree.at("big"), noise(20 << 20));
  EXPECT_FALSE(tree.contains("goes"));
}

TEST_F(CaptureStop, AnIdleAgentIsNotStopped) {
  write_file(state_ + "/f", "x");
  const auto store = open_store();
  take(*store);
  Quiesce q = quiesce([] {});
  CaptureOptions options = capture_options();
  options.quiesce = &q;
  ASSERT_TRUE(take_snapshot(*store, {}, options).has_value());
  EXPECT_EQ(order_, "");
}

TEST_F(CaptureStop, TheAgentIsContinuedWhenCopyingFails) {
  write_file(state_ + "/f", "x");
  const auto store = open_store();
  take(*store);
  write_file(state_ + "/f", "yy");
  Quiesce q = quiesce([&] {
    std::filesystem::remove_all(state_);
    write_file(state_, "a file where the directory was");
  });
  CaptureOptions options = capture_options();
  options.quiesce = &q;
  EXPECT_FALSE(take_snapshot(*store, {}, options).has_value());
  EXPECT_EQ(order_, "stop cont ");
}

TEST_F(CaptureStop, AStopThatWasCutShortIsRecorded) {
  write_file(state_ + "/f", "x");
  unbroken_ = false;
  const auto store = open_store();
  Quiesce q = quiesce([] {});
  CaptureOptions options = capture_options();
  options.quiesce = &q;
  EXPECT_FALSE(take_snapshot(*store, {}, options)->quiesced);
}

TEST_F(CaptureTest, CancellingEndsItWithoutASnapshot) {
  write_file(state_ + "/f", noise(1 << 20));
  const auto store = open_store();
  CaptureOptions options = capture_options();
  options.cancelled = std::make_shared<std::atomic<bool>>(true);
  EXPECT_EQ(take_snapshot(*store, {}, options).error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(store->list()->empty());
  EXPECT_TRUE(std::filesystem::is_empty(store_path_ + "/tmp"));
  EXPECT_TRUE(std::filesystem::is_empty(store_path_ + "/packs"));
}

}  // namespace
}  // namespace remora::checkpoint
