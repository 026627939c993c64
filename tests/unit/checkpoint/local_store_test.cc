#include "checkpoint/local_store.h"

#include <thread>

#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/state_check.h"
#include "checkpoint/verify.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

class LocalStoreTest : public CheckpointTest {
 protected:
  std::vector<std::string> packs() {
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(store_path_ + "/packs")) {
      paths.push_back(entry.path());
    }
    return paths;
  }

  void flip_bit(const std::string& path, size_t at) {
    std::string bytes = read_file(path);
    ASSERT_LT(at, bytes.size());
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    write_file(path, bytes);
  }

  // A bit in the middle of where the store keeps this content (which must not compress).
  void damage_content(const std::string& content) {
    for (const std::string& path : packs()) {
      const size_t at = read_file(path).find(content.substr(0, 64));
      if (at == std::string::npos) continue;
      flip_bit(path, at + content.size() / 2);
      return;
    }
    FAIL() << "content not found";
  }
};

TEST_F(LocalStoreTest, ANewerFormatIsRefusedAndNothingIsTouched) {
  write_file(state_ + "/f", "x");
  take(*open_store());
  write_file(store_path_ + "/format", "remora snapshot store\nversion 2\n");
  write_file(store_path_ + "/tmp/theirs", "x");
  const auto before = tree_of(store_path_);
  for (const OpenMode mode : {OpenMode::kExisting, OpenMode::kCreate}) {
    const auto refused = LocalStore::open({.root = store_path_, .mode = mode});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kUnsupportedVersion);
    EXPECT_NE(refused.error().message.find("version 2"), std::string::npos);
  }
  EXPECT_EQ(tree_of(store_path_), before);
}

TEST_F(LocalStoreTest, ADamagedOrMissingFormatFileIsNotPapered) {
  write_file(state_ + "/f", "x");
  take(*open_store());
  for (const char* text :
       {"", "garbage", "remora snapshot store\nversion \n", "remora snapshot store\nversion 1"}) {
    write_file(store_path_ + "/format", text);
    const auto refused = LocalStore::open({.root = store_path_, .mode = OpenMode::kCreate});
    ASSERT_FALSE(refused.has_value()) << text;
    EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt) << text;
  }
  std::filesystem::remove(store_path_ + "/format");
  EXPECT_EQ(LocalStore::open({.root = store_path_, .mode = OpenMode::kCreate}).error().code,
            ErrorCode::kCorrupt);
}

TEST_F(LocalStoreTest, OpeningWhatIsNoStoreSaysWhatToDo) {
  const auto refused = LocalStore::open({.root = store_path_});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kNotFound);
  EXPECT_NE(refused.error().message.find("remora snapshot take"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(store_path_));
}

TEST_F(LocalStoreTest, IsReadableByItsOwnerOnly) {
  write_file(state_ + "/f", "x");
  take(*open_store());
  for (const auto& entry : std::filesystem::recursive_directory_iterator(store_path_)) {
    const auto mode = static_cast<unsigned>(entry.status().permissions());
    EXPECT_EQ(mode & 077, 0U) << entry.path();
  }
}

// borgbackup/borg#8249: one bit in a chunk that three snapshots share.
TEST_F(LocalStoreTest, AFlippedBitInASharedChunkNamesItsSnapshotsAndIsPassedOver) {
  const std::string shared = noise(40'000, 3);
  write_file(state_ + "/own", "only in the first");
  const auto store = open_store();
  const std::string first = take(*store).snapshot.id;
  write_file(state_ + "/shared", shared);
  std::vector<std::string> affected;
  for (int i = 0; i < 3; ++i) {
    write_file(state_ + "/own", std::to_string(i));
    affected.push_back(take(*store).snapshot.id);
  }
  damage_content(shared);

  const auto fresh = open_store();
  const auto report = verify_snapshots(*fresh, *fresh->list());
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->damaged_chunks, std::vector<std::string>{sha256(shared).hex()});
  std::vector<std::string> named;
  for (const SnapshotVerdict& verdict : report->snapshots) {
    if (verdict.intact()) continue;
    named.push_back(verdict.snapshot.id);
    EXPECT_NE(verdict.problems[0].find("shared: chunk " + sha256(shared).hex()), std::string::npos);
  }
  EXPECT_EQ(named, affected);

  RestoreOptions to = restore_options();
  to.state_dir = scratch_ / "out";
  const auto restored = restore_latest(*fresh, to);
  ASSERT_TRUE(restored.has_value()) << restored.error().message;
  EXPECT_EQ(restored->snapshot.id, first);
  EXPECT_EQ(restored->passed_over.size(), 3U);
  EXPECT_EQ(tree_of(to.state_dir),
            (std::map<std::string, std::string>{{"own", "only in the first"}}));
  // Nothing of the failed tries is left beside it.
  for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
    EXPECT_EQ(entry.path().string().find(".remora-restore-"), std::string::npos);
  }

  // The state still has the bytes: the next snapshot stores them again and heals the others.
  take(*fresh);
  const auto healed = open_store();
  EXPECT_FALSE(verify_snapshots(*healed, *healed->list())->damaged());
  ASSERT_TRUE(healed->prune({.keep_last = 2}).has_value());
  EXPECT_FALSE(verify_snapshots(*healed, *healed->list())->damaged());
}

TEST_F(LocalStoreTest, PruneKeepsTheNewestIntactSnapshotBesides) {
  write_file(state_ + "/own", "good");
  const auto store = open_store();
  const std::string good = take(*store).snapshot.id;
  const std::string content = noise(40'000, 5);
  write_file(state_ + "/bad", content);
  take(*store);
  write_file(state_ + "/own", "two");
  const std::string newest = take(*store).snapshot.id;
  damage_content(content);
  const auto fresh = open_store();
  const auto report = fresh->prune({.keep_last = 1});
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(report->kept_snapshots, (std::vector<std::string>{good, newest}));
  EXPECT_EQ(restore_latest(*fresh, restore_options())->snapshot.id, good);
}

TEST_F(LocalStoreTest, ADamagedRecordIsListedAndPassedOver) {
  write_file(state_ + "/f", "one");
  const auto store = open_store();
  const std::string first = take(*store).snapshot.id;
  write_file(state_ + "/f", "two");
  const std::string second = take(*store).snapshot.id;
  const std::string path = store_path_ + "/snapshots/" + second;
  const std::string whole = read_file(path);
  for (const size_t size : {whole.size() - 1, whole.size() / 2, size_t{0}}) {
    write_file(path, whole.substr(0, size));
    const auto all = store->list();
    ASSERT_EQ(all->size(), 2U);
    EXPECT_FALSE((*all)[1].problem.empty());
    EXPECT_EQ((*all)[1].id, second);
  }
  EXPECT_EQ(restore_latest(*store, restore_options())->snapshot.id, first);
  write_file(state_ + "/f", "three");
  EXPECT_GT(take(*store).snapshot.record.sequence, 2U);
}

TEST_F(LocalStoreTest, ALostPackIsStoredAgain) {
  write_file(state_ + "/f", noise(10'000));
  take(*open_store());
  for (const std::string& path : packs()) std::filesystem::remove(path);
  const auto store = open_store();
  EXPECT_TRUE(verify_snapshots(*store, *store->list())->damaged());
  EXPECT_EQ(restore_latest(*store, restore_options()).error().code, ErrorCode::kNotFound);
  take(*store);
  EXPECT_FALSE(verify_snapshots(*store, *store->list())->damaged());
}

TEST_F(LocalStoreTest, ALostEpochCountsOnAndFencesOldWriters) {
  write_file(state_ + "/f", "x");
  const auto store = open_store();
  const Epoch old = *store->claim_epoch("");
  ASSERT_TRUE(take_snapshot(*store, old, capture_options()).has_value());
  for (const char* text : {"", "epoch x y\n", "\0\0\0\0"}) {
    write_file(store_path_ + "/epoch", text);
    EXPECT_EQ(take_snapshot(*store, old, capture_options()).error().code, ErrorCode::kPermission);
    EXPECT_GT(store->claim_epoch("")->number, old.number);
  }
}

TEST_F(LocalStoreTest, ManySmallPacksAreJoined) {
  const auto store = open_store();
  for (int i = 0; i < 80; ++i) {
    write_file(state_ + "/f" + std::to_string(i), noise(500, static_cast<uint64_t>(i)));
    take(*store);
  }
  EXPECT_EQ(packs().size(), 80U);
  ASSERT_TRUE(store->prune({.keep_last = 1000}).has_value());
  EXPECT_LT(packs().size(), 3U);
  EXPECT_FALSE(verify_snapshots(*store, *store->list())->damaged());
  EXPECT_FALSE(verify_snapshots(*open_store(), *store->list())->damaged());
}

// restic/restic#3486: prune and snapshots by two processes at once. A thread with its own store has
// its own locks, as a process has.
TEST_F(LocalStoreTest, PruningDuringSnapshotsNeverLosesData) {
  std::atomic<bool> done{false};
  std::atomic<int> pruned{0};
  open_store();
  std::thread pruner([&] {
    auto store = LocalStore::open({.root = store_path_});
    while (!done) pruned += (*store)->prune({.keep_last = 3}).has_value() ? 1 : 0;
  });
  auto store = LocalStore::open({.root = store_path_});
  int taken = 0;
  for (int i = 0; i < 150 || (pruned < 20 && i < 5000); ++i) {
    // Content that comes and goes, so that chunks die and are wanted again.
    write_file(state_ + "/a", noise(5000, static_cast<uint64_t>(i % 7)));
    write_file(state_ + "/b", noise(5000, static_cast<uint64_t>(i % 5)));
    const auto report = try_take(**store);
    ASSERT_TRUE(report.has_value()) << report.error().message;
    ++taken;
  }
  done = true;
  pruner.join();
  EXPECT_GE(taken, 150);
  EXPECT_GE(pruned, 20);
  const auto fresh = open_store();
  EXPECT_FALSE(verify_snapshots(*fresh, *fresh->list())->damaged());
}

TEST_F(LocalStoreTest, ALockDiesWithItsOwner) {
  write_file(state_ + "/f", "x");
  const auto store = open_store();
  take(*store);
  take(*store);
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto lock = real_file_system().lock(store_path_ + "/lock", LockKind::kExclusive,
                                        std::chrono::seconds(1));
    static_cast<void>(!::write(ready[1], lock ? "y" : "n", 1));
    ::pause();
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  EXPECT_EQ(try_take(*store).error().code, ErrorCode::kUnavailable);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(try_take(*store).has_value());
  EXPECT_TRUE(store->prune({.keep_last = 1}).has_value());
  ::close(ready[0]);
  ::close(ready[1]);
}

// borgbackup/borg#364, on a real volume that is full for real.
TEST_F(LocalStoreTest, AFullVolumeKeepsOldSnapshotsAndWorksOnceSpaceReturns) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount a small volume";
  const std::string volume = scratch_ / "volume";
  std::filesystem::create_directory(volume);
  if (::mount("tmpfs", volume.c_str(), "tmpfs", 0, "size=64m") != 0) {
    GTEST_SKIP() << "mounting is not allowed here";
  }
  auto unmount = [&](...) { ::umount2(volume.c_str(), MNT_DETACH); };
  const std::unique_ptr<void, decltype(unmount)> guard(this, unmount);

  auto store = *LocalStore::open({.root = volume + "/store", .mode = OpenMode::kCreate});
  write_file(state_ + "/small", noise(1 << 20));
  take(*store);
  write_file(state_ + "/large", noise(80 << 20, 2));
  const auto refused = try_take(*store);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kNoSpace);
  EXPECT_TRUE(std::filesystem::is_empty(volume + "/store/tmp"));
  EXPECT_FALSE(verify_snapshots(*store, *store->list())->damaged());
  RestoreOptions to = restore_options();
  to.state_dir = scratch_ / "out";
  ASSERT_TRUE(restore_latest(*store, to).has_value());
  write_file(state_ + "/large", noise(20 << 20, 2));
  EXPECT_TRUE(try_take(*store).has_value());
}

TEST_F(LocalStoreTest, RestoresIntoAMountPoint) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount a volume";
  if (::mount("tmpfs", state_.c_str(), "tmpfs", 0, "size=16m") != 0) {
    GTEST_SKIP() << "mounting is not allowed here";
  }
  auto unmount = [&](...) { ::umount2(state_.c_str(), MNT_DETACH); };
  const std::unique_ptr<void, decltype(unmount)> guard(this, unmount);
  write_file(state_ + "/sub/f", "good");
  const auto store = open_store();
  take(*store);
  write_file(state_ + "/sub/f", "bad");
  const auto report = restore_latest(*store, restore_options());
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_TRUE(report->in_place);
  EXPECT_EQ(read_file(state_ + "/sub/f"), "good");
  EXPECT_EQ(read_file(report->set_aside + "/sub/f"), "bad");
  // What was set aside is no part of the state.
  EXPECT_EQ(take(*store).snapshot.record.file_count, 1U);
  for (int i = 0; i < 5; ++i) {
    clock_.advance(std::chrono::seconds(2));
    ASSERT_TRUE(restore_latest(*store, restore_options()).has_value());
  }
  size_t kept = 0;
  for (const auto& entry : std::filesystem::directory_iterator(state_)) {
    kept += entry.path().filename().string().starts_with(".remora-damaged-") ? 1 : 0;
  }
  EXPECT_EQ(kept, set_aside_keep_max);
}

TEST_F(LocalStoreTest, KeepsOnlyTheLastCopiesSetAside) {
  write_file(state_ + "/f", "x");
  const auto store = open_store();
  take(*store);
  std::string last;
  for (int i = 0; i < 6; ++i) {
    clock_.advance(std::chrono::seconds(2));
    write_file(state_ + "/f", std::to_string(i));
    last = restore_latest(*store, restore_options())->set_aside;
  }
  size_t kept = 0;
  for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
    kept += entry.path().string().find(".remora-damaged-") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(kept, set_aside_keep_max);
  EXPECT_EQ(read_file(last + "/f"), "5");
}

TEST_F(LocalStoreTest, NeverMakesSetIdFilesNorFollowsLinksThatWereThere) {
  // A store that somebody tampered with: valid checksums, hostile content.
  const auto store = open_store();
  Entry root;
  root.type = EntryType::kDirectory;
  root.mode = 0755;
  Entry tool;
  tool.path = "tool";
  tool.mode = 06755;
  tool.size = 1;
  tool.chunks.push_back({.id = sha256("x"), .bytes = 1});
  const std::string table = encode_table({root, tool});
  auto writer = store->begin_snapshot(*store->current_epoch());
  ASSERT_TRUE((*writer)->add_chunk(sha256("x"), "x").has_value());
  ASSERT_TRUE((*writer)->add_chunk(sha256(table), table).has_value());
  SnapshotRecord record;
  record.table.push_back({.id = sha256(table), .bytes = static_cast<uint32_t>(table.size())});
  ASSERT_TRUE((*writer)->publish(record).has_value());
  writer->reset();
  // The state is a link to somewhere else: it is resolved once, and only that place is replaced.
  write_file(scratch_ / "elsewhere/f", "x");
  std::filesystem::remove_all(state_);
  std::filesystem::create_directory_symlink(scratch_ / "elsewhere", state_);
  ASSERT_TRUE(restore_latest(*store, restore_options()).has_value());
  struct stat st{};
  ASSERT_EQ(::stat((scratch_ / "elsewhere/tool").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0755U);
}

TEST_F(LocalStoreTest, RealFilesAreNeverOpenedThroughALink) {
  write_file(scratch_ / "outside/secret", "x");
  std::filesystem::create_directory_symlink(scratch_ / "outside", state_ + "/sub");
  FileSystem& fs = real_file_system();
  EXPECT_EQ(fs.open(state_ + "/sub/secret").error().code, ErrorCode::kPermission);
  EXPECT_EQ(fs.create(state_ + "/sub/new", 0600).error().code, ErrorCode::kPermission);
  EXPECT_EQ(fs.remove_file(state_ + "/sub/secret").error().code, ErrorCode::kPermission);
  EXPECT_EQ(fs.rename(state_ + "/sub/secret", state_ + "/x").error().code, ErrorCode::kPermission);
  EXPECT_EQ(fs.list(state_ + "/sub").error().code, ErrorCode::kPermission);
  EXPECT_TRUE(std::filesystem::exists(scratch_ / "outside/secret"));
  ASSERT_TRUE(remove_tree(fs, state_).has_value());
  EXPECT_TRUE(std::filesystem::exists(scratch_ / "outside/secret"));
}

// ---- check_state --------------------------------------------------------------------------------

TEST_F(LocalStoreTest, StateCheckFindsWhatTakesAnAgentDown) {
  const auto store = open_store();
  const auto problem = [&]() -> std::string {
    const auto verdict = check_state(*store, state_, {}, real_file_system());
    EXPECT_TRUE(verdict.has_value()) << verdict.error().message;
    return verdict ? verdict->problem : "";
  };
  EXPECT_EQ(problem(), "");  // no snapshot yet
  write_file(state_ + "/notes", "content");
  write_file(state_ + "/pre", "head" + std::string(8192, '\0'));
  write_file(state_ + "/empty", "");
  write_file(state_ + "/large", noise(20'000));
  take(*store);
  EXPECT_EQ(problem(), "");
  write_file(state_ + "/notes", "other content");
  write_file(state_ + "/pre", "changed" + std::string(8192, '\0'));  // was so before
  std::filesystem::remove(state_ + "/empty");
  write_file(state_ + "/new", "");
  EXPECT_EQ(problem(), "");
  write_file(state_ + "/notes", "");
  EXPECT_EQ(problem(), "notes: was cut to nothing");
  write_file(state_ + "/notes", "x");
  write_file(state_ + "/large", noise(15'904) + std::string(4096, '\0'));
  EXPECT_EQ(problem(), "large: its end was overwritten with zeros");
  for (const auto& entry : std::filesystem::directory_iterator(state_)) {
    std::filesystem::remove_all(entry.path());
  }
  EXPECT_EQ(problem(), "the state directory was emptied");
  std::filesystem::remove(state_);
  EXPECT_EQ(problem(), "the state directory is gone");
  ASSERT_TRUE(restore_latest(*store, restore_options()).has_value());
  EXPECT_EQ(problem(), "");
  std::filesystem::create_directory(state_ + "/.remora-swap-1");
  EXPECT_EQ(problem(), "a restore was cut short");
}

}  // namespace
}  // namespace remora::checkpoint
