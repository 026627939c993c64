// Reading collections page by page, and base64.
#include "k8s/api/list.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/api/base64.h"
#include "tests/unit/k8s/api/fake_api.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PagedListTest : public testing::Test {
 protected:
  Result<void> read(FakeApi& api, const std::string& path) {
    auto client = ApiClient::create(runner_.loop(), api.server());
    std::optional<Result<void>> result;
    const PagedList list(
        **client, path,
        [this](const nlohmann::ordered_json& item) { items_.push_back(item.dump()); },
        [&](Result<void> ended) { result = std::move(ended); });
    EXPECT_TRUE(runner_.run_until([&] { return result.has_value(); }));
    return *result;
  }
  static std::string line(const std::string& request) {
    return request.substr(0, request.find(" HTTP"));
  }

  LoopRunner runner_;
  std::vector<std::string> items_;
};

TEST_F(PagedListTest, FollowsTheTokenToTheEnd) {
  int page = 0;
  FakeApi api(runner_.loop(), [&](const std::string&) {
    return ++page == 1 ? FakeApi::json(200, R"({"metadata":{"continue":"a+b/c="},"items":[1,2]})")
                       : FakeApi::json(200, R"({"metadata":{},"items":[3]})");
  });
  ASSERT_TRUE(read(api, "/pods?labelSelector=x").has_value());
  EXPECT_THAT(items_, ElementsAre("1", "2", "3"));
  ASSERT_EQ(api.requests().size(), 2u);
  EXPECT_EQ(line(api.requests()[0]), "GET /pods?labelSelector=x&limit=100");
  EXPECT_EQ(line(api.requests()[1]), "GET /pods?labelSelector=x&limit=100&continue=a%2Bb%2Fc%3D");
}

TEST_F(PagedListTest, AnEmptyListMayBeNull) {
  FakeApi api(runner_.loop(), [](const std::string&) {
    return FakeApi::json(200, R"({"metadata":{},"items":null})");
  });
  ASSERT_TRUE(read(api, "/pods").has_value());
  EXPECT_TRUE(items_.empty());
}

TEST_F(PagedListTest, APageThatIsTooLargeIsAskedForInSmallerOnes) {
  FakeApi api(runner_.loop(), [&](const std::string& request) {
    if (request.find("limit=100") != std::string::npos) {
      return FakeApi::json(200, std::string(api_reply_bytes_max + 1, ' '));
    }
    return FakeApi::json(200, R"({"metadata":{},"items":[1]})");
  });
  ASSERT_TRUE(read(api, "/pods").has_value());
  EXPECT_THAT(items_, ElementsAre("1"));
  EXPECT_EQ(line(api.requests()[1]), "GET /pods?limit=25");
}

TEST_F(PagedListTest, WhatIsNoListIsAnError) {
  const std::pair<std::string, ErrorCode> cases[] = {
      {FakeApi::json(410, R"({"message":"the token is too old"})"), ErrorCode::kInvalidArgument},
      {FakeApi::json(403, R"({"message":"forbidden"})"), ErrorCode::kPermission},
      {FakeApi::json(200, "nonsense"), ErrorCode::kProtocol},
      {FakeApi::json(200, "[]"), ErrorCode::kProtocol},
      {FakeApi::json(200, R"({"metadata":{},"items":{"a":1}})"), ErrorCode::kProtocol},
      {FakeApi::json(200, R"({"items":[]})"), ErrorCode::kProtocol}};
  for (const auto& [answer, code] : cases) {
    FakeApi api(runner_.loop(), [&](const std::string&) { return answer; });
    const Result<void> result = read(api, "/pods");
    ASSERT_FALSE(result.has_value()) << answer;
    EXPECT_EQ(result.error().code, code) << answer;
    EXPECT_THAT(result.error().message, HasSubstr("/pods?limit="));
  }
}

TEST(Base64Test, BothWays) {
  for (const std::string& bytes : {std::string(), std::string("f"), std::string("fo"),
                                   std::string("foo"), std::string("\0\xff\x80\n", 4)}) {
    EXPECT_EQ(base64_decode(base64_encode(bytes)).value(), bytes);
  }
  EXPECT_EQ(base64_encode("foob"), "Zm9vYg==");
  for (const char* bad : {"Z", "Zm9", "Zm9v\n", "Zm=v", "====", "Zm9vYg=", "Zm9vY\x80=="}) {
    EXPECT_FALSE(base64_decode(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace remora::k8s
