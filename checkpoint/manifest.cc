#include "checkpoint/manifest.h"

#include <cstdio>
#include <unordered_set>

#include "checkpoint/byte_codec.h"
#include "checkpoint/chunker.h"
#include "checkpoint/errors.h"

namespace remora::checkpoint {
namespace {

constexpr std::string_view table_magic = "RMRTABL1";
constexpr std::string_view record_magic = "RMRSNAP1";
constexpr size_t digest_bytes = 32;
constexpr size_t chunk_ref_bytes = digest_bytes + 4;
// Least bytes of one encoded entry: what a count may be trusted to cost.
constexpr size_t entry_bytes_min = 4 + 1 + 1 + 4 + 4 + 4 + 8 + 8 + 16 + 4 + 4;

enum EntryFlag : uint8_t { kSqliteFlag = 1, kZeroTailFlag = 2, kUnstableFlag = 4 };
constexpr uint8_t known_entry_flags = kSqliteFlag | kZeroTailFlag | kUnstableFlag;

void put_chunks(ByteWriter& out, const std::vector<ChunkRef>& chunks) {
  out.put(static_cast<uint32_t>(chunks.size()));
  for (const ChunkRef& chunk : chunks) {
    out.put_bytes(chunk.id.view());
    out.put(chunk.bytes);
  }
}

// The sum of the lengths, or an error.
Result<uint64_t> get_chunks(ByteReader& in, std::vector<ChunkRef>& chunks) {
  const auto count = in.get<uint32_t>();
  if (in.failed() || count > in.left() / chunk_ref_bytes) return corrupt("chunk list is cut short");
  chunks.reserve(count);
  uint64_t sum = 0;
  for (uint32_t i = 0; i < count; ++i) {
    ChunkRef& chunk = chunks.emplace_back();
    chunk.id = in.get_digest();
    chunk.bytes = in.get<uint32_t>();
    if (chunk.bytes == 0 || chunk.bytes > chunk_bytes_max) return corrupt("chunk length");
    sum += chunk.bytes;
  }
  return sum;
}

// Checks the trailing SHA-256 and the magic; the bytes between them.
Result<std::string_view> unseal(std::string_view bytes, std::string_view magic,
                                std::string_view what) {
  if (bytes.size() < magic.size() + digest_bytes)
    return corrupt(std::string(what) + " is cut short");
  const std::string_view body = bytes.substr(0, bytes.size() - digest_bytes);
  if (sha256(body).view() != bytes.substr(body.size())) {
    return corrupt(std::string(what) + " doesn't match its checksum");
  }
  if (!body.starts_with(magic)) return corrupt(std::string(what) + " has an unknown form");
  return body.substr(magic.size());
}

std::string seal(ByteWriter out) {
  const Digest digest = sha256(out.bytes());
  out.put_bytes(digest.view());
  return out.take();
}

void put_entry(ByteWriter& out, const Entry& entry) {
  out.put_string(entry.path);
  out.put(static_cast<uint8_t>(entry.type));
  out.put(static_cast<uint8_t>((entry.sqlite ? kSqliteFlag : 0) |
                               (entry.zero_tail ? kZeroTailFlag : 0) |
                               (entry.unstable ? kUnstableFlag : 0)));
  out.put(entry.mode);
  out.put(entry.uid);
  out.put(entry.gid);
  out.put(entry.mtime_ns);
  out.put(entry.size);
  for (const uint8_t b : entry.change_token) out.put(b);
  out.put_string(entry.text);
  put_chunks(out, entry.chunks);
}

Result<void> check_content(const Entry& entry, uint64_t chunk_sum) {
  switch (entry.type) {
    case EntryType::kFile:
      if (entry.size > file_bytes_max || chunk_sum != entry.size || !entry.text.empty()) {
        return corrupt("sizes don't add up");
      }
      return {};
    case EntryType::kSymlink:
      if (entry.text.empty() || entry.text.find('\0') != std::string::npos) {
        return corrupt("link target");
      }
      break;
    case EntryType::kDirectory:
    case EntryType::kSkipped:
      break;
    default:
      return corrupt("unknown entry type");
  }
  if (entry.size != 0 || !entry.chunks.empty()) return corrupt("content where there is none");
  return {};
}

Result<Entry> get_entry(ByteReader& in) {
  Entry entry;
  entry.path = in.get_string(path_bytes_max);
  entry.type = static_cast<EntryType>(in.get<uint8_t>());
  const auto flags = in.get<uint8_t>();
  entry.sqlite = (flags & kSqliteFlag) != 0;
  entry.zero_tail = (flags & kZeroTailFlag) != 0;
  entry.unstable = (flags & kUnstableFlag) != 0;
  entry.mode = in.get<uint32_t>();
  entry.uid = in.get<uint32_t>();
  entry.gid = in.get<uint32_t>();
  entry.mtime_ns = in.get<int64_t>();
  entry.size = in.get<uint64_t>();
  for (uint8_t& b : entry.change_token) b = in.get<uint8_t>();
  entry.text = in.get_string(path_bytes_max);
  auto sum = get_chunks(in, entry.chunks);
  if (!sum) return pass_on(sum);
  if (in.failed()) return corrupt("cut short");
  if ((flags & ~known_entry_flags) != 0 || entry.mode > 07777) return corrupt("unknown bits");
  if (auto checked = check_content(entry, *sum); !checked) return pass_on(checked);
  return entry;
}

// Text for an error message: what a hostile table says must not reach a terminal as it is.
std::string printable(std::string_view text) {
  std::string out(text.substr(0, 80));
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';
  }
  return out;
}

}  // namespace

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > path_bytes_max) return false;
  if (path.find('\0') != std::string_view::npos) return false;
  size_t begin = 0;
  while (true) {
    const size_t slash = path.find('/', begin);
    const std::string_view name = path.substr(begin, slash - begin);
    if (name.empty() || name == "." || name == ".." || name.size() > name_bytes_max) return false;
    if (slash == std::string_view::npos) return true;
    begin = slash + 1;
  }
}

std::string encode_table(const std::vector<Entry>& entries) {
  ByteWriter out;
  out.put_bytes(table_magic);
  out.put(static_cast<uint64_t>(entries.size()));
  for (const Entry& entry : entries) put_entry(out, entry);
  return seal(std::move(out));
}

Result<std::vector<Entry>> decode_table(std::string_view bytes) {
  auto body = unseal(bytes, table_magic, "entry table");
  if (!body) return pass_on(body);
  ByteReader in(*body);
  const auto count = in.get<uint64_t>();
  if (in.failed() || count > in.left() / entry_bytes_min || count == 0) {
    return corrupt("entry table: number of entries");
  }
  std::vector<Entry> entries;
  entries.reserve(count);
  std::unordered_set<std::string> directories;
  for (uint64_t i = 0; i < count; ++i) {
    auto entry = get_entry(in);
    if (!entry) return pass_on(entry, "entry table: entry " + std::to_string(i));
    const bool is_root = i == 0;
    if (is_root ? (!entry->path.empty() || entry->type != EntryType::kDirectory)
                : !is_safe_path(entry->path)) {
      return corrupt("entry table: unsafe path '" + printable(entry->path) + "'");
    }
    if (!is_root && entries.back().path >= entry->path) {
      return corrupt("entry table: '" + printable(entry->path) + "' is out of order");
    }
    if (!is_root) {
      const size_t slash = entry->path.rfind('/');
      const std::string parent = slash == std::string::npos ? "" : entry->path.substr(0, slash);
      if (!directories.contains(parent)) {
        return corrupt("entry table: the parent of '" + printable(entry->path) +
                       "' is not a directory");
      }
    }
    if (entry->type == EntryType::kDirectory) directories.insert(entry->path);
    entries.push_back(std::move(*entry));
  }
  if (in.left() != 0) return corrupt("entry table: bytes after the last entry");
  return entries;
}

std::string encode_record(const SnapshotRecord& record) {
  ByteWriter out;
  out.put_bytes(record_magic);
  out.put(record.sequence);
  out.put(record.epoch);
  out.put(record.taken_at_unix_ns);
  out.put_string(std::string_view(record.reason).substr(0, reason_bytes_max));
  out.put_string(std::string_view(record.state_path).substr(0, path_bytes_max));
  out.put(record.entry_count);
  out.put(record.file_count);
  out.put(record.content_bytes);
  out.put(record.added_bytes);
  out.put(record.stopped_ns);
  out.put(static_cast<uint8_t>(record.quiesced ? 1 : 0));
  put_chunks(out, record.table);
  return seal(std::move(out));
}

Result<SnapshotRecord> decode_record(std::string_view bytes) {
  if (bytes.size() > record_bytes_max) return corrupt("snapshot record is too large");
  auto body = unseal(bytes, record_magic, "snapshot record");
  if (!body) return pass_on(body);
  ByteReader in(*body);
  SnapshotRecord record;
  record.sequence = in.get<uint64_t>();
  record.epoch = in.get<uint64_t>();
  record.taken_at_unix_ns = in.get<int64_t>();
  record.reason = in.get_string(reason_bytes_max);
  record.state_path = in.get_string(path_bytes_max);
  record.entry_count = in.get<uint64_t>();
  record.file_count = in.get<uint64_t>();
  record.content_bytes = in.get<uint64_t>();
  record.added_bytes = in.get<uint64_t>();
  record.stopped_ns = in.get<uint64_t>();
  const auto quiesced = in.get<uint8_t>();
  record.quiesced = quiesced == 1;
  auto sum = get_chunks(in, record.table);
  if (!sum) return pass_on(sum, "snapshot record");
  if (in.failed() || in.left() != 0 || quiesced > 1) return corrupt("snapshot record: length");
  if (*sum > table_bytes_max) return corrupt("snapshot record: entry table is too large");
  return record;
}

std::string snapshot_id(uint64_t sequence, std::string_view record_bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%08llu-", static_cast<unsigned long long>(sequence));
  return text + sha256(record_bytes).hex().substr(0, 8);
}

uint64_t sequence_of(std::string_view id) {
  const size_t dash = id.find('-');
  if (dash == std::string_view::npos || dash < 8 || dash > 18 || id.size() != dash + 9) return 0;
  uint64_t sequence = 0;
  for (const char c : id.substr(0, dash)) {
    if (c < '0' || c > '9') return 0;
    sequence = sequence * 10 + static_cast<uint64_t>(c - '0');
  }
  for (const char c : id.substr(dash + 1)) {
    if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) return 0;
  }
  return sequence;
}

}  // namespace remora::checkpoint
