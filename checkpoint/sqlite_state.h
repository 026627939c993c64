// SQLite databases as a part of an agent's state: recognising them, copying one consistently while
// its owner writes, and checking one. The databases are untrusted: their schema is never run
// (defensive mode, no trusted schema, no extension loading).
#pragma once

#include <string>
#include <string_view>

#include "sidecar/base/error.h"

namespace remora::checkpoint {

inline constexpr size_t sqlite_header_bytes = 16;

// The first 16 bytes of a file are a SQLite 3 database's.
bool is_sqlite_header(std::string_view head);

// "a.db-wal", "a.db-shm" and "a.db-journal" belong to "a.db".
inline constexpr std::string_view sqlite_side_files[] = {"-wal", "-shm", "-journal"};

// Copies source into a new file at target with SQLite's online backup, in pieces, so that writers
// get their turn. A writer in rollback mode that keeps changing it makes the copy begin anew; after
// backup_restarts_max times the rest is copied under one read lock, for which writers wait.
// kCorrupt when the source is damaged, kTimeout (retryable) when it stays locked.
Result<void> backup_sqlite(const std::string& source, const std::string& target);

inline constexpr int backup_pieces_pages = 512;
inline constexpr int backup_restarts_max = 3;
inline constexpr int sqlite_busy_ms_max = 5000;

// PRAGMA quick_check, without changing the database. Empty when it is fine, else what is wrong. An
// error only when that can't be told: kTimeout when it stays locked, kIo, kPermission.
Result<std::string> check_sqlite(const std::string& path);

}  // namespace remora::checkpoint
