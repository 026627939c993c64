#include "checkpoint/coordinator.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "checkpoint/errors.h"
#include "checkpoint/local_store.h"

namespace remora::checkpoint {

Result<std::unique_ptr<Coordinator>> Coordinator::open(const std::string& store_dir,
                                                       CoordinatorOptions options, Post post) {
  auto store = LocalStore::open(
      {.root = store_dir, .mode = OpenMode::kCreate, .file_system = options.file_system});
  if (!store) return pass_on(store);
  return create(std::move(*store), std::move(options), std::move(post));
}

Result<std::unique_ptr<Coordinator>> Coordinator::create(std::unique_ptr<Store> store,
                                                         CoordinatorOptions options, Post post) {
  auto epoch = store->claim_epoch(options.owner);
  if (!epoch) return pass_on(epoch);
  std::optional<Error> refused;
  if (epoch->number == 0) {
    auto newest = store->current_epoch();
    if (!newest) return pass_on(newest);
    refused = taken_over(store->location(), newest->number, 0).error();
  }
  auto coordinator = std::make_unique<Coordinator>(OpenKey{}, std::move(store), std::move(*epoch),
                                                   std::move(options), std::move(post));
  if (refused) coordinator->lose(std::move(*refused));
  return coordinator;
}

Coordinator::Coordinator(OpenKey /*key*/, std::unique_ptr<Store> store, Epoch epoch,
                         CoordinatorOptions options, Post post)
    : store_(std::move(store)),
      epoch_(std::move(epoch)),
      options_(std::move(options)),
      post_(std::move(post)) {}

Coordinator::~Coordinator() {
  // The worker's current job is waited for: make it short.
  if (running_cancelled_) running_cancelled_->store(true);
}

template <typename T>
void Coordinator::run(std::move_only_function<Result<T>()> work, Done<T> done) {
  worker_.submit([this, work = std::move(work), done = std::move(done),
                  alive = std::weak_ptr<int>(alive_)]() mutable {
    // The result goes to the loop with the callback; the worker keeps neither.
    post_([result = work(), done = std::move(done), alive = std::move(alive)]() mutable {
      if (!alive.expired()) done(std::move(result));
    });
  });
}

void Coordinator::lose(Error why) {
  if (lost_) return;
  lost_ = std::move(why);
  if (running_cancelled_) running_cancelled_->store(true);
  post_([this, alive = std::weak_ptr<int>(alive_)] {
    if (!alive.expired() && options_.on_taken_over) options_.on_taken_over(*lost_);
  });
}

void Coordinator::give_up_store(const std::string& why) {
  lose(storage_error(ErrorCode::kPermission, why).error());
}

void Coordinator::take(std::string reason, Done<TakeResult> done) {
  if (lost_) {
    return post_(
        [done = std::move(done), why = *lost_, alive = std::weak_ptr<int>(alive_)]() mutable {
          if (!alive.expired()) done(std::unexpected(std::move(why)));
        });
  }
  // Shared by several, it goes by the first one's reason.
  if (waiting_.done.empty()) waiting_.reason = std::move(reason);
  waiting_.done.push_back(std::move(done));
  if (running_.empty()) start_take();
}

void Coordinator::start_take() {
  running_ = std::exchange(waiting_.done, {});
  running_cancelled_ = std::make_shared<std::atomic<bool>>(false);
  Quiesce quiesce;
  if (options_.make_quiesce) quiesce = options_.make_quiesce();
  run<TakeResult>(
      [this, reason = std::exchange(waiting_.reason, {}), quiesce = std::move(quiesce),
       cancelled = running_cancelled_]() mutable {
        return take_now(reason, std::move(quiesce), std::move(cancelled));
      },
      [this](Result<TakeResult> result) { take_finished(std::move(result)); });
}

void Coordinator::take_finished(Result<TakeResult> result) {
  auto finished = std::exchange(running_, {});
  running_cancelled_.reset();
  if (taken_over_ && !result) lose(result.error());
  if (lost_) {
    if (!result) result = std::unexpected(*lost_);
    std::ranges::move(std::exchange(waiting_.done, {}), std::back_inserter(finished));
  }
  if (!waiting_.done.empty()) start_take();
  const std::weak_ptr<int> alive = alive_;
  for (auto& done : finished) {
    done(result);
    if (alive.expired()) return;  // a callback destroyed us
  }
}

Result<TakeResult> Coordinator::take_now(const std::string& reason, Quiesce quiesce,
                                         std::shared_ptr<std::atomic<bool>> cancelled) {
  TakeResult out;
  CaptureOptions options;
  options.state_dir = options_.state_dir;
  options.exclude = options_.exclude;
  options.reason = reason;
  options.skip_if_unchanged = true;
  options.quiesce = quiesce.stop && quiesce.cont ? &quiesce : nullptr;
  options.file_system = options_.file_system;
  options.clock = options_.clock;
  options.cancelled = std::move(cancelled);
  auto report = take_snapshot(*store_, epoch_, options);
  if (!report && report.error().code == ErrorCode::kPermission) {
    // Of what the volume forbids it would say the same.
    const auto newest = store_->current_epoch();
    taken_over_ = newest && *newest != epoch_;
  }
  if (!report) return pass_on(report);
  out.capture = std::move(*report);
  if (out.capture.unchanged) return out;
  auto pruned = store_->prune({.keep_last = options_.keep_last, .epoch = epoch_});
  if (pruned) {
    out.pruned = std::move(*pruned);
  } else {
    out.prune_problem = pruned.error().message;
  }
  return out;
}

void Coordinator::check_state(Done<StateVerdict> done) {
  if (running_cancelled_) running_cancelled_->store(true);
  run<StateVerdict>(
      [this] {
        FileSystem& fs =
            options_.file_system != nullptr ? *options_.file_system : real_file_system();
        return checkpoint::check_state(*store_, options_.state_dir, options_.exclude, fs);
      },
      std::move(done));
}

void Coordinator::restore_latest(Done<RestoreReport> done) {
  if (running_cancelled_) running_cancelled_->store(true);
  run<RestoreReport>(
      [this] {
        const RestoreOptions options{.state_dir = options_.state_dir,
                                     .file_system = options_.file_system,
                                     .clock = options_.clock,
                                     .set_owner = options_.set_owner};
        return checkpoint::restore_latest(*store_, options);
      },
      std::move(done));
}

void Coordinator::restore(std::string id, Done<RestoreReport> done) {
  if (running_cancelled_) running_cancelled_->store(true);
  run<RestoreReport>(
      [this, id = std::move(id)]() -> Result<RestoreReport> {
        auto snapshot = find_snapshot(*store_, id);
        if (!snapshot) return pass_on(snapshot);
        const RestoreOptions options{.state_dir = options_.state_dir,
                                     .file_system = options_.file_system,
                                     .clock = options_.clock,
                                     .set_owner = options_.set_owner};
        return restore_snapshot(*store_, *snapshot, options);
      },
      std::move(done));
}

void Coordinator::list(Done<std::vector<SnapshotInfo>> done) {
  run<std::vector<SnapshotInfo>>([this] { return store_->list(); }, std::move(done));
}

}  // namespace remora::checkpoint
