#include "checkpoint/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <unistd.h>

#include "checkpoint/capture.h"
#include "checkpoint/errors.h"
#include "checkpoint/local_store.h"
#include "checkpoint/restore.h"
#include "checkpoint/verify.h"
#include "sidecar/base/exit_codes.h"

namespace remora::checkpoint {
namespace {

using nlohmann::ordered_json;

struct Arguments {
  std::string store;
  std::string state;
  std::string to;
  std::string id = "latest";
  std::string only;  // verify: one snapshot instead of all
  std::vector<std::string> exclude;
  uint64_t keep_last = 10;
  bool json = false;
  bool accept_loss = false;
  TakeByOwner take_by_owner;
};

// Control characters in names and reasons must not reach a terminal.
std::string printable(std::string text) {
  std::ranges::replace_if(text, [](char c) { return (c >= 0 && c < ' ') || c == 127; }, '?');
  return text;
}

void print_line(const std::string& text) { std::printf("%s\n", text.c_str()); }

void print_json(const ordered_json& json) {
  // Paths are bytes, not always UTF-8: what isn't is shown replaced.
  print_line(json.dump(2, ' ', false, ordered_json::error_handler_t::replace));
}

std::string human_bytes(uint64_t bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

ordered_json to_json(const SnapshotInfo& info) {
  ordered_json json;
  json["id"] = info.id;
  json["sequence"] = info.record.sequence;
  json["intact_record"] = info.problem.empty();
  if (!info.problem.empty()) {
    json["problem"] = info.problem;
    return json;
  }
  const SnapshotRecord& record = info.record;
  json["taken_at"] = utc_text(record.taken_at_unix_ns);
  json["taken_at_unix_ns"] = record.taken_at_unix_ns;
  json["reason"] = record.reason;
  json["state_path"] = record.state_path;
  json["epoch"] = record.epoch;
  json["files"] = record.file_count;
  json["content_bytes"] = record.content_bytes;
  json["added_bytes"] = record.added_bytes;
  json["quiesced"] = record.quiesced;
  json["stopped_ns"] = record.stopped_ns;
  return json;
}

const char* type_name(EntryType type) {
  switch (type) {
    case EntryType::kDirectory:
      return "directory";
    case EntryType::kFile:
      return "file";
    case EntryType::kSymlink:
      return "symlink";
    case EntryType::kSkipped:
      return "skipped";
  }
  return "unknown";
}

ordered_json to_json(const Entry& entry) {
  ordered_json json;
  json["path"] = entry.path;
  json["type"] = type_name(entry.type);
  char mode[16];
  std::snprintf(mode, sizeof mode, "%04o", entry.mode);
  json["mode"] = mode;
  json["uid"] = entry.uid;
  json["gid"] = entry.gid;
  json["mtime_unix_ns"] = entry.mtime_ns;
  if (entry.type == EntryType::kFile) {
    json["bytes"] = entry.size;
    json["sqlite"] = entry.sqlite;
    json["unstable"] = entry.unstable;
    auto& chunks = json["chunks"] = ordered_json::array();
    for (const ChunkRef& chunk : entry.chunks) chunks.push_back(chunk.id.hex());
  }
  if (entry.type == EntryType::kSymlink) json["target"] = entry.text;
  if (entry.type == EntryType::kSkipped) json["why"] = entry.text;
  return json;
}

Result<std::unique_ptr<LocalStore>> open_store(const Arguments& arguments, OpenMode mode) {
  return LocalStore::open({.root = arguments.store, .mode = mode});
}

std::string seconds_text(Duration d) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f s", to_seconds(d));
  return text;
}

// Without --state: the sidecar that owns the store knows; else what the newest snapshot is of.
Result<int> take_of_known_state(Arguments arguments);

Result<int> take(const Arguments& arguments) {
  if (arguments.state.empty()) return take_of_known_state(arguments);
  const SystemClock clock;
  // The state first: a typing error there must not make a store.
  auto root = canonical(arguments.state);
  if (!root) return pass_on(root, "--state");
  auto state = real_file_system().stat(*root);
  auto store = open_store(arguments, state ? OpenMode::kCreate : OpenMode::kExisting);
  if (!store && !state && store.error().code == ErrorCode::kNotFound) {
    return storage_error(ErrorCode::kNotFound, "no directory " + *root + "; check --state");
  }
  if (!store) return pass_on(store);
  // Not claimed: a sidecar that writes to this store now stays its owner.
  auto epoch = (*store)->current_epoch();
  if (!epoch) return pass_on(epoch);
  CaptureOptions options;
  options.state_dir = *root;
  options.exclude = arguments.exclude;
  options.accept_loss = arguments.accept_loss;
  options.clock = &clock;
  auto report = take_snapshot(**store, *epoch, options);
  if (!report) return pass_on(report);
  for (const std::string& path : report->unstable) {
    std::fprintf(stderr, "remora: warning: %s changed while it was read\n",
                 printable(path).c_str());
  }
  if (report->low_space) {
    std::fprintf(stderr, "remora: warning: only %s left on the store's volume\n",
                 human_bytes(report->store_free_bytes).c_str());
  }
  if (arguments.json) {
    ordered_json json = to_json(report->snapshot);
    json["files_read"] = report->files_read;
    json["bytes_read"] = report->bytes_read;
    json["skipped"] = report->skipped;
    json["unstable"] = report->unstable;
    json["store_free_bytes"] = report->store_free_bytes;
    json["low_space"] = report->low_space;
    json["took_ns"] = report->took.count();
    print_json(json);
    return exit_ok;
  }
  const SnapshotRecord& record = report->snapshot.record;
  print_line("took " + report->snapshot.id + ": " + std::to_string(record.file_count) + " files, " +
             human_bytes(record.content_bytes) + "; read " + human_bytes(report->bytes_read) +
             ", stored " + human_bytes(record.added_bytes) + " in " + seconds_text(report->took));
  for (const std::string& path : report->skipped) print_line("skipped " + printable(path));
  return exit_ok;
}

Result<int> list(const Arguments& arguments) {
  auto store = open_store(arguments, OpenMode::kExisting);
  if (!store) return pass_on(store);
  auto all = (*store)->list();
  if (!all) return pass_on(all);
  if (arguments.json) {
    ordered_json json = ordered_json::array();
    for (const SnapshotInfo& info : *all) json.push_back(to_json(info));
    print_json({{"snapshots", std::move(json)}});
    return exit_ok;
  }
  std::printf("%-18s %-17s %8s %12s %12s  %s\n", "ID", "TAKEN (UTC)", "FILES", "SIZE", "ADDED",
              "REASON");
  for (const SnapshotInfo& info : *all) {
    if (!info.problem.empty()) {
      std::printf("%-18s damaged: %s\n", info.id.c_str(), printable(info.problem).c_str());
      continue;
    }
    const SnapshotRecord& record = info.record;
    std::printf("%-18s %-17s %8llu %12s %12s  %s\n", info.id.c_str(),
                utc_text(record.taken_at_unix_ns).c_str(),
                static_cast<unsigned long long>(record.file_count),
                human_bytes(record.content_bytes).c_str(), human_bytes(record.added_bytes).c_str(),
                printable(record.reason).c_str());
  }
  return exit_ok;
}

Result<int> show(const Arguments& arguments) {
  auto store = open_store(arguments, OpenMode::kExisting);
  if (!store) return pass_on(store);
  auto info = find_snapshot(**store, arguments.id);
  if (!info) return pass_on(info);
  if (!info->problem.empty()) return corrupt("snapshot " + info->id + ": " + info->problem);
  auto reader = (*store)->begin_read();
  if (!reader) return pass_on(reader);
  auto entries = read_entries(**reader, info->record);
  if (!entries) return pass_on(entries, "snapshot " + info->id);
  if (arguments.json) {
    ordered_json json = to_json(*info);
    auto& list = json["entries"] = ordered_json::array();
    for (const Entry& entry : *entries) list.push_back(to_json(entry));
    print_json(json);
    return exit_ok;
  }
  const SnapshotRecord& record = info->record;
  print_line(info->id + " of " + printable(record.state_path) + ", taken " +
             utc_text(record.taken_at_unix_ns) + " (" + printable(record.reason) + ")");
  std::printf("%-4s %10s %12s  %-17s %s\n", "MODE", "OWNER", "SIZE", "CHANGED (UTC)", "PATH");
  for (const Entry& entry : *entries) {
    std::string path = entry.path.empty() ? "." : entry.path;
    if (entry.type == EntryType::kDirectory) path += "/";
    if (entry.type == EntryType::kSymlink) path += " -> " + entry.text;
    if (entry.type == EntryType::kSkipped) path += " (skipped: " + entry.text + ")";
    if (entry.sqlite) path += " (SQLite)";
    std::printf("%04o %10s %12s  %-17s %s\n", entry.mode,
                (std::to_string(entry.uid) + ":" + std::to_string(entry.gid)).c_str(),
                entry.type == EntryType::kFile ? human_bytes(entry.size).c_str() : "-",
                utc_text(entry.mtime_ns).c_str(), printable(path).c_str());
  }
  return exit_ok;
}

void print_verdicts(const VerifyReport& report) {
  for (const SnapshotVerdict& verdict : report.snapshots) {
    if (verdict.intact()) {
      print_line(verdict.snapshot.id + " intact");
      continue;
    }
    print_line(verdict.snapshot.id + " DAMAGED (" + std::to_string(verdict.problem_count) +
               " problems)");
    for (const std::string& problem : verdict.problems) print_line("  " + printable(problem));
  }
  print_line("read " + std::to_string(report.chunks_read) + " chunks, " +
             human_bytes(report.bytes_read) +
             "; damaged or missing: " + std::to_string(report.damaged_chunks.size()));
}

Result<int> verify(const Arguments& arguments) {
  auto store = open_store(arguments, OpenMode::kExisting);
  if (!store) return pass_on(store);
  std::vector<SnapshotInfo> chosen;
  if (arguments.only.empty()) {
    auto all = (*store)->list();
    if (!all) return pass_on(all);
    chosen = std::move(*all);
  } else {
    auto info = find_snapshot(**store, arguments.only);
    if (!info) return pass_on(info);
    chosen.push_back(std::move(*info));
  }
  auto report = verify_snapshots(**store, chosen);
  if (!report) return pass_on(report);
  const std::vector<std::string> salvaged = (*store)->salvaged_packs();
  if (arguments.json) {
    ordered_json json;
    json["damaged"] = report->damaged();
    json["chunks_read"] = report->chunks_read;
    json["bytes_read"] = report->bytes_read;
    json["damaged_chunks"] = report->damaged_chunks;
    json["damaged_packs"] = salvaged;
    auto& list = json["snapshots"] = ordered_json::array();
    for (const SnapshotVerdict& verdict : report->snapshots) {
      list.push_back({{"id", verdict.snapshot.id},
                      {"intact", verdict.intact()},
                      {"problem_count", verdict.problem_count},
                      {"problems", verdict.problems}});
    }
    print_json(json);
  } else {
    for (const std::string& name : salvaged) {
      print_line("pack " + name + " has lost its index; read by its frames");
    }
    print_verdicts(*report);
  }
  return report->damaged() || !salvaged.empty() ? exit_not_good : exit_ok;
}

Result<int> restore(const Arguments& arguments) {
  const SystemClock clock;
  if (arguments.state.empty() == arguments.to.empty()) {
    return storage_error(ErrorCode::kInvalidArgument,
                         "name either --state DIR (replaced, its content set aside) or --to DIR "
                         "(empty or new)");
  }
  auto store = open_store(arguments, OpenMode::kExisting);
  if (!store) return pass_on(store);
  RestoreOptions options;
  options.state_dir = arguments.to.empty() ? arguments.state : arguments.to;
  options.clock = &clock;
  options.set_owner = ::geteuid() == 0;
  options.only_into_empty = !arguments.to.empty();
  Result<RestoreReport> report;
  if (arguments.id == "latest") {
    report = restore_latest(**store, options);
  } else {
    auto info = find_snapshot(**store, arguments.id);
    if (!info) return pass_on(info);
    report = restore_snapshot(**store, *info, options);
  }
  if (!report) return pass_on(report);
  for (const std::string& problem : report->passed_over) {
    std::fprintf(stderr, "remora: warning: passed over damaged snapshot %s\n",
                 printable(problem).c_str());
  }
  if (arguments.json) {
    ordered_json json = to_json(report->snapshot);
    json["restored_to"] = options.state_dir;
    json["restored_files"] = report->files;
    json["restored_bytes"] = report->bytes;
    json["set_aside"] = report->set_aside;
    json["passed_over"] = report->passed_over;
    json["took_ns"] = report->took.count();
    print_json(json);
    return exit_ok;
  }
  print_line("restored " + report->snapshot.id + " to " + printable(options.state_dir) + ": " +
             std::to_string(report->files) + " files, " + human_bytes(report->bytes) + " in " +
             seconds_text(report->took));
  if (!report->set_aside.empty()) {
    print_line("the former state is in " + printable(report->set_aside));
  }
  return exit_ok;
}

Result<int> prune(const Arguments& arguments) {
  auto store = open_store(arguments, OpenMode::kExisting);
  if (!store) return pass_on(store);
  auto report = (*store)->prune({.keep_last = arguments.keep_last});
  if (!report) return pass_on(report);
  if (arguments.json) {
    print_json({{"removed_snapshots", report->removed_snapshots},
                {"kept_snapshots", report->kept_snapshots},
                {"removed_chunks", report->removed_chunks},
                {"freed_bytes", report->freed_bytes}});
    return exit_ok;
  }
  print_line("removed " + std::to_string(report->removed_snapshots.size()) + " snapshots, kept " +
             std::to_string(report->kept_snapshots.size()) + "; freed " +
             human_bytes(report->freed_bytes));
  return exit_ok;
}

int finish(const Result<int>& outcome) {
  std::fflush(stdout);
  if (outcome) return *outcome;
  std::fprintf(stderr, "remora: %s\n", printable(outcome.error().message).c_str());
  switch (outcome.error().code) {
    case ErrorCode::kInvalidArgument:
      return exit_usage;
    case ErrorCode::kUnsupportedVersion:
      return exit_newer_format;
    default:
      return exit_failed;
  }
}

Result<int> take_of_known_state(Arguments arguments) {
  if (arguments.take_by_owner) {
    if (std::optional<Result<std::string>> taken = arguments.take_by_owner(arguments.store)) {
      if (!*taken) return pass_on(*taken);
      arguments.id = **taken;
      auto store = open_store(arguments, OpenMode::kExisting);
      if (!store) return pass_on(store);
      auto snapshot = find_snapshot(**store, arguments.id);
      if (!snapshot) return pass_on(snapshot);
      if (arguments.json) {
        print_json(to_json(*snapshot));
      } else {
        print_line("took " + snapshot->id + " through the sidecar that runs");
      }
      return exit_ok;
    }
  }
  auto store = open_store(arguments, OpenMode::kExisting);
  if (!store) return pass_on(store);
  auto newest = find_snapshot(**store, "latest");
  if (!newest) {
    return storage_error(ErrorCode::kInvalidArgument,
                         "no sidecar runs on this store and it holds no snapshot yet: name the "
                         "directory with --state");
  }
  arguments.state = newest->record.state_path;
  return take(arguments);
}

}  // namespace

void add_snapshot_commands(CLI::App& app, int& exit_code, TakeByOwner take_by_owner) {
  CLI::App* group = app.add_subcommand("snapshot", "Snapshots of the agent's state, by hand");
  group->require_subcommand(1);
  const auto arguments = std::make_shared<Arguments>();
  arguments->take_by_owner = std::move(take_by_owner);

  const auto add = [&](const char* name, const char* help, Result<int> (*run)(const Arguments&)) {
    CLI::App* command = group->add_subcommand(name, help);
    command->add_option("--store", arguments->store, "Directory of the snapshot store")->required();
    command->add_flag("--json", arguments->json, "Machine-readable output; see FORMAT.md");
    command->callback([arguments, run, &exit_code] { exit_code = finish(run(*arguments)); });
    return command;
  };

  CLI::App* take_command = add("take", "Take a snapshot; makes the store when needed", take);
  take_command->add_option("--state", arguments->state,
                           "Directory to take it of; default: ask the "
                           "sidecar that runs, else that of the newest snapshot");
  take_command->add_option("--exclude", arguments->exclude, "Glob patterns to leave out");
  take_command->add_flag("--accept-loss", arguments->accept_loss,
                         "Take the state as it is, even when it looks damaged");
  add("list", "List all snapshots, oldest first", list);
  CLI::App* show_command = add("show", "What is in a snapshot", show);
  show_command->add_option("id", arguments->id, "Snapshot id, a prefix of one, or latest");
  CLI::App* verify_command = add("verify", "Read everything and name what is damaged", verify);
  verify_command->add_option("id", arguments->only, "Only this snapshot");
  CLI::App* restore_command =
      add("restore", "Put a snapshot back; stop the agent first. latest: the newest intact one",
          restore);
  restore_command->add_option("id", arguments->id, "Snapshot id, a prefix of one, or latest");
  restore_command->add_option("--state", arguments->state,
                              "State directory to replace; its content is set aside");
  restore_command->add_option("--to", arguments->to, "Empty or new directory to restore into");
  CLI::App* prune_command = add("prune", "Remove old snapshots and what only they need", prune);
  prune_command
      ->add_option("--keep-last", arguments->keep_last,
                   "How many to keep; the newest intact one is always kept besides")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000}))
      ->capture_default_str();
}

}  // namespace remora::checkpoint
