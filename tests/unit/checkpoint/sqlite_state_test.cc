// SQLite databases in the state. Writers are processes of their own, as agents are: POSIX locks of
// one process don't exclude each other.
#include "checkpoint/sqlite_state.h"

#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/state_check.h"
#include "sidecar/base/handle.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

using Database = CHandle<sqlite3, sqlite3_close>;

Database open_database(const std::string& path) {
  sqlite3* raw = nullptr;
  sqlite3_open(path.c_str(), &raw);
  sqlite3_busy_timeout(raw, 10'000);
  return Database(raw);
}

bool execute(sqlite3* db, const std::string& sql) {
  return sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK;
}

int64_t query_int(sqlite3* db, const std::string& sql) {
  sqlite3_stmt* raw = nullptr;
  sqlite3_prepare_v2(db, sql.c_str(), -1, &raw, nullptr);
  const CHandle<sqlite3_stmt, sqlite3_finalize> statement(raw);
  return sqlite3_step(raw) == SQLITE_ROW ? sqlite3_column_int64(raw, 0) : -1;
}

class SqliteTest : public CheckpointTest {
 protected:
  const std::string db_path_ = state_ + "/memory.db";

  void make_database(const std::string& journal_mode, int rows) {
    const Database db = open_database(db_path_);
    execute(db.get(), "PRAGMA journal_mode=" + journal_mode);
    execute(db.get(), "PRAGMA synchronous=OFF");
    execute(db.get(), "CREATE TABLE a(x INTEGER PRIMARY KEY, y BLOB)");
    execute(db.get(), "CREATE TABLE b(x INTEGER PRIMARY KEY)");
    execute(db.get(), "CREATE TABLE c(n INTEGER)");
    execute(db.get(), "CREATE TABLE d(n INTEGER)");
    execute(db.get(), "INSERT INTO c VALUES (0)");
    execute(db.get(), "INSERT INTO d VALUES (0)");
    execute(db.get(), "BEGIN");
    for (int i = 0; i < rows; ++i) {
      execute(db.get(), "INSERT INTO a(y) VALUES (randomblob(1000))");
      execute(db.get(), "INSERT INTO b DEFAULT VALUES");
    }
    execute(db.get(), "COMMIT");
  }

  // A process that changes a row of a, and counts in c and in d, in one transaction, until killed.
  // Its size stays bounded, and it leaves some of a core to the others.
  pid_t start_writer() {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    const Database db = open_database(db_path_);
    execute(db.get(), "PRAGMA synchronous=OFF");
    while (true) {
      execute(db.get(),
              "BEGIN IMMEDIATE; UPDATE c SET n=n+1;"
              "UPDATE a SET y=randomblob(1000) WHERE x=1+abs(random())%2000;"
              "UPDATE d SET n=n+1; COMMIT");
      ::usleep(100);
    }
  }
};

class LiveWriter : public SqliteTest, public testing::WithParamInterface<const char*> {};

TEST_P(LiveWriter, TwentyFiveSnapshotsAreAllConsistent) {
  make_database(GetParam(), 2000);
  const pid_t writer = start_writer();
  const auto store = open_store();
  int64_t last = 0;
  int consistent = 0;
  for (int i = 0; i < 25; ++i) {
    const auto report = try_take(*store);
    ASSERT_TRUE(report.has_value()) << report.error().message;
    RestoreOptions to = restore_options();
    to.state_dir = scratch_ / ("out" + std::to_string(i));
    ASSERT_TRUE(restore_latest(*store, to).has_value());
    EXPECT_EQ(tree_of(to.state_dir).size(), 1U) << "side files must be left out";
    const std::string copy = to.state_dir + "/memory.db";
    EXPECT_EQ(*check_sqlite(copy), "");
    const Database db = open_database(copy);
    const int64_t count = query_int(db.get(), "SELECT n FROM c");
    EXPECT_GE(count, last);
    last = count;
    consistent += count == query_int(db.get(), "SELECT n FROM d") ? 1 : 0;
    std::filesystem::remove_all(to.state_dir);
  }
  EXPECT_EQ(consistent, 25);
  EXPECT_GT(last, 50) << "the writer must have got its turn";
  ::kill(writer, SIGKILL);
  ::waitpid(writer, nullptr, 0);
}
INSTANTIATE_TEST_SUITE_P(, LiveWriter, testing::Values("WAL", "DELETE"),
                         [](const auto& param_info) { return std::string(param_info.param); });

TEST_F(SqliteTest, AnUnchangedDatabaseIsNotReadAgain) {
  make_database("WAL", 100);
  const Database held = open_database(db_path_);  // keeps -wal and -shm alive
  query_int(held.get(), "SELECT count(*) FROM a");
  const auto store = open_store();
  take(*store);
  const CaptureReport second = take(*store);
  EXPECT_EQ(second.files_read, 0U);
  EXPECT_EQ(second.snapshot.record.added_bytes, 0U);
  execute(held.get(), "INSERT INTO b DEFAULT VALUES");  // goes to the -wal only
  EXPECT_EQ(take(*store).files_read, 1U);
}

TEST_F(SqliteTest, TakingLeavesTheStateAsItIs) {
  make_database("WAL", 100);
  // A writer that dies without closing leaves its -wal behind.
  const pid_t pid = ::fork();
  if (pid == 0) {
    const Database db = open_database(db_path_);
    execute(db.get(), "INSERT INTO b DEFAULT VALUES");
    ::_exit(0);
  }
  ::waitpid(pid, nullptr, 0);
  ASSERT_TRUE(std::filesystem::exists(db_path_ + "-wal"));
  auto before = tree_of(state_);
  take(*open_store());
  ASSERT_TRUE(check_state(*open_store(), state_, {}, real_file_system()).has_value());
  auto after = tree_of(state_);
  before.erase("memory.db-shm");
  after.erase("memory.db-shm");
  EXPECT_EQ(after, before);
}

TEST_F(SqliteTest, ADamagedDatabaseIsNeverTakenAndIsFoundByTheCheck) {
  make_database("DELETE", 500);
  const auto store = open_store();
  take(*store);
  const std::string good = read_file(db_path_);
  const auto problem = [&] {
    const auto verdict = check_state(*store, state_, {}, real_file_system());
    EXPECT_TRUE(verdict.has_value()) << verdict.error().message;
    return verdict ? verdict->problem : "";
  };
  EXPECT_EQ(problem(), "");
  std::vector<std::string> damages;
  damages.push_back(good.substr(0, good.size() / 2));                 // cut
  damages.push_back(std::string(100, '\0') + good.substr(100));       // header gone
  damages.push_back(good.substr(0, 8192) + std::string(40960, 'x') +  // pages overwritten
                    good.substr(8192 + 40960));
  damages.push_back(good.substr(0, 50));
  for (size_t i = 0; i < damages.size(); ++i) {
    write_file(db_path_, damages[i]);
    EXPECT_NE(problem().find("memory.db"), std::string::npos) << i << ": " << problem();
    const auto refused = try_take(*store);
    ASSERT_FALSE(refused.has_value()) << i;
    EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt) << refused.error().message;
  }
  EXPECT_EQ(store->list()->size(), 1U);
  CaptureOptions accepting = capture_options();
  accepting.accept_loss = true;
  for (size_t i = 0; i < damages.size(); ++i) {
    write_file(db_path_, damages[i]);
    const auto taken = take_snapshot(*store, {}, accepting);
    EXPECT_TRUE(taken.has_value()) << taken.error().message;
  }
}

TEST_F(SqliteTest, WithoutASnapshotOnlyADamagedDatabaseCounts) {
  make_database("DELETE", 500);
  const auto store = open_store();
  EXPECT_FALSE(check_state(*store, state_, {}, real_file_system())->damaged);
  std::filesystem::resize_file(db_path_, std::filesystem::file_size(db_path_) / 2);
  EXPECT_TRUE(check_state(*store, state_, {}, real_file_system())->damaged);
}

TEST_F(SqliteTest, AnEmptyFileOrALookalikeIsAnOrdinaryFile) {
  EXPECT_TRUE(is_sqlite_header(std::string_view("SQLite format 3\0", 16)));
  EXPECT_FALSE(is_sqlite_header("SQLite format 3"));
  write_file(state_ + "/x", "");
  write_file(state_ + "/x-wal", "not a write-ahead log");
  write_file(state_ + "/notes-journal", "no side file of anything");
  EXPECT_EQ(take(*open_store()).snapshot.record.file_count, 3U);
}

}  // namespace
}  // namespace remora::checkpoint
