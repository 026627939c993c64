#include "checkpoint/store.h"

#include <algorithm>

#include "checkpoint/errors.h"

namespace remora::checkpoint {

bool is_owner(std::string_view text) {
  constexpr std::string_view allowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !text.empty() && text.size() <= owner_bytes_max &&
         text.find_first_not_of(allowed) == std::string_view::npos;
}

bool take_over(Owners& owners, std::string_view owner) {
  const auto found = std::ranges::find(owners, owner);
  if (found != owners.end()) return std::next(found) == owners.end();
  if (owners.size() >= owners_max) owners.erase(owners.begin());
  owners.emplace_back(owner);
  return true;
}

Result<SnapshotInfo> find_snapshot(Store& store, std::string_view name) {
  auto all = store.list();
  if (!all) return pass_on(all);
  if (name == "latest") {
    if (all->empty()) {
      return storage_error(ErrorCode::kNotFound, "no snapshot in " + store.location() +
                                                     "; take one with: remora snapshot take");
    }
    return all->back();
  }
  const SnapshotInfo* found = nullptr;
  for (const SnapshotInfo& info : *all) {
    if (info.id == name) return info;
    if (name.empty() || !info.id.starts_with(name)) continue;
    if (found != nullptr) {
      return storage_error(ErrorCode::kInvalidArgument, "snapshot '" + std::string(name) +
                                                            "' is ambiguous: " + found->id + ", " +
                                                            info.id + ", …; give more of the id");
    }
    found = &info;
  }
  if (found == nullptr) {
    return storage_error(ErrorCode::kNotFound, "no snapshot '" + std::string(name) + "' in " +
                                                   store.location() +
                                                   "; see: remora snapshot list");
  }
  return *found;
}

Result<std::vector<Entry>> read_entries(ChunkReader& reader, const SnapshotRecord& record) {
  std::string table;
  std::string plain;
  for (const ChunkRef& chunk : record.table) {
    if (auto read = reader.read_chunk(chunk.id, plain); !read) {
      return pass_on(read, "entry table");
    }
    if (plain.size() != chunk.bytes) return corrupt("entry table: chunk length differs");
    table.append(plain);
  }
  return decode_table(table);
}

}  // namespace remora::checkpoint
