// Pruning the local store. Order makes every crash safe: snapshots go first, packs that nothing
// needs any more after them, and a pack is removed only once what is still needed of it is durable
// in another.
#include <algorithm>

#include "checkpoint/errors.h"
#include "checkpoint/local_store.h"
#include "checkpoint/retention.h"

namespace remora::checkpoint {
namespace {

// Every snapshot with changes adds a small pack; past this many they are put together.
constexpr size_t small_packs_max = 64;
constexpr uint64_t small_pack_bytes = 1 << 20;

}  // namespace

struct LocalStore::PrunePlan {
  std::vector<std::string> remove;  // nothing in them is needed
  std::vector<std::string> repack;  // removed once the copies below are durable
  std::vector<Location> copies;     // good copies of what is needed of `repack`
  uint64_t dead_chunks = 0;
};

Result<PruneReport> LocalStore::prune(const PruneOptions& options) {
  auto lock = take_lock("lock", LockKind::kExclusive, "a snapshot, a restore or a verification");
  if (!lock) return pass_on(lock);
  const auto may_go_on = [&]() -> Result<void> {
    return options.epoch ? check_epoch(*options.epoch) : Result<void>();
  };
  if (auto allowed = may_go_on(); !allowed) return pass_on(allowed);
  if (auto done = refresh(); !done) return pass_on(done);
  auto all = list();
  if (!all) return pass_on(all);
  auto keep = select_kept(*all, options.keep_last,
                          [this](const SnapshotInfo& info) { return is_intact(info); });
  if (!keep) return pass_on(keep);
  auto live = live_chunks(*all, *keep);
  if (!live) return pass_on(live);

  PruneReport report;
  const std::string directory = join(root_, "snapshots");
  for (size_t i = 0; i < all->size(); ++i) {
    const std::string& id = (*all)[i].id;
    if ((*keep)[i]) {
      report.kept_snapshots.push_back(id);
      continue;
    }
    if (auto done = fs_.remove_file(join(directory, id)); !done) return pass_on(done);
    report.removed_snapshots.push_back(id);
  }
  if (!report.removed_snapshots.empty()) {
    if (auto done = fs_.sync_directory(directory); !done) return pass_on(done);
  }
  const uint64_t bytes_before = pack_bytes();
  auto plan = plan_packs(*live);
  if (!plan) return pass_on(plan);
  report.removed_chunks = plan->dead_chunks;
  // A claim waits for this lock, where it holds: see FORMAT.md.
  if (auto allowed = may_go_on(); !allowed) return pass_on(allowed);
  if (auto done = remove_packs(plan->remove); !done) return pass_on(done);
  auto replaced = repack(*plan);
  if (!replaced) return pass_on(replaced);
  if (auto done = remove_packs(*replaced); !done) return pass_on(done);
  if (auto done = refresh(); !done) return pass_on(done);
  report.stored_bytes = pack_bytes();
  report.freed_bytes = bytes_before > report.stored_bytes ? bytes_before - report.stored_bytes : 0;
  sweep_staging();
  return report;
}

uint64_t LocalStore::pack_bytes() const {
  uint64_t sum = 0;
  for (const auto& [name, pack] : packs_) sum += pack.file_bytes;
  return sum;
}

Result<bool> LocalStore::is_intact(const SnapshotInfo& info) {
  if (!info.problem.empty()) return false;
  std::string plain;
  // Yes for what this process has already seen to be right.
  auto check = [&](const ChunkRef& chunk) -> Result<bool> {
    if (verified_.contains(chunk.id) && has_chunk(chunk.id)) return true;
    auto read = read_chunk(chunk.id, plain);
    if (read) return plain.size() == chunk.bytes;
    const ErrorCode code = read.error().code;
    if (code == ErrorCode::kCorrupt || code == ErrorCode::kNotFound) return false;
    return pass_on(read);
  };
  for (const ChunkRef& chunk : info.record.table) {
    auto good = check(chunk);
    if (!good || !*good) return good;
  }
  Reader reader(*this, nullptr);
  auto entries = read_entries(reader, info.record);
  if (!entries)
    return entries.error().code == ErrorCode::kCorrupt ? Result<bool>(false) : pass_on(entries);
  for (const Entry& entry : *entries) {
    for (const ChunkRef& chunk : entry.chunks) {
      auto good = check(chunk);
      if (!good || !*good) return good;
    }
  }
  return true;
}

Result<std::unordered_set<ChunkId, DigestHash>> LocalStore::live_chunks(
    const std::vector<SnapshotInfo>& all, const std::vector<bool>& keep) {
  std::unordered_set<ChunkId, DigestHash> live;
  Reader reader(*this, nullptr);
  for (size_t i = 0; i < all.size(); ++i) {
    if (!keep[i] || !all[i].problem.empty()) continue;
    for (const ChunkRef& chunk : all[i].record.table) live.insert(chunk.id);
    auto entries = read_entries(reader, all[i].record);
    if (!entries) {
      const ErrorCode code = entries.error().code;
      // A damaged table can't say what it needs and can't be restored: it protects nothing.
      if (code == ErrorCode::kCorrupt || code == ErrorCode::kNotFound) continue;
      return pass_on(entries);  // perhaps readable later: remove nothing
    }
    for (const Entry& entry : *entries) {
      for (const ChunkRef& chunk : entry.chunks) live.insert(chunk.id);
    }
  }
  return live;
}

Result<LocalStore::PrunePlan> LocalStore::plan_packs(
    const std::unordered_set<ChunkId, DigestHash>& live) {
  PrunePlan plan;
  // Where each needed chunk is taken from: its only copy, or the first good one of several.
  std::unordered_map<ChunkId, Location, DigestHash> source;
  for (const ChunkId& id : live) {
    auto [begin, end] = locations_.equal_range(id);
    if (begin == end) continue;  // missing: the snapshot is damaged, nothing to protect
    Location chosen = begin->second;
    if (std::next(begin) != end) {
      std::string stored;
      std::string plain;
      for (auto it = begin; it != end; ++it) {
        if (!read_stored(it->second, stored) || !decode_chunk(it->second.frame, stored, plain)) {
          continue;
        }
        chosen = it->second;
        break;
      }
    }
    source.emplace(id, chosen);
  }
  std::vector<std::string> small;
  std::unordered_map<std::string, std::vector<Location>> needed;
  for (const auto& [id, at] : source) needed[*at.pack].push_back(at);
  for (const auto& [name, pack] : packs_) {
    const auto found = needed.find(name);
    const size_t needed_count = found == needed.end() ? 0 : found->second.size();
    plan.dead_chunks += pack.frames.size() - needed_count;
    if (needed_count == 0) {
      plan.remove.push_back(name);
      continue;
    }
    uint64_t needed_bytes = 0;
    for (const Location& at : found->second) needed_bytes += at.frame.stored_bytes;
    if (needed_bytes < pack.file_bytes / 2 && needed_count < pack.frames.size()) {
      plan.repack.push_back(name);
    } else if (pack.file_bytes < small_pack_bytes) {
      small.push_back(name);
    }
  }
  if (small.size() > small_packs_max) {
    plan.repack.insert(plan.repack.end(), small.begin(), small.end());
  }
  for (const std::string& name : plan.repack) {
    std::vector<Location>& from = needed[name];
    std::ranges::sort(from, {}, [](const Location& at) { return at.frame.offset; });
    plan.copies.insert(plan.copies.end(), from.begin(), from.end());
  }
  return plan;
}

// Copies into new packs. The result is the packs that may go now: those of plan.repack all of whose
// needed chunks proved good on the way; a pack with a damaged chunk stays for people to look at.
Result<std::vector<std::string>> LocalStore::repack(const PrunePlan& plan) {
  if (plan.repack.empty()) return std::vector<std::string>{};
  std::unordered_set<std::string> tainted;
  std::unordered_set<std::string> made;
  std::unique_ptr<PackWriter> pack;
  std::string temp;
  auto close = [&]() -> Result<void> {
    if (!pack) return {};
    auto name = pack->finish();
    pack.reset();
    if (!name) return pass_on(name);
    made.insert(name->hex());
    return fs_.rename(temp, join(join(root_, "packs"), name->hex()));
  };
  auto copy = [&]() -> Result<void> {
    std::string stored;
    std::string plain;
    for (const Location& at : plan.copies) {
      auto read = read_stored(at, stored);
      if (read) read = decode_chunk(at.frame, stored, plain);
      if (!read) {
        tainted.insert(*at.pack);
        continue;
      }
      if (!pack) {
        temp = temp_path();
        auto file = fs_.create(temp, 0600);
        if (!file) return pass_on(file);
        pack = std::make_unique<PackWriter>(std::move(*file));
      }
      auto added = pack->add(at.frame.id, at.frame.plain_bytes, stored, at.frame.form);
      if (!added) return added;
      if (pack->bytes() >= pack_bytes_max) {
        if (auto done = close(); !done) return done;
      }
    }
    if (auto done = close(); !done) return done;
    return fs_.sync_directory(join(root_, "packs"));
  };
  if (auto done = copy(); !done) {
    pack.reset();
    best_effort(fs_.remove_file(temp));  // the originals are all still there
    return pass_on(done, "repack");
  }
  std::vector<std::string> replaced;
  for (const std::string& name : plan.repack) {
    // A pack that came out the same as before keeps its name.
    if (!tainted.contains(name) && !made.contains(name)) replaced.push_back(name);
  }
  return replaced;
}

Result<void> LocalStore::remove_packs(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  const std::string directory = join(root_, "packs");
  for (const std::string& name : names) {
    if (auto done = fs_.remove_file(join(directory, name)); !done) return done;
    forget_pack(name);
  }
  return fs_.sync_directory(directory);
}

}  // namespace remora::checkpoint
