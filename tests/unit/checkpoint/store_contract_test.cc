// The contract of checkpoint/store.h, run against every implementation.
#include <functional>

#include "checkpoint/memory_store.h"
#include "checkpoint/verify.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

struct Implementation {
  const char* name;
  std::function<std::unique_ptr<Store>(const ScratchDirectory&)> make;
};

class StoreContract : public testing::TestWithParam<Implementation> {
 protected:
  StoreContract() : store_(GetParam().make(scratch_)), epoch_(*store_->claim_epoch("")) {}

  // Publishes a snapshot with one file of this content.
  Result<SnapshotInfo> publish(const std::string& content, const Epoch& epoch) {
    auto writer = store_->begin_snapshot(epoch);
    if (!writer) return std::unexpected<Error>(writer.error());
    return publish_with(**writer, content);
  }
  Result<SnapshotInfo> publish_with(SnapshotWriter& writer, const std::string& content) {
    Entry root;
    root.type = EntryType::kDirectory;
    Entry file;
    file.path = "file";
    file.size = content.size();
    file.chunks.push_back({.id = sha256(content), .bytes = static_cast<uint32_t>(content.size())});
    const std::string table = encode_table({root, file});
    if (auto added = writer.add_chunk(sha256(content), content); !added) {
      return std::unexpected<Error>(added.error());
    }
    if (auto added = writer.add_chunk(sha256(table), table); !added) {
      return std::unexpected<Error>(added.error());
    }
    SnapshotRecord record;
    record.reason = "test";
    record.table.push_back({.id = sha256(table), .bytes = static_cast<uint32_t>(table.size())});
    return writer.publish(std::move(record));
  }

  ScratchDirectory scratch_;
  std::unique_ptr<Store> store_;
  Epoch epoch_;
};

TEST_P(StoreContract, BeginsEmpty) {
  EXPECT_TRUE(store_->list()->empty());
  EXPECT_EQ(find_snapshot(*store_, "latest").error().code, ErrorCode::kNotFound);
}

TEST_P(StoreContract, GivesBackWhatWasPublished) {
  const auto info = publish("content", epoch_);
  ASSERT_TRUE(info.has_value()) << info.error().message;
  const auto all = store_->list();
  ASSERT_EQ(all->size(), 1U);
  EXPECT_EQ((*all)[0].id, info->id);
  EXPECT_EQ((*all)[0].record.epoch, epoch_.number);
  auto reader = store_->begin_read();
  const auto entries = read_entries(**reader, (*all)[0].record);
  ASSERT_TRUE(entries.has_value());
  std::string plain;
  ASSERT_TRUE((*reader)->read_chunk((*entries)[1].chunks[0].id, plain).has_value());
  EXPECT_EQ(plain, "content");
}

TEST_P(StoreContract, AChunkIsStoredOnce) {
  auto writer = store_->begin_snapshot(epoch_);
  EXPECT_TRUE(*(*writer)->add_chunk(sha256("x"), "x"));
  EXPECT_FALSE(*(*writer)->add_chunk(sha256("x"), "x"));
  EXPECT_TRUE((*writer)->has_chunk(sha256("x")));
  writer->reset();
  ASSERT_TRUE(publish("x", epoch_).has_value());
  auto again = store_->begin_snapshot(epoch_);
  EXPECT_FALSE(*(*again)->add_chunk(sha256("x"), "x"));
  EXPECT_EQ((*again)->added_bytes(), 0U);
}

TEST_P(StoreContract, AnAbandonedWriterLeavesNothing) {
  {
    auto writer = store_->begin_snapshot(epoch_);
    ASSERT_TRUE((*writer)->add_chunk(sha256("x"), "x").has_value());
  }
  EXPECT_TRUE(store_->list()->empty());
  auto reader = store_->begin_read();
  EXPECT_FALSE((*reader)->has_chunk(sha256("x")));
  std::string plain;
  EXPECT_EQ((*reader)->read_chunk(sha256("x"), plain).error().code, ErrorCode::kNotFound);
}

TEST_P(StoreContract, RefusesChunksOfImpossibleLength) {
  auto writer = store_->begin_snapshot(epoch_);
  EXPECT_FALSE((*writer)->add_chunk(sha256(""), "").has_value());
  const std::string large(1025 * 1024, 'x');
  EXPECT_FALSE((*writer)->add_chunk(sha256(large), large).has_value());
}

TEST_P(StoreContract, SequencesOnlyGrow) {
  uint64_t last = 0;
  for (int i = 0; i < 5; ++i) {
    const auto info = publish("content " + std::to_string(i), epoch_);
    EXPECT_GT(info->record.sequence, last);
    last = info->record.sequence;
    ASSERT_TRUE(store_->prune({.keep_last = 1}).has_value());
  }
}

// Writer 1 is paused, writer 2 takes over, writer 1 goes on.
TEST_P(StoreContract, AStaleWriterIsRefusedEvenInTheMiddleOfASnapshot) {
  auto first = store_->begin_snapshot(epoch_);
  ASSERT_TRUE((*first)->add_chunk(sha256("old"), "old").has_value());
  const Epoch second = *store_->claim_epoch("");
  EXPECT_GT(second.number, epoch_.number);
  ASSERT_TRUE(publish("new", second).has_value());
  const auto refused = publish_with(**first, "old");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kPermission);
  EXPECT_NE(refused.error().message.find("took over"), std::string::npos);
  first->reset();
  EXPECT_EQ(store_->list()->size(), 1U);
  EXPECT_EQ(*store_->current_epoch(), second);
}

TEST_P(StoreContract, AnOwnerThatWasReplacedDoesNotGetTheStoreBack) {
  const Epoch first = *store_->claim_epoch("pod-1");
  EXPECT_GT(store_->claim_epoch("pod-1")->number, first.number) << "its container began anew";
  const Epoch second = *store_->claim_epoch("pod-2");
  EXPECT_EQ(*store_->claim_epoch("pod-1"), Epoch{});
  EXPECT_EQ(*store_->current_epoch(), second) << "nothing has changed";
  ASSERT_TRUE(publish("new", second).has_value());
  EXPECT_EQ(publish("old", Epoch{}).error().code, ErrorCode::kPermission);
  EXPECT_GT(store_->claim_epoch("")->number, second.number) << "a person may always";
}

TEST_P(StoreContract, AStaleWriterIsRefusedBeforeItReadsAnything) {
  ASSERT_TRUE(store_->claim_epoch("").has_value());
  EXPECT_EQ(store_->begin_snapshot(epoch_).error().code, ErrorCode::kPermission);
  EXPECT_EQ(store_->prune({.keep_last = 1, .epoch = epoch_}).error().code, ErrorCode::kPermission);
}

TEST_P(StoreContract, PruneKeepsTheNewestAndDropsWhatOnlyOldOnesNeed) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(publish("content " + std::to_string(i), epoch_).has_value());
  }
  const auto report = store_->prune({.keep_last = 2});
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(report->removed_snapshots.size(), 3U);
  EXPECT_EQ(report->kept_snapshots.size(), 2U);
  EXPECT_EQ(report->removed_chunks, 6U);
  const auto verified = verify_snapshots(*store_, *store_->list());
  EXPECT_FALSE(verified->damaged());
  auto reader = store_->begin_read();
  EXPECT_FALSE((*reader)->has_chunk(sha256("content 0")));
  EXPECT_TRUE((*reader)->has_chunk(sha256("content 4")));
}

TEST_P(StoreContract, PruneRefusesWhileSomebodyReadsOrWrites) {
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(publish("content " + std::to_string(i), epoch_).has_value());
  }
  {
    auto writer = store_->begin_snapshot(epoch_);
    const auto refused = store_->prune({.keep_last = 1});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
    EXPECT_TRUE(refused.error().retryable);
  }
  {
    auto reader = store_->begin_read();
    EXPECT_FALSE(store_->prune({.keep_last = 1}).has_value());
  }
  EXPECT_EQ(store_->list()->size(), 2U);
  EXPECT_TRUE(store_->prune({.keep_last = 1}).has_value());
}

TEST_P(StoreContract, FindsSnapshotsByPrefix) {
  const auto first = publish("a", epoch_);
  const auto second = publish("b", epoch_);
  EXPECT_EQ(find_snapshot(*store_, "latest")->id, second->id);
  EXPECT_EQ(find_snapshot(*store_, first->id)->id, first->id);
  EXPECT_EQ(find_snapshot(*store_, first->id.substr(0, 8))->id, first->id);
  EXPECT_EQ(find_snapshot(*store_, "0000").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(find_snapshot(*store_, "zzz").error().code, ErrorCode::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(
    , StoreContract,
    testing::Values(Implementation{"Local",
                                   [](const ScratchDirectory& scratch) -> std::unique_ptr<Store> {
                                     return *LocalStore::open(
                                         {.root = scratch / "store",
                                          .mode = OpenMode::kCreate,
                                          .file_system = nullptr,
                                          .lock_wait_max = std::chrono::milliseconds(30)});
                                   }},
                    Implementation{"Memory",
                                   [](const ScratchDirectory& scratch) -> std::unique_ptr<Store> {
                                     return std::make_unique<MemoryStore>(scratch.path());
                                   }}),
    [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace remora::checkpoint
