// From the agent's bytes to lines: whatever it prints, lines are bounded and nothing is lost.
#include "sidecar/local/agent_output.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/fakes/fake_loop.h"

namespace remora {
namespace {

std::vector<std::string> split(std::initializer_list<std::string_view> pieces) {
  std::vector<std::string> lines;
  LineSplitter splitter([&lines](std::string_view line) { lines.emplace_back(line); });
  for (const std::string_view piece : pieces) splitter.append(piece);
  splitter.finish();
  return lines;
}

using Lines = std::vector<std::string>;

TEST(LineSplitter, GivesLinesWithoutTheirEnds) {
  EXPECT_EQ(split({"one\ntwo\r\n\nfour"}), (Lines{"one", "two", "", "four"}));
}

TEST(LineSplitter, JoinsLinesThatComeInPieces) {
  EXPECT_EQ(split({"o", "ne\nt", "wo", "\n"}), (Lines{"one", "two"}));
}

TEST(LineSplitter, GivesNothingForNoBytes) { EXPECT_EQ(split({"", ""}), Lines{}); }

TEST(LineSplitter, KeepsALineOfExactlyTheLimitWhole) {
  const std::string line(agent_output_line_bytes_max, 'x');
  EXPECT_EQ(split({line + "\nnext\n"}), (Lines{line, "next"}));
}

TEST(LineSplitter, CutsALongLineIntoPiecesOfTheLimit) {
  const std::string line(2 * agent_output_line_bytes_max + 5, 'x');
  const Lines lines = split({line, "\n"});
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].size(), agent_output_line_bytes_max);
  EXPECT_EQ(lines[1].size(), agent_output_line_bytes_max);
  EXPECT_EQ(lines[0] + lines[1] + lines[2], line);
}

TEST(LineSplitter, CutsBetweenCharactersNotInsideOne) {
  std::string line(agent_output_line_bytes_max - 1, 'x');
  line +=
      "\u20ac"
      "tail";  // three bytes across the limit
  const Lines lines = split({line});
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0], std::string(agent_output_line_bytes_max - 1, 'x'));
  EXPECT_EQ(lines[1],
            "\u20ac"
            "tail");
}

TEST(LineSplitter, CutsBytesThatAreNoTextAtTheLimit) {
  const std::string line(agent_output_line_bytes_max + 10, '\x80');
  const Lines lines = split({line});
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].size(), agent_output_line_bytes_max);
  EXPECT_EQ(lines[1].size(), 10u);
}

TEST(LogTail, KeepsTheNewestWholeLines) {
  LogTail tail(20);
  for (int i = 0; i < 100; ++i) tail.append("line " + std::to_string(i));
  EXPECT_EQ(tail.text(), "line 98\nline 99\n");
}

TEST(LogTail, KeepsALineThatFitsExactly) {
  LogTail tail(8);
  tail.append("old");
  tail.append("seven c");
  EXPECT_EQ(tail.text(), "seven c\n");
}

TEST(LogTail, KeepsNothingWhenTold) {
  LogTail tail(0);
  tail.append("secret");
  EXPECT_EQ(tail.text(), "");
}

TEST(LogTail, StaysWithinItsBytesForLinesOfAnyLength) {
  LogTail tail(100);
  for (size_t length = 0; length < 300; length += 7) {
    tail.append(std::string(length, 'x'));
    EXPECT_LE(tail.text().size(), 100u);
  }
}

class OutputPipeTest : public ::testing::Test {
 protected:
  OutputPipeTest() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    read_fd_ = ends[0];
    writer_.reset(ends[1]);
    pipe_ = std::make_unique<OutputPipe>(
        loop_, UniqueFd(ends[0]), [this](std::string_view line) { lines_.emplace_back(line); });
  }
  void write(std::string_view text) {
    ASSERT_EQ(::write(writer_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  FakeLoop loop_;
  int read_fd_ = -1;
  UniqueFd writer_;
  Lines lines_;
  std::unique_ptr<OutputPipe> pipe_;
};

TEST_F(OutputPipeTest, ReadsABoundedPieceEachTime) {
  const std::string line(1023, 'x');
  for (int i = 0; i < 48; ++i) write(line + "\n");  // 48 KiB
  ASSERT_TRUE(loop_.fire_fd(read_fd_, FdEvents::kRead));
  EXPECT_EQ(lines_.size(), agent_output_read_bytes_max / 1024);
  ASSERT_TRUE(loop_.fire_fd(read_fd_, FdEvents::kRead));
  EXPECT_EQ(lines_.size(), 2 * agent_output_read_bytes_max / 1024);
}

TEST_F(OutputPipeTest, GivesTheLastLineAtTheEndOfTheStream) {
  write("no line end");
  writer_.reset();
  loop_.fire_fd(read_fd_, FdEvents::kRead);
  EXPECT_TRUE(lines_.empty());
  loop_.fire_fd(read_fd_, FdEvents::kRead);
  EXPECT_EQ(lines_, Lines{"no line end"});
  EXPECT_FALSE(loop_.fire_fd(read_fd_, FdEvents::kRead)) << "still watched";
}

TEST_F(OutputPipeTest, FinishTakesWhatIsLeftAlthoughAWriterRemains) {
  write("one\ntwo");
  pipe_->finish();
  EXPECT_EQ(lines_, (Lines{"one", "two"}));
}

}  // namespace
}  // namespace remora
