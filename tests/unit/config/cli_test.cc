// `remora validate` from the command line.
#include "config/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "config/reference.h"

namespace remora::config {
namespace {

using testing::HasSubstr;

class ValidateCommandTest : public testing::Test {
 protected:
  ValidateCommandTest()
      : file_(testing::TempDir() + "remora_cli_test_" + std::to_string(::getpid()) + ".yaml") {}
  ~ValidateCommandTest() override { std::filesystem::remove(file_); }
  ValidateCommandTest(const ValidateCommandTest&) = delete;
  ValidateCommandTest& operator=(const ValidateCommandTest&) = delete;

  int run(std::vector<std::string> arguments) {
    CLI::App app("remora");
    int exit_code = -1;
    add_validate_command(app, exit_code);
    std::ranges::reverse(arguments);
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    app.parse(arguments);
    std::fflush(stdout);
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return exit_code;
  }
  void write(const std::string& text) const { std::ofstream(file_) << text; }

  std::string file_;
  std::string out_;
  std::string err_;
};

TEST_F(ValidateCommandTest, GoodFilesGive0) {
  write("log: {level: debug}\n");
  EXPECT_EQ(run({"validate", file_}), 0);
  EXPECT_EQ(out_, file_ + ": valid\n");
}

TEST_F(ValidateCommandTest, ProblemsGive1AndALineEach) {
  write("log: {level: loud}\nagnt: {}\n");
  EXPECT_EQ(run({"validate", file_}), 1);
  EXPECT_EQ(out_, file_ +
                      ":1:14: log.level: \"loud\" is not a choice; write debug, info, warn, error "
                      "or off\n" +
                      file_ + ":2:1: agnt: unknown key; did you mean agent?\n");
}

TEST_F(ValidateCommandTest, JsonHasTheSameProblems) {
  write("log: {level: loud}\nagnt: {}\n");
  EXPECT_EQ(run({"validate", file_, "--json"}), 1);
  const auto json = nlohmann::json::parse(out_);
  EXPECT_EQ(json["valid"], false);
  ASSERT_EQ(json["problems"].size(), 2u);
  EXPECT_EQ(json["problems"][1]["line"], 2);
  EXPECT_EQ(json["problems"][1]["path"], "agnt");
  EXPECT_EQ(json["problems"][1]["mend"], "did you mean agent?");
}

TEST_F(ValidateCommandTest, UnreadableFilesAndNoFileGive2) {
  EXPECT_EQ(run({"validate", "/nonexistent/x.yaml"}), 2);
  EXPECT_THAT(err_, HasSubstr("/nonexistent/x.yaml"));
  EXPECT_EQ(run({"validate"}), 2);
  EXPECT_THAT(err_, HasSubstr("remora validate FILE"));
}

TEST_F(ValidateCommandTest, SchemaPrintsTheReference) {
  EXPECT_EQ(run({"validate", "--schema"}), 0);
  EXPECT_EQ(out_, render_reference());
}

}  // namespace
}  // namespace remora::config
