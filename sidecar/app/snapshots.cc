#include "sidecar/app/snapshots.h"

#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "checkpoint/process_group_quiesce.h"
#include "config/load.h"
#include "sidecar/base/json_text.h"
#include "sidecar/base/log.h"

namespace remora {

Result<std::unique_ptr<Snapshots>> Snapshots::open(Loop& loop, const config::Config& config,
                                                   AgentMetrics& metrics) {
  const std::string& state_dir = config.agent().state_dir();
  const config::Snapshots& options = config.snapshots();
  std::unique_ptr<Snapshots> snapshots(
      new Snapshots(loop, config::to_duration(options.interval()), metrics));
  checkpoint::CoordinatorOptions coordinator;
  coordinator.state_dir = state_dir;
  coordinator.exclude.assign(options.exclude().begin(), options.exclude().end());
  coordinator.keep_last = static_cast<uint64_t>(options.keep_last());
  coordinator.set_owner = ::geteuid() == 0;
  coordinator.clock = &loop.clock();
  // A pod that was replaced must not take the store back from what took its place. Without a pod
  // nobody is told from anybody: whoever came last has it.
  if (const char* const pod_uid = std::getenv("REMORA_POD_UID")) coordinator.owner = pod_uid;
  coordinator.on_taken_over = [self = snapshots.get()](const Error& why) { self->lose(why); };
  coordinator.make_quiesce = [self = snapshots.get(), &loop,
                              stop_max = config::to_duration(options.stop_max())] {
    return self->agent_ > 0
               ? checkpoint::process_group_quiesce(self->agent_, stop_max, loop.clock())
               : checkpoint::Quiesce{};
  };
  auto opened = checkpoint::Coordinator::open(options.store(), std::move(coordinator),
                                              [&loop](std::move_only_function<void()> task) {
                                                loop.post_from_any_thread(std::move(task));
                                              });
  if (!opened) return std::unexpected(std::move(opened.error()));
  snapshots->coordinator_ = std::move(*opened);
  return snapshots;
}

Snapshots::Snapshots(Loop& loop, Duration interval, AgentMetrics& metrics)
    : loop_(loop), interval_(interval), metrics_(metrics) {}

void Snapshots::lose(const Error& why) {
  timer_.cancel();
  metrics_.store_taken_over.set(1);
  status_.last_outcome = "failed";
  status_.last_error = why.message;
  log_error("store_taken_over", {{"reason", why.message}});
  if (taken_over_) taken_over_(why.message);
}

void Snapshots::set_serving(bool serving) {
  if (serving_ == serving) return;
  serving_ = serving;
  timer_.cancel();
  if (serving_ && epoch() != 0) schedule();
}

void Snapshots::schedule() {
  timer_ = loop_.add_timer(interval_, [this] {
    take("interval", [](const Result<std::string>&) {});
    if (epoch() != 0) schedule();
  });
}

void Snapshots::take(const std::string& reason, AdminDone done) {
  coordinator_->take(reason,
                     [this, done = std::move(done)](Result<checkpoint::TakeResult> result) mutable {
                       if (result) {
                         done(on_taken(*result));
                         return;
                       }
                       status_.last_outcome = "failed";
                       status_.last_error = result.error().message;
                       // A restore or a check comes first: a take that gives way to one has not
                       // failed.
                       if (result.error().code != ErrorCode::kCancelled) {
                         metrics_.count_snapshot(SnapshotOutcome::kFailed, {}, {});
                         log_error("snapshot_failed", {{"reason", result.error().message}});
                       }
                       done(std::unexpected(std::move(result.error())));
                     });
}

std::string Snapshots::on_taken(const checkpoint::TakeResult& result) {
  const checkpoint::CaptureReport& capture = result.capture;
  metrics_.count_snapshot(
      capture.unchanged ? SnapshotOutcome::kUnchanged : SnapshotOutcome::kStored, capture.took,
      capture.quiet.stopped);
  metrics_.snapshots_kept.set(static_cast<double>(result.pruned.kept_snapshots.size()));
  if (result.prune_problem.empty()) {
    metrics_.snapshot_stored_bytes.set(static_cast<double>(result.pruned.stored_bytes));
  }
  metrics_.snapshot_last_timestamp.set(
      static_cast<double>(capture.snapshot.record.taken_at_unix_ns) / 1e9);
  status_ = {.kept = result.pruned.kept_snapshots.size(),
             .last_id = capture.snapshot.id,
             .last_at_unix_ns = capture.snapshot.record.taken_at_unix_ns,
             .last_outcome = capture.unchanged ? "unchanged" : "stored",
             .last_error = {}};
  if (!capture.unchanged && changed_) changed_();
  if (!capture.unchanged) {
    log_info("snapshot", {{"id", capture.snapshot.id},
                          {"reason", capture.snapshot.record.reason},
                          {"files", capture.snapshot.record.file_count},
                          {"added_bytes", capture.snapshot.record.added_bytes},
                          {"duration_s", to_seconds(capture.took)},
                          {"stopped_s", to_seconds(capture.quiet.stopped)}});
  }
  if (capture.low_space) {
    log_warn("snapshot_space_low", {{"free_bytes", capture.store_free_bytes},
                                    {"mend",
                                     "free space on the store's volume, or keep fewer "
                                     "snapshots (snapshots.keepLast)"}});
  }
  if (!result.prune_problem.empty()) {
    log_warn("snapshot_prune_failed", {{"reason", result.prune_problem}});
  }
  std::string text = R"({"id":")";
  append_json_escaped(text, capture.snapshot.id);
  text +=
      fmt::format(R"(","unchanged":{},"added_bytes":{},"duration_s":{:.3f},"stopped_s":{:.3f}}})",
                  capture.unchanged, capture.snapshot.record.added_bytes, to_seconds(capture.took),
                  to_seconds(capture.quiet.stopped));
  return text;
}

void Snapshots::check_state(std::move_only_function<void(Result<StateCheck>)> done) {
  coordinator_->check_state(
      [done = std::move(done)](Result<checkpoint::StateVerdict> verdict) mutable {
        if (!verdict) {
          done(std::unexpected(std::move(verdict.error())));
        } else {
          done(StateCheck{.damaged = verdict->damaged, .problem = std::move(verdict->problem)});
        }
      });
}

void Snapshots::restore(const std::string& id,
                        std::move_only_function<void(Result<RestoredSnapshot>)> done) {
  auto restored = [done = std::move(done)](Result<checkpoint::RestoreReport> report) mutable {
    if (!report) {
      done(std::unexpected(std::move(report.error())));
      return;
    }
    log_info("snapshot_restored", {{"id", report->snapshot.id},
                                   {"files", report->files},
                                   {"bytes", report->bytes},
                                   {"set_aside", report->set_aside},
                                   {"duration_s", to_seconds(report->took)}});
    for (const std::string& damaged : report->passed_over) {
      log_warn("snapshot_damaged", {{"snapshot", damaged}});
    }
    done(RestoredSnapshot{.id = report->snapshot.id,
                          .taken_at_unix_ns = report->snapshot.record.taken_at_unix_ns});
  };
  if (id.empty()) {
    coordinator_->restore_latest(std::move(restored));
  } else {
    coordinator_->restore(id, std::move(restored));
  }
}

}  // namespace remora
