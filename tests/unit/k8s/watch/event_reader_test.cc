// Events of a watch from bytes that are cut anywhere.
#include "k8s/watch/event_reader.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::k8s {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;

struct Reading {
  EventReader reader;
  std::vector<std::string> events;
  bool more = true;

  Result<void> feed(std::string_view bytes) {
    return reader.feed(bytes, [this](EventType type, Json& object) {
      events.push_back(std::to_string(static_cast<int>(type)) + object.dump());
      return more;
    });
  }
};

constexpr std::string_view two =
    "{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n"
    "\n{\"type\":\"DELETED\",\"object\":{\"b\":\"{[\\\"\"}}\r\n";

TEST(EventReaderTest, EventsAreTheSameHoweverTheBytesAreCut) {
  for (size_t piece = 1; piece <= two.size(); ++piece) {
    Reading reading;
    for (size_t at = 0; at < two.size(); at += piece) {
      ASSERT_TRUE(reading.feed(two.substr(at, piece)).has_value());
    }
    EXPECT_THAT(reading.events, ElementsAre("0{\"a\":1}", "2{\"b\":\"{[\\\"\"}")) << piece;
  }
}

TEST(EventReaderTest, AnEventThatIsNotWholeWaits) {
  Reading reading;
  ASSERT_TRUE(reading.feed(R"({"type":"BOOKMARK","object":{}})").has_value());
  EXPECT_TRUE(reading.events.empty());
  ASSERT_TRUE(reading.feed("\n").has_value());
  EXPECT_THAT(reading.events, ElementsAre("3{}"));
}

TEST(EventReaderTest, TheReceiverMayStop) {
  Reading reading;
  reading.more = false;
  ASSERT_TRUE(reading.feed(two).has_value());
  EXPECT_EQ(reading.events.size(), 1u);
}

TEST(EventReaderTest, WhatIsNoEventIsAnError) {
  for (const char* bad : {"nonsense\n", "[]\n", "{}\n", "{\"type\":\"NEW\",\"object\":{}}\n",
                          "{\"type\":5,\"object\":{}}\n", "{\"type\":\"ADDED\"}\n",
                          "{\"type\":\"ADDED\",\"object\":[]}\n"}) {
    Reading reading;
    const Result<void> result = reading.feed(bad);
    ASSERT_FALSE(result.has_value()) << bad;
    EXPECT_EQ(result.error().code, ErrorCode::kProtocol);
  }
}

TEST(EventReaderTest, SizeAndDepthHaveLimits) {
  Reading large;
  EXPECT_EQ(large.feed(std::string(watch_event_bytes_max + 1, ' ')).error().code,
            ErrorCode::kLimitExceeded);
  const std::string deep(100'000, '[');
  Reading nested;
  EXPECT_EQ(nested.feed("{\"type\":\"ADDED\",\"object\":{\"a\":" + deep + "\n").error().code,
            ErrorCode::kLimitExceeded);
  const std::string text = "{\"type\":\"ADDED\",\"object\":{\"a\":\"" + deep + "\"}}\n";
  Reading brackets_in_text;
  EXPECT_TRUE(brackets_in_text.feed(text).has_value());
}

}  // namespace
}  // namespace remora::k8s
