#include "checkpoint/manifest.h"

#include "checkpoint/byte_codec.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

Entry directory(std::string path) {
  Entry entry;
  entry.path = std::move(path);
  entry.type = EntryType::kDirectory;
  entry.mode = 0755;
  return entry;
}

Entry file(std::string path, uint32_t bytes) {
  Entry entry;
  entry.path = std::move(path);
  entry.mode = 0644;
  entry.mtime_ns = -5;
  entry.size = bytes;
  if (bytes > 0) entry.chunks.push_back({.id = sha256("x"), .bytes = bytes});
  return entry;
}

Entry symlink(std::string path, std::string target) {
  Entry entry;
  entry.path = std::move(path);
  entry.type = EntryType::kSymlink;
  entry.text = std::move(target);
  return entry;
}

TEST(EntryTable, ComesBackAsItWas) {
  std::vector<Entry> entries{directory(""), file("a", 10), directory("b"), file("b/c", 0),
                             symlink("l", "/etc/passwd")};
  entries[1].sqlite = true;
  entries[1].unstable = true;
  entries[1].change_token[3] = 9;
  entries[3].zero_tail = true;
  const auto decoded = decode_table(encode_table(entries));
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  EXPECT_EQ(*decoded, entries);
  EXPECT_EQ(encode_table(entries), encode_table(*decoded));
}

TEST(EntryTable, AnyChangedByteIsNoticed) {
  const std::string good = encode_table({directory(""), file("a", 10)});
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_FALSE(decode_table(bad).has_value()) << "byte " << i;
    EXPECT_FALSE(decode_table(std::string_view(good).substr(0, i)).has_value()) << "cut at " << i;
  }
}

// The checksum is right in all of these: whoever may write to the volume can compute it.
TEST(EntryTable, RefusesPathsThatLeadOutOfTheState) {
  for (const char* path :
       {"../x", "..", ".", "/etc/passwd", "a/../../x", "a//b", "a/", "a/./b", "./a"}) {
    const auto decoded = decode_table(encode_table({directory(""), directory("a"), file(path, 1)}));
    ASSERT_FALSE(decoded.has_value()) << path;
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
  }
  EXPECT_FALSE(decode_table(encode_table({directory(""), file(std::string("a\0b", 3), 1)})));
  EXPECT_FALSE(decode_table(encode_table({directory(""), file(std::string(256, 'n'), 1)})));
}

TEST(EntryTable, RefusesAPathThroughALinkOrAFile) {
  EXPECT_FALSE(decode_table(encode_table({directory(""), symlink("l", "/etc"), file("l/x", 1)})));
  EXPECT_FALSE(decode_table(encode_table({directory(""), file("f", 1), file("f/x", 1)})));
  EXPECT_FALSE(decode_table(encode_table({directory(""), file("missing/x", 1)})));
}

TEST(EntryTable, RefusesDuplicatesDisorderAndSizesThatDontAddUp) {
  EXPECT_FALSE(decode_table(encode_table({directory(""), file("a", 1), file("a", 1)})));
  EXPECT_FALSE(decode_table(encode_table({directory(""), file("b", 1), file("a", 1)})));
  EXPECT_FALSE(decode_table(encode_table({file("a", 1)})));
  EXPECT_FALSE(decode_table(encode_table({})));
  Entry wrong = file("a", 10);
  wrong.size = 11;
  EXPECT_FALSE(decode_table(encode_table({directory(""), wrong})));
  Entry large = file("a", 2 << 20);  // one chunk beyond chunk_bytes_max
  EXPECT_FALSE(decode_table(encode_table({directory(""), large})));
}

TEST(EntryTable, ACountIsNotTrustedWithMemory) {
  ByteWriter out;
  out.put_bytes("RMRTABL1");
  out.put(~uint64_t{0});
  std::string bytes = out.take();
  bytes += sha256(bytes).view();
  EXPECT_FALSE(decode_table(bytes).has_value());
}

TEST(Record, ComesBackAsItWas) {
  SnapshotRecord record;
  record.sequence = 7;
  record.epoch = 3;
  record.taken_at_unix_ns = 1'700'000'000'000'000'000;
  record.reason = "interval";
  record.state_path = "/data/state";
  record.file_count = 5;
  record.quiesced = true;
  record.table.push_back({.id = sha256("t"), .bytes = 9});
  const std::string bytes = encode_record(record);
  const auto decoded = decode_record(bytes);
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  EXPECT_EQ(encode_record(*decoded), bytes);
  EXPECT_EQ(decoded->reason, "interval");
  EXPECT_EQ(decoded->table, record.table);
  for (size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_FALSE(decode_record(std::string_view(bytes).substr(0, i)).has_value());
  }
}

TEST(SnapshotId, HoldsItsSequence) {
  EXPECT_EQ(sequence_of(snapshot_id(42, "bytes")), 42U);
  EXPECT_EQ(sequence_of(snapshot_id(123456789012, "bytes")), 123456789012U);
  for (const char* bad : {"", "x", "42-3f2a9c1d", "00000042-3f2a9c1", "00000042-3F2A9C1D",
                          "0000004x-3f2a9c1d", "00000042-3f2a9c1d.tmp"}) {
    EXPECT_EQ(sequence_of(bad), 0U) << bad;
  }
}

}  // namespace
}  // namespace remora::checkpoint
