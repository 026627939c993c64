#include "checkpoint/cli.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "sidecar/base/exit_codes.h"
#include "tests/unit/checkpoint/checkpoint_fixture.h"

namespace remora::checkpoint {
namespace {

class CliTest : public CheckpointTest {
 protected:
  struct Outcome {
    int exit_code = -1;
    std::string out;
    std::string err;
  };
  Outcome run(std::vector<std::string> arguments) {
    CLI::App app("test");
    Outcome outcome;
    add_snapshot_commands(app, outcome.exit_code);
    arguments.insert(arguments.begin(), "snapshot");
    std::ranges::reverse(arguments);  // CLI11 takes them from the back
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    try {
      app.parse(arguments);
    } catch (const CLI::ParseError& error) {
      outcome.exit_code = exit_usage;
    }
    outcome.out = testing::internal::GetCapturedStdout();
    outcome.err = testing::internal::GetCapturedStderr();
    return outcome;
  }
  nlohmann::json run_json(std::vector<std::string> arguments) {
    arguments.push_back("--json");
    const Outcome outcome = run(std::move(arguments));
    EXPECT_EQ(outcome.exit_code, exit_ok) << outcome.err;
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }
  std::string take() {
    return run_json({"take", "--store", store_path_, "--state", state_}).value("id", "");
  }
};

TEST_F(CliTest, TheWholeRound) {
  write_file(state_ + "/f", "one");
  const std::string first = take();
  write_file(state_ + "/f", "two");
  const std::string second = take();
  const auto listed = run_json({"list", "--store", store_path_});
  ASSERT_EQ(listed["snapshots"].size(), 2U);
  EXPECT_EQ(listed["snapshots"][0]["id"], first);
  EXPECT_EQ(listed["snapshots"][1]["reason"], "manual");

  const auto shown = run_json({"show", "--store", store_path_, first});
  EXPECT_EQ(shown["entries"][1]["path"], "f");
  EXPECT_EQ(shown["entries"][1]["bytes"], 3);
  EXPECT_EQ(shown["entries"][1]["chunks"][0], sha256("one").hex());

  const auto verified = run_json({"verify", "--store", store_path_});
  EXPECT_EQ(verified["damaged"], false);
  EXPECT_EQ(verified["snapshots"].size(), 2U);

  const std::string other = scratch_ / "other";
  EXPECT_EQ(run({"restore", "--store", store_path_, "--to", other, first}).exit_code, exit_ok);
  EXPECT_EQ(read_file(other + "/f"), "one");
  EXPECT_EQ(run({"restore", "--store", store_path_, "--to", other}).exit_code, exit_failed);

  write_file(state_ + "/f", "broken");
  const auto restored = run_json({"restore", "--store", store_path_, "--state", state_});
  EXPECT_EQ(restored["id"], second);
  EXPECT_EQ(read_file(state_ + "/f"), "two");
  EXPECT_EQ(read_file(restored["set_aside"].get<std::string>() + "/f"), "broken");

  const auto pruned = run_json({"prune", "--store", store_path_, "--keep-last", "1"});
  EXPECT_EQ(pruned["removed_snapshots"][0], first);
  EXPECT_EQ(pruned["kept_snapshots"][0], second);
}

TEST_F(CliTest, TablesForPeople) {
  write_file(state_ + "/f\x1b[31m", "one");
  take();
  for (const char* command : {"list", "show", "verify", "prune"}) {
    const Outcome outcome = run({command, "--store", store_path_});
    EXPECT_EQ(outcome.exit_code, exit_ok) << command;
    EXPECT_FALSE(outcome.out.empty()) << command;
    EXPECT_EQ(outcome.out.find('\x1b'), std::string::npos) << "a terminal would obey";
  }
}

TEST_F(CliTest, ErrorsAreOneLineWithWhatToDo) {
  const auto one_line = [](const Outcome& outcome, int code, const std::string& hint) {
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    EXPECT_NE(outcome.err.find(hint), std::string::npos) << outcome.err;
    EXPECT_TRUE(outcome.out.empty());
  };
  one_line(run({"list", "--store", scratch_ / "nothing"}), exit_failed, "check --store");
  one_line(run({"take", "--store", store_path_, "--state", scratch_ / "no/dir"}), exit_failed,
           "--state");
  one_line(run({"take", "--store", store_path_, "--state", scratch_ / "mistyped"}), exit_failed,
           "check --state");
  EXPECT_FALSE(std::filesystem::exists(store_path_));
  one_line(run({"take", "--store", scratch_ / "no/dir", "--state", state_}), exit_failed,
           "No such file");
  write_file(state_ + "/f", "one");
  take();
  one_line(run({"show", "--store", store_path_, "zzz"}), exit_failed, "snapshot list");
  one_line(run({"restore", "--store", store_path_}), exit_usage, "--to DIR");
  std::filesystem::remove(state_ + "/f");
  one_line(run({"take", "--store", store_path_, "--state", state_}), exit_failed, "--accept-loss");
  EXPECT_EQ(run({"take", "--store", store_path_, "--state", state_, "--accept-loss"}).exit_code,
            exit_ok);
  EXPECT_EQ(run({"prune", "--store", store_path_, "--keep-last", "0"}).exit_code, exit_usage);
  EXPECT_EQ(run({"list"}).exit_code, exit_usage);
  EXPECT_EQ(run({}).exit_code, exit_usage);
  write_file(store_path_ + "/format", "remora snapshot store\nversion 7\n");
  one_line(run({"list", "--store", store_path_}), exit_newer_format, "use a newer remora");
}

TEST_F(CliTest, VerifyAnswersDamageWithItsOwnCode) {
  write_file(state_ + "/f", noise(10'000));
  const std::string id = take();
  for (const auto& entry : std::filesystem::directory_iterator(store_path_ + "/packs")) {
    std::string bytes = read_file(entry.path());
    bytes[5000] = static_cast<char>(bytes[5000] ^ 1);
    write_file(entry.path(), bytes);
  }
  const Outcome outcome = run({"verify", "--store", store_path_, "--json"});
  EXPECT_EQ(outcome.exit_code, exit_not_good);
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["damaged"], true);
  EXPECT_EQ(json["snapshots"][0]["id"], id);
  EXPECT_EQ(json["snapshots"][0]["intact"], false);
  EXPECT_EQ(json["damaged_chunks"].size(), 1U);
  EXPECT_EQ(run({"restore", "--store", store_path_, "--to", scratch_ / "out"}).exit_code,
            exit_failed);
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "out"));
}

// A sidecar that owns the store keeps it when somebody takes a snapshot by hand.
TEST_F(CliTest, TakingByHandDoesNotFenceTheSidecar) {
  write_file(state_ + "/f", "one");
  const auto store = open_store();
  const Epoch sidecar = *store->claim_epoch("");
  take();
  EXPECT_TRUE(take_snapshot(*store, sidecar, capture_options()).has_value());
}

}  // namespace
}  // namespace remora::checkpoint
