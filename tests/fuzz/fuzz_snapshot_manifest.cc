// The parsers of what a snapshot store's files hold, on hostile bytes. A checksum would stop nearly
// every mutation at the door, so the harness seals the input itself: an attacker can do that too.
//
// Byte 0 says what the rest is: 't' body of an entry table, 'r' body of a snapshot record (both
// without magic and checksum), 'i' pack index, 'e' the file `epoch`, anything else: raw bytes to
// every parser. Whatever decodes must encode to the same bytes, and a table must be safe to
// restore.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_set>

#include "checkpoint/chunker.h"
#include "checkpoint/epoch_file.h"
#include "checkpoint/hash.h"
#include "checkpoint/manifest.h"
#include "checkpoint/pack.h"

namespace {

using namespace remora::checkpoint;  // NOLINT(google-build-using-namespace)

constexpr uint64_t index_data_bytes = 1 << 20;

void require(bool holds) {
  if (!holds) std::abort();
}

std::string sealed(std::string_view magic, std::string_view body) {
  std::string bytes(magic);
  bytes.append(body);
  bytes.append(std::string(sha256(bytes).view()));
  return bytes;
}

void try_table(std::string_view bytes) {
  const auto entries = decode_table(bytes);
  if (!entries) return;
  require(encode_table(*entries) == bytes);
  require(!entries->empty() && entries->front().path.empty() &&
          entries->front().type == EntryType::kDirectory);
  std::unordered_set<std::string> directories{""};
  for (size_t i = 1; i < entries->size(); ++i) {
    const Entry& entry = (*entries)[i];
    require(is_safe_path(entry.path));
    const size_t slash = entry.path.rfind('/');
    require(directories.contains(slash == std::string::npos ? "" : entry.path.substr(0, slash)));
    if (entry.type == EntryType::kDirectory) directories.insert(entry.path);
    uint64_t content = 0;
    for (const ChunkRef& chunk : entry.chunks) content += chunk.bytes;
    require(content == entry.size);
  }
}

void try_record(std::string_view bytes) {
  const auto record = decode_record(bytes);
  if (!record) return;
  require(encode_record(*record) == bytes);
  uint64_t table = 0;
  for (const ChunkRef& chunk : record->table) table += chunk.bytes;
  require(table <= table_bytes_max);
}

void try_epoch(std::string_view bytes) {
  const auto file = parse_epoch_file(bytes);
  if (!file) return;
  require(file->owners.size() <= owners_max);
  const auto again = parse_epoch_file(format_epoch_file(*file));
  require(again && again->epoch == file->epoch && again->owners == file->owners);
}

void try_index(std::string_view bytes) {
  const auto frames = decode_pack_index(bytes, index_data_bytes);
  if (!frames) return;
  require(std::ranges::all_of(*frames, [](const FrameInfo& frame) {
    return frame.stored_bytes <= frame.plain_bytes && frame.plain_bytes <= chunk_bytes_max &&
           frame.offset + frame.stored_bytes <= index_data_bytes;
  }));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view body = input.substr(1);
  switch (input.front()) {
    case 't':
      try_table(sealed("RMRTABL1", body));
      break;
    case 'r':
      try_record(sealed("RMRSNAP1", body));
      break;
    case 'i':
      try_index(body);
      break;
    case 'e':
      try_epoch(body);
      break;
    default:
      try_table(input);
      try_record(input);
      try_index(input);
      try_epoch(input);
      static_cast<void>(sequence_of(input));
  }
  return 0;
}
