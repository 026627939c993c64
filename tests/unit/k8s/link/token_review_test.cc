// Whose word a token is: what the API server says of it, asked once and in moderation.
#include "k8s/link/token_review.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_api_client.h"
#include "tests/fakes/fake_loop.h"

namespace remora::link {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using namespace std::chrono_literals;

Json review_of(const std::string& pod) {
  return {{"kind", "TokenReview"},
          {"status",
           {{"authenticated", true},
            {"audiences", {"remora.dev/link"}},
            {"user",
             {{"username", "system:serviceaccount:shop:default"},
              {"extra",
               {{"authentication.kubernetes.io/pod-name", {pod}},
                {"authentication.kubernetes.io/pod-uid", {"uid-" + pod}},
                {"authentication.kubernetes.io/node-name", {"n1"}}}}}}}}};
}

TEST(JudgeReviewTest, ATokenOfAPodIsThatPods) {
  const Result<PodClaims> claims = judge_review(review_of("a").dump());
  ASSERT_TRUE(claims) << claims.error().message;
  EXPECT_EQ(*claims, (PodClaims{"shop", "a", "uid-a", "n1"}));
}

TEST(JudgeReviewTest, WhateverElseTheServerSaysIsARefusalWithItsReason) {
  const auto why = [](const std::function<void(Json & status)>& change) {
    Json review = review_of("a");
    change(review["status"]);
    const Result<PodClaims> claims = judge_review(review.dump());
    if (claims) return std::string("taken");
    EXPECT_EQ(claims.error().code, ErrorCode::kPermission);
    return claims.error().message;
  };
  EXPECT_THAT(why([](Json& status) {
                status["authenticated"] = false;
                status["error"] = "expired";
              }),
              HasSubstr("expired"));
  EXPECT_THAT(why([](Json& status) { status.erase("authenticated"); }), HasSubstr("not valid"));
  EXPECT_THAT(why([](Json& status) { status["authenticated"] = "yes"; }), HasSubstr("not valid"));
  EXPECT_THAT(why([](Json& status) { status.erase("audiences"); }), HasSubstr("audience"));
  EXPECT_THAT(why([](Json& status) { status["audiences"] = {"https://kubernetes"}; }),
              HasSubstr("audience"));
  EXPECT_THAT(why([](Json& status) { status["user"]["username"] = "system:node:n1"; }),
              HasSubstr("service account"));
  EXPECT_THAT(why([](Json& status) { status["user"].erase("extra"); }), HasSubstr("no pod"));
  EXPECT_THAT(why([](Json& status) {
                status["user"]["extra"]["authentication.kubernetes.io/pod-uid"] = {"x", "y"};
              }),
              HasSubstr("no pod"));
}

TEST(JudgeReviewTest, WhatIsNoReviewSaysNothingOfTheToken) {
  for (const char* text : {"", "{}", "[1]", "null", R"({"status":3})", "{"}) {
    const Result<PodClaims> claims = judge_review(text);
    ASSERT_FALSE(claims) << text;
    EXPECT_EQ(claims.error().code, ErrorCode::kProtocol) << text;
  }
}

TEST(BearerTokenTest, OnlyThatSchemeAndNothingHuge) {
  EXPECT_EQ(bearer_token("Bearer abc"), "abc");
  EXPECT_EQ(bearer_token("Basic abc"), "");
  EXPECT_EQ(bearer_token(""), "");
  EXPECT_EQ(bearer_token("Bearer " + std::string(token_bytes_max + 1, 'x')), "");
}

class TokenReviewerTest : public testing::Test {
 protected:
  std::vector<Result<PodClaims>>& ask(const std::string& token) {
    reviewer_.review(token, [this](const Result<PodClaims>& claims) { heard_.push_back(claims); });
    return heard_;
  }
  void answer_all(int status, const std::string& body) {
    loop_.run_ready();
    for (auto* pending : client_.pending()) client_.reply(pending, status, body);
  }
  FakeLoop loop_;
  k8s::FakeApiClient client_{loop_};
  TokenReviewer reviewer_{loop_, client_};
  std::vector<Result<PodClaims>> heard_;
};

TEST_F(TokenReviewerTest, OneQuestionForATokenThatComesOftenAndAnotherWhenItIsOld) {
  ask("t");
  ask("t");
  answer_all(201, review_of("a").dump());
  ASSERT_EQ(heard_.size(), 2u);
  ask("t");
  ASSERT_EQ(heard_.size(), 3u) << "from what is known, at once";
  EXPECT_EQ(reviewer_.asked(), 1u);
  loop_.run_for(std::chrono::milliseconds(review_kept_ms));
  ask("t");
  EXPECT_EQ(reviewer_.asked(), 2u);
}

TEST_F(TokenReviewerTest, ARefusalIsKeptForAShortWhileAndAFailureNotAtAll) {
  ask("bad");
  answer_all(201, R"({"status":{"authenticated":false}})");
  ASSERT_EQ(heard_.at(0).error().code, ErrorCode::kPermission);
  ask("bad");
  EXPECT_EQ(reviewer_.asked(), 1u);
  ask("t");
  answer_all(500, "{}");
  EXPECT_EQ(heard_.back().error().code, ErrorCode::kUnavailable);
  ask("t");
  EXPECT_EQ(reviewer_.asked(), 3u);
}

TEST_F(TokenReviewerTest, ARushIsAskedAboutAFewAtATimeAndPastTheLimitSentAway) {
  const size_t all = reviews_under_way_max + reviews_waiting_max + 5;
  for (size_t i = 0; i < all; ++i) ask("t" + std::to_string(i));
  EXPECT_EQ(client_.pending().size(), reviews_under_way_max);
  ASSERT_EQ(heard_.size(), 5u);
  EXPECT_EQ(heard_.at(0).error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(heard_.at(0).error().retryable);
  answer_all(201, review_of("a").dump());
  EXPECT_EQ(client_.pending().size(), reviews_under_way_max) << "the next ones";
  EXPECT_EQ(heard_.size(), 5u + reviews_under_way_max);
}

}  // namespace
}  // namespace remora::link
