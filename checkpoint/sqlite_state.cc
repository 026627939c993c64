#include "checkpoint/sqlite_state.h"

#include <chrono>
#include <memory>
#include <thread>

#include <sqlite3.h>

#include "checkpoint/errors.h"
#include "sidecar/base/handle.h"

namespace remora::checkpoint {
namespace {

using Database = CHandle<sqlite3, sqlite3_close>;
using Statement = CHandle<sqlite3_stmt, sqlite3_finalize>;

std::unexpected<Error> failed(int code, sqlite3* db, const std::string& what) {
  ErrorCode mapped = ErrorCode::kIo;
  bool retryable = false;
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      mapped = ErrorCode::kCorrupt;
      break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      mapped = ErrorCode::kTimeout;
      retryable = true;
      break;
    case SQLITE_FULL:
      mapped = ErrorCode::kNoSpace;
      break;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      mapped = ErrorCode::kPermission;
      break;
    case SQLITE_IOERR:
      // A database that ends before its header says: cut, not a failing disk.
      if (db != nullptr && sqlite3_extended_errcode(db) == SQLITE_IOERR_SHORT_READ) {
        mapped = ErrorCode::kCorrupt;
      }
      break;
    default:
      break;
  }
  const char* text = db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  return storage_error(mapped, what + ": " + text, retryable);
}

// Opens so that closing leaves -wal and -shm as they are and never checkpoints: a look must not
// change the state.
Result<Database> open_untouched(const std::string& path) {
  sqlite3* raw = nullptr;
  const int opened =
      sqlite3_open_v2(path.c_str(), &raw,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, nullptr);
  Database db(raw);
  if (opened != SQLITE_OK) return failed(opened, db.get(), path);
  sqlite3_busy_timeout(db.get(), sqlite_busy_ms_max);
  sqlite3_db_config(db.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_db_config(db.get(), SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(db.get(), SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  int keep_wal = 1;
  sqlite3_file_control(db.get(), "main", SQLITE_FCNTL_PERSIST_WAL, &keep_wal);
  return db;
}

Result<std::string> query_text(sqlite3* db, const char* sql, const std::string& path) {
  sqlite3_stmt* raw = nullptr;
  const int prepared = sqlite3_prepare_v2(db, sql, -1, &raw, nullptr);
  const Statement statement(raw);
  if (prepared != SQLITE_OK) return failed(prepared, db, path);
  const int stepped = sqlite3_step(statement.get());
  if (stepped == SQLITE_DONE) return std::string();
  if (stepped != SQLITE_ROW) return failed(stepped, db, path);
  const unsigned char* text = sqlite3_column_text(statement.get(), 0);
  return text == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(text));
}

Result<void> copy_pages(sqlite3* from, sqlite3* to, const std::string& source) {
  const CHandle<sqlite3_backup, sqlite3_backup_finish> backup(
      sqlite3_backup_init(to, "main", from, "main"));
  if (!backup) return failed(sqlite3_errcode(to), to, source);
  int restarts = 0;
  int busy_ms = 0;
  int last_remaining = -1;
  while (true) {
    const int pages = restarts < backup_restarts_max ? backup_pieces_pages : -1;
    const int stepped = sqlite3_backup_step(backup.get(), pages);
    if (stepped == SQLITE_DONE) return {};
    if (stepped == SQLITE_BUSY || stepped == SQLITE_LOCKED) {
      if (busy_ms >= sqlite_busy_ms_max) return failed(stepped, nullptr, source);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      busy_ms += 5;
      continue;
    }
    if (stepped != SQLITE_OK) return failed(stepped, nullptr, source);
    // Begun anew: as much is left as before, or more.
    const int remaining = sqlite3_backup_remaining(backup.get());
    if (last_remaining >= 0 && remaining >= last_remaining) ++restarts;
    last_remaining = remaining;
  }
}

}  // namespace

bool is_sqlite_header(std::string_view head) {
  return head.starts_with(std::string_view("SQLite format 3\0", sqlite_header_bytes));
}

Result<void> backup_sqlite(const std::string& source, const std::string& target) {
  auto from = open_untouched(source);
  if (!from) return pass_on(from);
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open_v2(
      target.c_str(), &raw,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
      nullptr);
  const Database to(raw);
  if (opened != SQLITE_OK) return failed(opened, to.get(), target);
  // The copy is thrown away when anything fails: it needs no journal and no fsync.
  for (const char* pragma : {"PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF"}) {
    auto done = query_text(to.get(), pragma, target);
    if (!done) return pass_on(done);
  }
  // In WAL mode a read transaction pins one version of the database: writers go on, and the copy
  // never begins anew. Outside WAL mode it would block them, so there the backup locks per piece.
  auto mode = query_text(from->get(), "PRAGMA journal_mode", source);
  if (!mode) return pass_on(mode);
  const bool pinned = *mode == "wal";
  if (pinned) {
    auto begun = query_text(from->get(), "BEGIN", source);
    if (!begun) return pass_on(begun);
    auto read = query_text(from->get(), "SELECT count(*) FROM sqlite_schema", source);
    if (!read) return pass_on(read);
  }
  return copy_pages(from->get(), to.get(), source);
}

Result<std::string> check_sqlite(const std::string& path) {
  auto db = open_untouched(path);
  Result<std::string> outcome =
      db ? query_text(db->get(), "PRAGMA quick_check(1)", path)
         : Result<std::string>(std::unexpected<Error>(std::move(db.error())));
  if (outcome) return *outcome == "ok" ? std::string() : *outcome;
  if (outcome.error().code == ErrorCode::kCorrupt) return outcome.error().message;
  return outcome;
}

}  // namespace remora::checkpoint
