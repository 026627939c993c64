// gRPC's framing, and the ends of its calls.
#include "k8s/link/frame.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/link/status.h"

namespace remora::link {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Heard {
  std::vector<std::string> messages;
  FrameReader::Message take() {
    return [this](std::string_view message) {
      messages.emplace_back(message);
      return true;
    };
  }
};

TEST(FrameTest, MessagesComeOutAsTheyWentInHoweverTheyAreCut) {
  const std::string bytes = frame_of("one") + frame_of("") + frame_of(std::string(70'000, 'x'));
  for (const size_t step : {size_t{1}, size_t{4}, size_t{5}, size_t{7}, bytes.size()}) {
    FrameReader reader;
    Heard heard;
    for (size_t at = 0; at < bytes.size(); at += step) {
      ASSERT_TRUE(reader.read(as_bytes(bytes.substr(at, step)), heard.take()));
    }
    EXPECT_THAT(heard.messages, ElementsAre("one", "", std::string(70'000, 'x'))) << step;
    EXPECT_FALSE(reader.in_message());
  }
}

TEST(FrameTest, WhatGrpcWritesIsWhatWeWrite) {
  EXPECT_EQ(frame_of("ab"), std::string("\0\0\0\0\2ab", 7));
}

TEST(FrameTest, TheReaderStopsWhereItIsToldTo) {
  FrameReader reader;
  Heard heard;
  const auto only_one = [&](std::string_view message) {
    heard.messages.emplace_back(message);
    return false;
  };
  ASSERT_TRUE(reader.read(as_bytes(frame_of("a") + frame_of("b")), only_one));
  EXPECT_THAT(heard.messages, ElementsAre("a"));
}

TEST(FrameTest, WhatIsTooLongOrCompressedOrNoMessageIsRefusedBeforeItIsKept) {
  const auto refused = [](std::string_view bytes) {
    FrameReader reader;
    Heard heard;
    const Result<void> read = reader.read(as_bytes(bytes), heard.take());
    EXPECT_THAT(heard.messages, IsEmpty());
    return read ? ErrorCode::kInternal : read.error().code;
  };
  EXPECT_EQ(refused(std::string_view("\0\xff\xff\xff\xff", 5)), ErrorCode::kLimitExceeded);
  EXPECT_EQ(refused(std::string_view("\0\0\x08\0\1", 5)), ErrorCode::kLimitExceeded);
  EXPECT_EQ(refused(std::string_view("\1\0\0\0\0", 5)), ErrorCode::kUnsupportedVersion);
  EXPECT_EQ(refused("GET / HTTP/1.1"), ErrorCode::kProtocol);
}

TEST(StatusTest, AMessageSurvivesItsField) {
  const std::string message = "100% of Größe\nnext";
  const std::string field = encoded_message(message);
  EXPECT_EQ(field.find('\n'), std::string::npos);
  EXPECT_EQ(decoded_message(field), message);
  EXPECT_EQ(decoded_message("50% off%2"), "50% off%2") << "what is not encoded stays";
}

TEST(StatusTest, ACodeIsANumber) {
  EXPECT_EQ(status_code_of("14"), 14);
  for (const char* text : {"", "-1", "1x", "12345", " 1"})
    EXPECT_FALSE(status_code_of(text)) << text;
  EXPECT_EQ(status_name(16), "UNAUTHENTICATED");
  EXPECT_EQ(status_name(9), "status 9");
}

}  // namespace
}  // namespace remora::link
