// Loading in a child process gives what loading here gives.
#include "config/isolated_load.h"

#include <cerrno>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "config/render.h"

namespace remora::config {
namespace {

const std::string example = std::string(REMORA_SOURCE_DIR) + "/config/examples/stateful-agent.yaml";

TEST(IsolatedLoadTest, GivesTheSameAsLoadingHere) {
  const Result<LoadResult> here = load_file(example);
  const Result<IsolatedLoad> there = load_isolated(example);
  ASSERT_TRUE(here.has_value() && there.has_value());
  ASSERT_TRUE(there->ok());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(here->config, there->config));
  EXPECT_EQ(there->yaml, render_yaml(here->config));
  EXPECT_EQ(there->json, render_json(here->config));
}

TEST(IsolatedLoadTest, OverridesAndProblemsComeThrough) {
  const std::vector<Override> good = {{"agent.appPort", {"9000"}, "--app-port"}};
  const Result<IsolatedLoad> loaded = load_isolated("", good);
  ASSERT_TRUE(loaded.has_value() && loaded->ok());
  EXPECT_EQ(loaded->config.agent().app_port(), 9000);

  const std::vector<Override> bad = {{"agent.appPort", {"x"}, "--app-port"}};
  const Result<IsolatedLoad> refused = load_isolated(example, bad);
  ASSERT_TRUE(refused.has_value());
  ASSERT_FALSE(refused->ok());
  EXPECT_EQ(format_problem(refused->problems[0]),
            format_problem(load_file(example, bad)->problems[0]));
  EXPECT_EQ(refused->yaml, "");
}

TEST(IsolatedLoadTest, UnreadableFilesAreTheSameErrors) {
  const Result<IsolatedLoad> loaded = load_isolated("/nonexistent/remora.yaml");
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(loaded.error().message, load_file("/nonexistent/remora.yaml").error().message);
}

TEST(IsolatedLoadTest, LeavesNoChildBehind) {
  ASSERT_TRUE(load_isolated("").has_value());
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

}  // namespace
}  // namespace remora::config
