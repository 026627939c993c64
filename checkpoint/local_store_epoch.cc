// Who may publish.
//
// On one machine `epoch.lock` keeps a claim and a publication apart. Machines that share a volume
// may not see each other's locks (an NFS mount with nolock, a FUSE file system), and one that was
// cut off for long may have lost them without knowing. So what must hold rests on two steps that a
// file system makes whole, whoever asks and however late: a name is renamed or removed once.
//
//   publisher                                   claimer
//   1 record into tmp/record-EPOCH-…, fsync     1 the new epoch into `epoch` (rename), fsync
//   2 read `epoch`: still ours?                 2 remove every record of another epoch in tmp/,
//   fsync 3 rename it into snapshots/                 3 read snapshots/
//
// When 2 of the publisher finds its own epoch, 1 of the claimer has not happened, so the record is
// in tmp/ before the claimer looks there: either the claimer removes it, and the publisher's rename
// fails however much later it comes (it was stopped, its machine was cut off), or the rename came
// first, and the claimer sees the snapshot.
#include <algorithm>

#include "checkpoint/epoch_file.h"
#include "checkpoint/errors.h"
#include "checkpoint/local_store.h"

namespace remora::checkpoint {
namespace {

constexpr std::string_view record_head = "record-";
constexpr size_t epoch_bytes_max = 4096;

// Of "record-EPOCH-TOKEN-…"; nothing for other names.
std::optional<uint64_t> epoch_of_staged(std::string_view name) {
  if (!name.starts_with(record_head)) return std::nullopt;
  name.remove_prefix(record_head.size());
  return parse_epoch_number(name.substr(0, name.find('-')));
}

}  // namespace

Result<EpochFile> LocalStore::read_epoch() {
  auto text = read_small_file(fs_, join(root_, "epoch"), epoch_bytes_max);
  if (text) {
    auto file = parse_epoch_file(*text);
    if (file) return file;
  } else if (text.error().code == ErrorCode::kNotFound) {
    // Fall through: nobody has claimed, unless snapshots say otherwise.
  } else {
    return pass_on(text);
  }
  // Lost or damaged: no running writer matches this one, because its token is empty; the next
  // claim counts on from what the snapshots remember.
  auto all = list();
  if (!all) return pass_on(all);
  EpochFile file;
  for (const SnapshotInfo& info : *all) {
    file.epoch.number = std::max(file.epoch.number, info.record.epoch);
  }
  return file;
}

Result<Epoch> LocalStore::current_epoch() {
  auto file = read_epoch();
  if (!file) return pass_on(file);
  return std::move(file->epoch);
}

Result<void> LocalStore::check_epoch(const Epoch& epoch) {
  auto current = current_epoch();
  if (!current) return pass_on(current);
  if (*current == epoch) return {};
  return taken_over(root_, current->number, epoch.number);
}

std::string LocalStore::record_path(const Epoch& epoch) const {
  return join(staging_directory(), std::string(record_head) + std::to_string(epoch.number) + "-" +
                                       epoch.token.substr(0, 8) + "-" + random_name());
}

// All of them, packs too: nothing of a writer that may not publish is needed. Not those of a claim
// that came after this one, where locks don't hold.
Result<void> LocalStore::remove_staged(const Epoch& newest) {
  auto entries = fs_.list(staging_directory());
  if (!entries) return pass_on(entries);
  for (const DirectoryEntry& entry : *entries) {
    const std::optional<uint64_t> epoch = epoch_of_staged(entry.name);
    if (epoch && *epoch > newest.number) continue;
    auto removed = remove_tree(fs_, join(staging_directory(), entry.name));
    if (!removed && epoch) return removed;
  }
  return fs_.sync_directory(staging_directory());
}

Result<Epoch> LocalStore::claim_epoch(std::string_view owner) {
  if (!owner.empty() && !is_owner(owner)) {
    return storage_error(ErrorCode::kInvalidArgument, "no name of an owner");
  }
  // Shared: our temp file must not be swept as a leftover.
  auto lock = take_lock("lock", LockKind::kShared, "a prune");
  if (!lock) return pass_on(lock);
  auto guard = take_lock("epoch.lock", LockKind::kExclusive, "another writer");
  if (!guard) return pass_on(guard);
  auto file = read_epoch();
  if (!file) return pass_on(file);
  if (!owner.empty() && !take_over(file->owners, owner)) return Epoch{};
  file->epoch.number += 1;
  file->epoch.token = random_name() + random_name();
  auto done = write_atomically(fs_, temp_path(), join(root_, "epoch"), format_epoch_file(*file));
  if (done) done = remove_staged(file->epoch);
  if (!done) return pass_on(done, "claim the store");
  return std::move(file->epoch);
}

}  // namespace remora::checkpoint
