// The API client over TLS and HTTP/2: one connection, many streams, and what happens when the
// server drains, throttles, falls silent or goes away.
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "k8s/api/client.h"
#include "tests/unit/k8s/api/fake_h2_api.h"
#include "tests/unit/net/recording_transport_events.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;

class ApiClientH2Test : public testing::Test {
 protected:
  struct Answered {
    std::unique_ptr<ApiCall> call;
    std::optional<Result<ApiReply>> reply;
    std::string data;
  };
  ApiClientH2Test() : api_(runner_.loop()), client_(connect(api_.server())) {}

  std::unique_ptr<ApiClient> connect(ApiServer server) {
    auto client = ApiClient::create(runner_.loop(), std::move(server));
    EXPECT_TRUE(client.has_value()) << client.error().message;
    return std::move(*client);
  }
  std::unique_ptr<Answered> ask(ApiRequest request) {
    auto answered = std::make_unique<Answered>();
    answered->call =
        client_->call(std::move(request), [a = answered.get()](Result<ApiReply> received) {
          EXPECT_FALSE(a->reply) << "answered twice";
          a->reply = std::move(received);
        });
    return answered;
  }
  std::unique_ptr<Answered> watch(const std::string& path) {
    auto answered = std::make_unique<Answered>();
    answered->call = client_->stream(
        {.path = path}, [a = answered.get()](std::string_view bytes) { a->data += bytes; },
        [a = answered.get()](Result<ApiReply> received) { a->reply = std::move(received); });
    return answered;
  }
  bool done(const Answered& answered) {
    return runner_.run_until([&] { return answered.reply.has_value(); });
  }

  LoopRunner runner_;
  FakeH2Api api_;
  std::unique_ptr<ApiClient> client_;
};

TEST_F(ApiClientH2Test, ManyCallsShareOneConnectionAndAreAnsweredInAnyOrder) {
  std::vector<std::unique_ptr<Answered>> calls;
  for (int i = 0; i < 100; ++i) calls.push_back(ask({.path = "/x/" + std::to_string(i)}));
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 100; }));
  for (size_t i = 100; i-- > 0;) api_.asked[i].respond(200, api_.asked[i].path);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(done(*calls[i]));
    EXPECT_EQ((*calls[i]->reply)->body, "/x/" + std::to_string(i));
  }
  EXPECT_EQ(api_.links.size(), 1u);
  EXPECT_EQ(client_->stats().connections, 1u);
}

TEST_F(ApiClientH2Test, CallsBeyondTheStreamsThatFitWait) {
  api_.answer = [](const FakeH2Api::Asked& asked) { asked.respond(200, asked.body); };
  std::vector<std::unique_ptr<Answered>> calls;
  for (int i = 0; i < 1000; ++i) {
    calls.push_back(ask({.method = "POST", .path = "/x", .body = std::to_string(i)}));
  }
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(done(*calls[i]));
    ASSERT_TRUE(calls[i]->reply->has_value()) << calls[i]->reply->error().message;
    EXPECT_EQ((*calls[i]->reply)->body, std::to_string(i));
  }
  EXPECT_EQ(api_.links.size(), 1u);
}

TEST_F(ApiClientH2Test, ALargeBodyGoesBothWays) {
  api_.answer = [](const FakeH2Api::Asked& asked) { asked.respond(200, asked.body); };
  const std::string body(3'000'000, 'b');
  const auto call = ask({.method = "PUT", .path = "/x", .body = body});
  ASSERT_TRUE(done(*call));
  EXPECT_EQ((*call->reply)->body, body);
}

TEST_F(ApiClientH2Test, AWatchDeliversWhatComesAndOtherCallsDoNotWaitForIt) {
  const auto stream = watch("/pods?watch=1");
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 1; }));
  api_.asked[0].begin(200);
  api_.asked[0].send("one\n");
  ASSERT_TRUE(runner_.run_until([&] { return stream->data == "one\n"; }));
  const auto call = ask({.path = "/version"});
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 2; }));
  api_.asked[1].respond(200, "{}");
  ASSERT_TRUE(done(*call));
  EXPECT_FALSE(stream->reply);
  api_.asked[0].send("two\n", true);
  ASSERT_TRUE(done(*stream));
  EXPECT_EQ(stream->data, "one\ntwo\n");
  EXPECT_TRUE((*stream->reply)->body.empty());
  EXPECT_EQ(api_.links.size(), 1u);
}

TEST_F(ApiClientH2Test, ARefusedWatchSaysWhy) {
  api_.answer = [](const FakeH2Api::Asked& asked) {
    asked.respond(410, R"({"reason":"Expired","message":"too old"})");
  };
  const auto stream = watch("/pods?watch=1");
  ASSERT_TRUE(done(*stream));
  EXPECT_EQ(stream->data, "");
  const ApiProblem problem = api_problem({.path = "/pods"}, **stream->reply);
  EXPECT_EQ(problem.fault, ApiFault::kGone);
  EXPECT_EQ(problem.reason, "Expired");
}

TEST_F(ApiClientH2Test, AnAbandonedStreamIsResetAndItsNeighboursLive) {
  auto first = watch("/a");
  const auto second = watch("/b");
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 2; }));
  for (const auto& asked : api_.asked) asked.begin(200);
  first->call.reset();
  ASSERT_TRUE(runner_.run_until([&] { return !api_.given_up.empty(); }));
  EXPECT_THAT(api_.given_up, ElementsAre("/a"));
  api_.asked[1].send("still here", true);
  ASSERT_TRUE(done(*second));
  EXPECT_EQ(second->data, "still here");
  EXPECT_FALSE(first->reply);
}

TEST_F(ApiClientH2Test, AWatchMayBeAbandonedFromItsOwnData) {
  std::unique_ptr<ApiCall> call;
  int pieces = 0;
  call = client_->stream(
      {.path = "/a"},
      [&](std::string_view) {
        ++pieces;
        call.reset();
      },
      [](const Result<ApiReply>&) { ADD_FAILURE() << "answered after its end"; });
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 1; }));
  api_.asked[0].begin(200);
  api_.asked[0].send("one\n");
  ASSERT_TRUE(runner_.run_until([&] { return !api_.given_up.empty(); }));
  EXPECT_EQ(pieces, 1);
}

TEST_F(ApiClientH2Test, AfterGoawayTheOldStreamsFinishAndNewOnesGoElsewhere) {
  const auto stream = watch("/a");
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 1; }));
  api_.asked[0].begin(200);
  api_.links[0]->codec->start_drain();
  api_.links[0]->flush();
  runner_.run_for(20ms);
  const auto call = ask({.path = "/version"});
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 2; }));
  EXPECT_EQ(api_.links.size(), 2u);
  EXPECT_EQ(api_.asked[1].link, api_.links[1].get());
  api_.asked[1].respond(200, "{}");
  ASSERT_TRUE(done(*call));
  api_.asked[0].send("late", true);
  ASSERT_TRUE(done(*stream));
  EXPECT_EQ(stream->data, "late");
}

TEST_F(ApiClientH2Test, WhenTheServerGoesAwayStreamsFailAtOnceAndTheNextCallConnectsAnew) {
  const auto stream = watch("/a");
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 1; }));
  api_.asked[0].begin(200);
  runner_.run_for(5ms);
  api_.stop();
  ASSERT_TRUE(done(*stream));
  ASSERT_FALSE(stream->reply->has_value());
  EXPECT_TRUE(stream->reply->error().retryable);
  const auto refused = ask({.path = "/version"});
  ASSERT_TRUE(done(*refused));
  EXPECT_EQ(refused->reply->error().code, ErrorCode::kUnavailable);
  api_.start();
  api_.answer = [](const FakeH2Api::Asked& asked) { asked.respond(200, "{}"); };
  const auto call = ask({.path = "/version"});
  ASSERT_TRUE(done(*call));
  EXPECT_TRUE(call->reply->has_value());
}

TEST_F(ApiClientH2Test, AReadOnAKeptConnectionThatIsGoneIsAskedAgainAndAWriteIsNot) {
  api_.answer = [](const FakeH2Api::Asked& asked) { asked.respond(200, "{}"); };
  const auto first = ask({.path = "/version"});
  ASSERT_TRUE(done(*first));
  api_.answer = [&](const FakeH2Api::Asked& asked) {
    api_.answer = [](const FakeH2Api::Asked& again) { again.respond(200, "again"); };
    asked.link->close();
  };
  const auto read = ask({.path = "/version"});
  ASSERT_TRUE(done(*read));
  ASSERT_TRUE(read->reply->has_value()) << read->reply->error().message;
  EXPECT_EQ((*read->reply)->body, "again");
  api_.answer = [&](const FakeH2Api::Asked& asked) { asked.link->close(); };
  const auto write = ask({.method = "POST", .path = "/x", .body = "{}"});
  ASSERT_TRUE(done(*write));
  ASSERT_FALSE(write->reply->has_value());
  EXPECT_EQ(write->reply->error().code, ErrorCode::kReset);
}

TEST_F(ApiClientH2Test, AThrottledCallIsAskedAgainWhenTheServerSaysSo) {
  api_.answer = [&](const FakeH2Api::Asked& asked) {
    if (api_.asked.size() == 1) return asked.respond(429, "{}", {{"retry-after", "1"}});
    asked.respond(200, "now");
  };
  const MonotonicTime began = runner_.loop().clock().now();
  const auto call = ask({.method = "POST", .path = "/x", .body = "{}"});
  ASSERT_TRUE(done(*call));
  EXPECT_EQ((*call->reply)->body, "now");
  EXPECT_GE(runner_.loop().clock().now() - began, 1s);
  EXPECT_EQ(client_->stats().throttled, 1u);
}

TEST_F(ApiClientH2Test, WhoDoesNotWantToWaitIsToldHowLongItWouldTake) {
  api_.answer = [](const FakeH2Api::Asked& asked) {
    asked.respond(429, R"({"message":"later"})", {{"retry-after", "7"}});
  };
  const auto call = ask({.method = "POST", .path = "/x", .body = "{}", .retry_throttled = false});
  ASSERT_TRUE(done(*call));
  const ApiProblem problem = api_problem({.method = "POST", .path = "/x"}, **call->reply);
  EXPECT_EQ(problem.fault, ApiFault::kThrottled);
  EXPECT_EQ(problem.retry_after, 7s);
  // Nor does one whose own time ends before.
  const auto hasty = ask({.path = "/x", .answer_ms_max = 5'000});
  ASSERT_TRUE(done(*hasty));
  EXPECT_EQ((*hasty->reply)->status, 429);
}

TEST_F(ApiClientH2Test, TheRightToSendIsLookedAtWhenItIsSentAndNotBefore) {
  bool may_send = true;
  const auto call =
      ask({.method = "PUT", .path = "/x", .body = "{}", .may_send = [&] { return may_send; }});
  may_send = false;  // the connection is still being made
  ASSERT_TRUE(done(*call));
  ASSERT_FALSE(call->reply->has_value());
  EXPECT_EQ(call->reply->error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(call->reply->error().retryable);
  EXPECT_TRUE(api_.asked.empty());
}

TEST_F(ApiClientH2Test, TheTokenIsReadForEachRequestOnTheSameConnection) {
  api_.answer = [](const FakeH2Api::Asked& asked) { asked.respond(200, "{}"); };
  ApiServer server = api_.server();
  server.token_file = testing::TempDir() + "remora_h2_token_" + std::to_string(::getpid());
  client_ = connect(server);
  for (const char* token : {"first", "second"}) {
    std::ofstream(server.token_file) << token << "\n";
    const auto call = ask({.path = "/x"});
    ASSERT_TRUE(done(*call));
    EXPECT_EQ(api_.asked.back().authorization, std::string("Bearer ") + token);
  }
  EXPECT_EQ(api_.links.size(), 1u);
  ::unlink(server.token_file.c_str());
}

TEST_F(ApiClientH2Test, ACallThatIsNotAnsweredEndsAndIsReset) {
  const auto call = ask({.path = "/x", .answer_ms_max = 50});
  ASSERT_TRUE(done(*call));
  EXPECT_EQ(call->reply->error().code, ErrorCode::kTimeout);
  ASSERT_TRUE(runner_.run_until([&] { return !api_.given_up.empty(); }));
  EXPECT_EQ(api_.links.size(), 1u);
}

TEST_F(ApiClientH2Test, AnAnswerThatIsTooLargeIsGivenUp) {
  api_.answer = [](const FakeH2Api::Asked& asked) {
    asked.respond(200, std::string(api_reply_bytes_max + 1, 'x'));
  };
  const auto call = ask({.path = "/x"});
  ASSERT_TRUE(done(*call));
  EXPECT_EQ(call->reply->error().code, ErrorCode::kLimitExceeded);
}

TEST_F(ApiClientH2Test, AConnectionWhoseServerHasVanishedIsReplaced) {
  const auto stream = watch("/a");
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 1; }));
  api_.asked[0].begin(200);
  runner_.run_for(5ms);
  api_.links[0]->deaf = true;
  const MonotonicTime began = runner_.loop().clock().now();
  const auto call = ask({.path = "/x", .answer_ms_max = 50});
  ASSERT_TRUE(done(*call));
  EXPECT_EQ(call->reply->error().code, ErrorCode::kTimeout);
  // The call's time-out has made the client ask for a sign of life.
  ASSERT_TRUE(done(*stream));
  EXPECT_THAT(stream->reply->error().message, HasSubstr("no sign of life"));
  EXPECT_LT(runner_.loop().clock().now() - began, 19s);
  api_.answer = [](const FakeH2Api::Asked& asked) { asked.respond(200, "{}"); };
  const auto next = ask({.path = "/x"});
  ASSERT_TRUE(done(*next));
  EXPECT_TRUE(next->reply->has_value());
  EXPECT_EQ(api_.links.size(), 2u);
}

TEST_F(ApiClientH2Test, CallsMayOutliveTheirClient) {
  const auto waiting = ask({.path = "/x"});
  const auto sent = watch("/a");
  ASSERT_TRUE(runner_.run_until([&] { return api_.asked.size() == 2; }));
  client_.reset();
  runner_.run_for(20ms);
  EXPECT_FALSE(waiting->reply);
  EXPECT_FALSE(sent->reply);
}

TEST(ApiTargetTest, IsWhatAuthorisationSees) {
  struct Case {
    const char *method, *path, *verb, *group, *ns, *resource, *name;
  };
  const Case cases[] = {
      {"GET", "/api/v1/pods?limit=5", "list", "", "", "pods", ""},
      {"GET", "/api/v1/pods?watch=1&x=y", "watch", "", "", "pods", ""},
      {"GET", "/api/v1/namespaces/n", "get", "", "", "namespaces", "n"},
      {"GET", "/api/v1/namespaces", "list", "", "", "namespaces", ""},
      {"POST", "/api/v1/namespaces/n/pods/p/eviction", "create", "", "n", "pods/eviction", "p"},
      {"PATCH", "/apis/remora.dev/v1alpha1/namespaces/n/incidents/i/status", "patch", "remora.dev",
       "n", "incidents/status", "i"},
      {"PUT", "/apis/coordination.k8s.io/v1/namespaces/n/leases/l", "update", "coordination.k8s.io",
       "n", "leases", "l"},
      {"DELETE", "/api/v1/namespaces/n/pods", "deletecollection", "", "n", "pods", ""},
      {"DELETE", "/api/v1/namespaces/n/pods/p", "delete", "", "n", "pods", "p"},
      {"GET", "/version", "get", "", "", "", ""},
      {"GET", "/apis/x", "get", "", "", "", ""},
      {"GET", "", "get", "", "", "", ""},
  };
  for (const Case& c : cases) {
    const ApiTarget target = target_of(c.method, c.path);
    EXPECT_EQ(target.verb, c.verb) << c.path;
    EXPECT_EQ(target.group, c.group) << c.path;
    EXPECT_EQ(target.namespace_, c.ns) << c.path;
    EXPECT_EQ(target.resource, c.resource) << c.path;
    EXPECT_EQ(target.name, c.name) << c.path;
  }
}

TEST(ApiProblemTest, AForbiddenCallNamesTheRuleThatIsMissing) {
  const ApiRequest request{.method = "PATCH",
                           .path = "/apis/remora.dev/v1alpha1/namespaces/n/incidents/i/status?x=y"};
  const ApiProblem problem = api_problem(request, {403, R"({"message":"forbidden"})"});
  EXPECT_EQ(problem.fault, ApiFault::kForbidden);
  EXPECT_THAT(problem.error.message,
              HasSubstr("a Role in namespace n needs apiGroups [\"remora.dev\"], resources "
                        "[incidents/status], verbs [patch] for i"));
  const ApiProblem cluster = api_problem({.path = "/api/v1/pods"}, {403, "{}"});
  EXPECT_THAT(cluster.error.message,
              HasSubstr("a ClusterRole of this account needs apiGroups [\"\"], resources [pods], "
                        "verbs [list]"));
}

TEST(ApiProblemTest, AForbiddenApplyNamesTheVerbThatTheServerMissed) {
  const ApiRequest request{.method = "PATCH",
                           .path = "/apis/policy/v1/namespaces/n/poddisruptionbudgets/b"};
  const auto said = [&](const std::string& words) {
    const std::string body = R"({"message":"x is forbidden: User \"u\" )" + words + "\"}";
    return api_problem(request, {403, body}).error.message;
  };
  EXPECT_THAT(said(R"(cannot create resource \"poddisruptionbudgets\" in API group \"policy\")"),
              testing::EndsWith("resources [poddisruptionbudgets], verbs [create]"));
  EXPECT_THAT(said(R"(cannot patch resource \"poddisruptionbudgets\" in API group \"policy\")"),
              testing::EndsWith("verbs [patch] for b"));
  EXPECT_THAT(said(R"(cannot create resource \"pods\")"), testing::EndsWith("verbs [patch] for b"));
}

TEST(ApiProblemTest, EachStatusHasItsKind) {
  struct Case {
    const char* method;
    int status;
    const char* reason;
    ApiFault fault;
  };
  const Case cases[] = {
      {"PUT", 409, "Conflict", ApiFault::kConflict},
      {"POST", 409, "AlreadyExists", ApiFault::kAlreadyExists},
      {"POST", 409, "Conflict", ApiFault::kConflict},
      {"POST", 409, "", ApiFault::kAlreadyExists},
      {"GET", 410, "Expired", ApiFault::kGone},
      {"GET", 401, "Unauthorized", ApiFault::kUnauthorized},
      {"PATCH", 422, "Invalid", ApiFault::kInvalid},
      {"GET", 500, "InternalError", ApiFault::kUnavailable},
      {"GET", 504, "Timeout", ApiFault::kUnavailable},
  };
  for (const Case& c : cases) {
    const std::string body = std::string(R"({"reason":")") + c.reason + R"("})";
    EXPECT_EQ(api_problem({.method = c.method, .path = "/x"}, {c.status, body}).fault, c.fault)
        << c.method << c.status << c.reason;
  }
  EXPECT_EQ(api_problem({.path = "/x"}, {503, "{}", std::chrono::seconds(1)}).fault,
            ApiFault::kThrottled);
  EXPECT_EQ(api_problem({.path = "/x"}, {503, "{}"}).fault, ApiFault::kUnavailable);
}

TEST(ApiProblemTest, OfARefusedWriteOnlyWhatIsWrongIsSaid) {
  const ApiRequest patch{.method = "PATCH", .path = "/x"};
  const auto said = [&](Result<ApiReply> reply) { return refused_write(patch, reply).why; };
  EXPECT_EQ(said(make_error(ErrorCode::kCancelled, ErrorSource::kInternal, "the lead is over")),
            "");
  EXPECT_EQ(said(make_error(ErrorCode::kUnavailable, ErrorSource::kUpstream, "away")), "away");
  for (const int status : {404, 409}) EXPECT_EQ(said(ApiReply{status, "{}"}), "") << status;
  EXPECT_THAT(said(ApiReply{422, R"({"message":"spec.x is wrong"})"}),
              testing::HasSubstr("spec.x is wrong"));
  const RefusedWrite later = refused_write(patch, ApiReply{429, "{}", std::chrono::seconds(7)});
  EXPECT_NE(later.why, "");
  EXPECT_EQ(later.retry_after, std::chrono::seconds(7));
}

}  // namespace
}  // namespace remora::k8s
