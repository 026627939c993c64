#include "checkpoint/local_store.h"

#include <algorithm>

#include "checkpoint/chunker.h"
#include "checkpoint/errors.h"

namespace remora::checkpoint {
namespace {

constexpr std::string_view format_head = "remora snapshot store\nversion ";
constexpr size_t format_bytes_max = 4096;
constexpr size_t open_packs_max = 16;
constexpr const char* packs_dir = "packs";
constexpr const char* snapshots_dir = "snapshots";
constexpr const char* staging_dir = "tmp";

// The version in a format file; 0 when it isn't one.
uint32_t parse_format(std::string_view text) {
  if (!text.starts_with(format_head)) return 0;
  text.remove_prefix(format_head.size());
  uint32_t version = 0;
  size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9' && digits < 9) {
    version = version * 10 + static_cast<uint32_t>(text[digits] - '0');
    ++digits;
  }
  return digits > 0 && digits < text.size() && text[digits] == '\n' ? version : 0;
}

}  // namespace

// ---- Writer -----------------------------------------------------------------------------------

// Packs are written under tmp/ and moved into packs/ only by publish(): an abandoned writer has
// nothing to take back that somebody else might have begun to rely on.
class LocalStore::Writer final : public SnapshotWriter {
 public:
  Writer(LocalStore& store, std::unique_ptr<FileLock> lock, Epoch epoch)
      : store_(store), lock_(std::move(lock)), epoch_(std::move(epoch)) {}

  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() override {
    pack_.reset();
    // Best effort: what can't be removed now is swept later.
    if (!temp_.empty()) best_effort(store_.fs_.remove_file(temp_));
    for (const Staged& staged : staged_) best_effort(store_.fs_.remove_file(staged.temp));
  }

  bool has_chunk(const ChunkId& id) const override {
    return store_.has_chunk(id) || added_.contains(id);
  }
  Result<void> read_chunk(const ChunkId& id, std::string& plain) override {
    return store_.read_chunk(id, plain);
  }
  uint64_t added_bytes() const override { return added_bytes_; }

  Result<bool> add_chunk(const ChunkId& id, std::string_view plain) override {
    if (plain.empty() || plain.size() > chunk_bytes_max) {
      return storage_error(ErrorCode::kInvalidArgument, "chunk length is out of range");
    }
    if (has_chunk(id)) return false;
    if (!pack_) {
      temp_ = store_.temp_path();
      auto file = store_.fs_.create(temp_, 0600);
      if (!file) return pass_on(file);
      pack_ = std::make_unique<PackWriter>(std::move(*file));
    }
    StoredForm form = StoredForm::kRaw;
    const std::string_view stored = compressor_.compress(plain, form);
    if (auto done = pack_->add(id, static_cast<uint32_t>(plain.size()), stored, form); !done) {
      return pass_on(done);
    }
    added_.insert(id);
    added_bytes_ += stored.size();
    if (pack_->bytes() >= pack_bytes_max) {
      if (auto done = close_pack(); !done) return pass_on(done);
    }
    return true;
  }

  Result<SnapshotInfo> publish(SnapshotRecord record) override {
    if (pack_) {
      if (auto done = close_pack(); !done) return pass_on(done);
    }
    auto guard = store_.take_lock("epoch.lock", LockKind::kExclusive, "another writer");
    if (!guard) return pass_on(guard);
    if (auto allowed = store_.check_epoch(epoch_); !allowed) return pass_on(allowed);
    if (auto moved = move_packs(); !moved) return refused_or(moved);

    auto all = store_.list();
    if (!all) return pass_on(all);
    record.sequence = all->empty() ? 1 : sequence_of(all->back().id) + 1;
    record.epoch = epoch_.number;
    record.added_bytes = added_bytes_;
    const std::string bytes = encode_record(record);
    if (bytes.size() > record_bytes_max) {
      return storage_error(ErrorCode::kLimitExceeded,
                           "the state has too many files for one snapshot; exclude some");
    }
    SnapshotInfo info{.id = snapshot_id(record.sequence, bytes), .record = record, .problem = {}};
    const std::string path = join(join(store_.root_, snapshots_dir), info.id);
    if (auto done = publish_record(path, bytes); !done) {
      // The rename may have happened before the failure: what isn't known to be durable is not
      // published.
      best_effort(store_.fs_.remove_file(path));
      return refused_or(done);
    }
    return info;
  }

 private:
  struct Staged {
    std::string temp;
    std::string name;
  };

  // The epoch is looked at between the record's standing in tmp/ and its rename: from then on a
  // claim by another either finds it there and takes it away, or comes after the rename.
  Result<void> publish_record(const std::string& path, const std::string& bytes) {
    const std::string staged = store_.record_path(epoch_);
    auto done = write_durably(store_.fs_, staged, bytes);
    if (done) done = store_.check_epoch(epoch_);
    if (done) done = store_.fs_.rename(staged, path);
    if (!done) {
      best_effort(store_.fs_.remove_file(staged));
      return done;
    }
    return store_.fs_.sync_directory(std::string(parent_of(path)));
  }

  // What is missing was taken away by whoever took the store over.
  std::unexpected<Error> refused_or(Result<void>& failed) {
    if (failed.error().code == ErrorCode::kNotFound) {
      if (auto allowed = store_.check_epoch(epoch_); !allowed) return pass_on(allowed);
    }
    return pass_on(failed, "publish snapshot");
  }

  Result<void> close_pack() {
    auto name = pack_->finish();
    if (!name) return pass_on(name);
    staged_.push_back({temp_, name->hex()});
    pack_.reset();
    temp_.clear();
    return {};
  }

  Result<void> move_packs() {
    if (staged_.empty()) return {};
    const std::string directory = join(store_.root_, packs_dir);
    while (!staged_.empty()) {
      const Staged& staged = staged_.back();
      if (auto done = store_.fs_.rename(staged.temp, join(directory, staged.name)); !done) {
        return done;
      }
      staged_.pop_back();
    }
    if (auto done = store_.fs_.sync_directory(directory); !done) return done;
    // We hashed and wrote these bytes a moment ago.
    store_.verified_.insert(added_.begin(), added_.end());
    return store_.refresh();
  }

  LocalStore& store_;
  std::unique_ptr<FileLock> lock_;
  const Epoch epoch_;
  Compressor compressor_;
  std::string temp_;
  std::unique_ptr<PackWriter> pack_;
  std::vector<Staged> staged_;
  std::unordered_set<ChunkId, DigestHash> added_;
  uint64_t added_bytes_ = 0;
};

// ---- Opening ----------------------------------------------------------------------------------

LocalStore::LocalStore(OpenKey /*key*/, FileSystem& fs, std::string root, Duration lock_wait_max)
    : fs_(fs), root_(std::move(root)), lock_wait_max_(lock_wait_max) {}
LocalStore::~LocalStore() = default;

Result<std::unique_ptr<LocalStore>> LocalStore::open(const LocalStoreOptions& options) {
  FileSystem& fs = options.file_system != nullptr ? *options.file_system : real_file_system();
  auto root = canonical(options.root);
  if (!root) return pass_on(root, "snapshot store " + options.root);
  auto store = std::make_unique<LocalStore>(OpenKey{}, fs, std::move(*root), options.lock_wait_max);
  auto format = fs.stat(join(store->root_, "format"));
  if (!format && format.error().code != ErrorCode::kNotFound) return pass_on(format);
  if (!format) {
    if (options.mode == OpenMode::kExisting) {
      return storage_error(ErrorCode::kNotFound, store->root_ +
                                                     " is not a snapshot store; check --store, or "
                                                     "make one with: remora snapshot take");
    }
    if (auto done = store->initialise(); !done) return pass_on(done);
  }
  if (auto done = store->check_format(); !done) return pass_on(done);
  if (options.mode == OpenMode::kCreate) {
    // Only when nobody else is at work.
    auto lock = fs.lock(join(store->root_, "lock"), LockKind::kExclusive, Duration::zero());
    if (lock) store->sweep_staging();
  }
  return store;
}

Result<void> LocalStore::initialise() {
  auto ensure = [this](const std::string& path) -> Result<void> {
    auto made = fs_.make_directory(path, 0700);
    if (made) return fs_.sync_directory(std::string(parent_of(path)));
    if (made.error().code == ErrorCode::kAlreadyExists) return {};
    return pass_on(made, "make snapshot store");
  };
  if (auto done = ensure(root_); !done) return done;
  for (const char* name : {packs_dir, snapshots_dir}) {
    auto entries = fs_.list(join(root_, name));
    if (entries && !entries->empty()) {
      return corrupt("store " + root_ +
                     " has snapshots but no format file; if it is a version 1 store, restore the "
                     "file 'format' as FORMAT.md shows");
    }
  }
  for (const char* name : {packs_dir, snapshots_dir, staging_dir}) {
    if (auto done = ensure(join(root_, name)); !done) return done;
  }
  // Last: a store with a format file is whole.
  const std::string text = std::string(format_head) + std::to_string(store_format_version) + "\n";
  return write_atomically(fs_, temp_path(), join(root_, "format"), text);
}

Result<void> LocalStore::check_format() {
  auto text = read_small_file(fs_, join(root_, "format"), format_bytes_max);
  if (!text) return pass_on(text, "snapshot store");
  const uint32_t version = parse_format(*text);
  if (version == 0) {
    return corrupt("store " + root_ + ": the format file is damaged; FORMAT.md shows its content");
  }
  if (version > store_format_version) {
    return storage_error(ErrorCode::kUnsupportedVersion,
                         "store " + root_ + " has format version " + std::to_string(version) +
                             "; this remora knows versions up to " +
                             std::to_string(store_format_version) +
                             ": use a newer remora or another store. Nothing was changed");
  }
  return {};
}

void LocalStore::sweep_staging() {
  // Errors don't matter: the next opening tries again.
  auto entries = fs_.list(staging_directory());
  if (!entries) return;
  for (const DirectoryEntry& entry : *entries) {
    best_effort(remove_tree(fs_, join(staging_directory(), entry.name)));
  }
}

Result<std::unique_ptr<FileLock>> LocalStore::take_lock(const char* name, LockKind kind,
                                                        std::string_view who_else) {
  auto lock = fs_.lock(join(root_, name), kind, lock_wait_max_);
  if (lock || lock.error().code != ErrorCode::kUnavailable) return lock;
  return storage_error(
      ErrorCode::kUnavailable,
      "store " + root_ + " is in use by " + std::string(who_else) + "; try again when it is done",
      true);
}

std::string LocalStore::staging_directory() const { return join(root_, staging_dir); }
std::string LocalStore::temp_path() const { return join(staging_directory(), random_name()); }

// ---- Reading ----------------------------------------------------------------------------------

Result<std::unique_ptr<SnapshotWriter>> LocalStore::begin_snapshot(const Epoch& epoch) {
  auto lock = take_lock("lock", LockKind::kShared, "a prune");
  if (!lock) return pass_on(lock);
  if (auto allowed = check_epoch(epoch); !allowed) return pass_on(allowed);
  if (auto done = refresh(); !done) return pass_on(done);
  return std::make_unique<Writer>(*this, std::move(*lock), epoch);
}

Result<std::unique_ptr<ChunkReader>> LocalStore::begin_read() {
  auto lock = take_lock("lock", LockKind::kShared, "a prune");
  if (!lock) {
    // A read-only volume without a lock file: nobody can prune it either.
    if (lock.error().code != ErrorCode::kPermission) return pass_on(lock);
    lock = nullptr;
  }
  if (auto done = refresh(); !done) return pass_on(done);
  return std::make_unique<Reader>(*this, std::move(*lock));
}

Result<std::vector<SnapshotInfo>> LocalStore::list() {
  const std::string directory = join(root_, snapshots_dir);
  auto names = fs_.list(directory);
  if (!names) return pass_on(names);
  std::vector<SnapshotInfo> all;
  for (const DirectoryEntry& entry : *names) {
    SnapshotInfo info{.id = entry.name, .record = {}, .problem = {}};
    const uint64_t sequence = sequence_of(entry.name);
    if (sequence == 0) continue;  // not ours
    auto bytes = read_small_file(fs_, join(directory, entry.name), record_bytes_max);
    if (!bytes && bytes.error().code == ErrorCode::kNotFound) continue;  // pruned just now
    auto record = bytes ? decode_record(*bytes) : Result<SnapshotRecord>(pass_on(bytes));
    if (!record) {
      info.problem = record.error().message;
    } else if (record->sequence != sequence || snapshot_id(sequence, *bytes) != entry.name) {
      info.problem = "snapshot record doesn't belong to its name";
    } else {
      info.record = std::move(*record);
    }
    info.record.sequence = sequence;
    all.push_back(std::move(info));
  }
  std::ranges::stable_sort(all, {}, [](const SnapshotInfo& i) { return i.record.sequence; });
  return all;
}

Result<void> LocalStore::refresh() {
  auto names = fs_.list(join(root_, packs_dir));
  if (!names) return pass_on(names);
  std::unordered_set<std::string> present;
  for (const DirectoryEntry& entry : *names) {
    if (!digest_from_hex(entry.name)) continue;
    present.insert(entry.name);
    if (packs_.contains(entry.name)) continue;
    if (auto done = load_pack(entry.name); !done) return done;
  }
  std::vector<std::string> gone;
  for (const auto& [name, pack] : packs_) {
    if (!present.contains(name)) gone.push_back(name);
  }
  for (const std::string& name : gone) forget_pack(name);
  return {};
}

Result<void> LocalStore::load_pack(const std::string& name) {
  const std::string path = join(join(root_, packs_dir), name);
  Pack pack;
  auto file = fs_.open(path);
  if (!file) return pass_on(file);
  auto st = (*file)->stat();
  if (!st) return pass_on(st);
  pack.file_bytes = st->size;
  auto index = read_pack_index(**file);
  if (index) {
    pack.frames = std::move(index->frames);
    pack.salvaged = index->salvaged;
  } else if (index.error().code == ErrorCode::kCorrupt) {
    pack.salvaged = true;  // damaged from its first byte: as if it held nothing
  } else {
    return pass_on(index, path);
  }
  const auto [it, inserted] = packs_.emplace(name, std::move(pack));
  for (const FrameInfo& frame : it->second.frames) {
    locations_.emplace(frame.id, Location{.pack = &it->first, .frame = frame});
  }
  return {};
}

void LocalStore::forget_pack(const std::string& name) {
  const auto it = packs_.find(name);
  if (it == packs_.end()) return;
  for (const FrameInfo& frame : it->second.frames) {
    auto [at, end] = locations_.equal_range(frame.id);
    while (at != end) at = at->second.pack == &it->first ? locations_.erase(at) : std::next(at);
    if (!locations_.contains(frame.id)) verified_.erase(frame.id);
  }
  open_packs_.erase(name);
  packs_.erase(it);
}

bool LocalStore::has_chunk(const ChunkId& id) const {
  const auto [begin, end] = locations_.equal_range(id);
  return std::any_of(begin, end, [](const auto& item) { return !item.second.bad; });
}

Result<void> LocalStore::read_stored(const Location& at, std::string& stored) {
  auto it = open_packs_.find(*at.pack);
  if (it == open_packs_.end()) {
    if (open_packs_.size() >= open_packs_max) open_packs_.erase(open_packs_.begin());
    auto file = fs_.open(join(join(root_, packs_dir), *at.pack));
    if (!file) return pass_on(file);
    it = open_packs_.emplace(*at.pack, std::move(*file)).first;
  }
  stored.resize(at.frame.stored_bytes);  // bounded by chunk_bytes_max: checked with the index
  auto n = it->second->read_at(at.frame.offset, stored);
  if (!n) return pass_on(n);
  if (*n != stored.size()) return corrupt("pack " + *at.pack + " is cut short");
  return {};
}

// A chunk may stand in several packs (a damaged copy and a fresh one): any good copy will do.
Result<void> LocalStore::read_chunk(const ChunkId& id, std::string& plain) {
  Result<void> outcome = storage_error(ErrorCode::kNotFound, "chunk " + id.hex() + " is missing");
  const auto [begin, end] = locations_.equal_range(id);
  for (auto it = begin; it != end; ++it) {
    Location& at = it->second;
    outcome = read_stored(at, stored_);
    if (outcome) outcome = decode_chunk(at.frame, stored_, plain);
    if (outcome) {
      at.bad = false;
      verified_.insert(id);
      return {};
    }
    at.bad = outcome.error().code == ErrorCode::kCorrupt;
  }
  verified_.erase(id);
  return outcome;
}

std::vector<std::string> LocalStore::salvaged_packs() const {
  std::vector<std::string> names;
  for (const auto& [name, pack] : packs_) {
    if (pack.salvaged) names.push_back(name);
  }
  return names;
}

}  // namespace remora::checkpoint
