// The cache in virtual time: lists, watches, and everything that ends them.
#include "k8s/watch/object_cache.h"

#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_api_client.h"
#include "tests/fakes/fake_loop.h"

namespace remora::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;
using namespace std::chrono_literals;
using Json = nlohmann::ordered_json;

Json thing(const std::string& name, int version, const std::string& uid = "") {
  return {{"metadata",
           {{"namespace", "n"},
            {"name", name},
            {"uid", uid.empty() ? "uid-" + name : uid},
            {"resourceVersion", std::to_string(version)},
            {"managedFields", Json::array({1, 2})}}}};
}

class ObjectCacheTest : public testing::Test {
 protected:
  ObjectCacheTest()
      : client_(loop_), cache_(loop_, client_, {.path = "/api/v1/pods", .selector = "a=b"}) {
    cache_.on_change([this](const ObjectPtr& before, const ObjectPtr& after) {
      const ObjectPtr& any = after != nullptr ? after : before;
      changes_.push_back((before == nullptr  ? "+"
                          : after == nullptr ? "-"
                                             : "~") +
                         any->name + any->resource_version);
    });
  }
  void start() {
    cache_.start([this] { ++synced_; });
    loop_.run_ready();
  }
  void answer_list(const std::vector<Json>& items, int version) {
    ASSERT_NE(client_.only(), nullptr);
    ASSERT_THAT(client_.only()->request.path, HasSubstr("limit="));
    client_.reply(
        client_.only(), 200,
        Json{{"metadata", {{"resourceVersion", std::to_string(version)}}}, {"items", items}}
            .dump());
    loop_.run_ready();
  }
  FakeApiClient::Pending* watch() {
    FakeApiClient::Pending* pending = client_.only();
    return pending != nullptr && pending->is_stream() ? pending : nullptr;
  }
  void event(const std::string& type, const Json& object) {
    ASSERT_NE(watch(), nullptr);
    // Copied as the real stream's: the watch may end inside.
    const ApiClient::Data data = watch()->data;
    data(Json{{"type", type}, {"object", object}}.dump() + "\n");
  }
  void begin_watching() {
    start();
    answer_list({thing("a", 1), thing("b", 2)}, 10);
    ASSERT_NE(watch(), nullptr);
    event("BOOKMARK", thing("", 11));
    changes_.clear();
  }

  FakeLoop loop_;
  FakeApiClient client_;
  ObjectCache cache_;
  std::vector<std::string> changes_;
  int synced_ = 0;
};

TEST_F(ObjectCacheTest, ListsThenWatchesFromTheVersionOfTheList) {
  start();
  EXPECT_FALSE(cache_.synced());
  answer_list({thing("a", 1), thing("b", 2)}, 10);
  EXPECT_EQ(synced_, 1);
  EXPECT_THAT(changes_, UnorderedElementsAre("+a1", "+b2"));
  ASSERT_NE(watch(), nullptr);
  EXPECT_THAT(watch()->request.path,
              HasSubstr("/api/v1/pods?watch=1&allowWatchBookmarks=true&resourceVersion=10&"));
  EXPECT_THAT(watch()->request.path, HasSubstr("&a=b"));
  EXPECT_FALSE(cache_.find("n/a")->body["metadata"].contains("managedFields"));
}

TEST_F(ObjectCacheTest, EventsChangeTheCopy) {
  begin_watching();
  event("ADDED", thing("c", 12));
  event("MODIFIED", thing("a", 13));
  event("DELETED", thing("b", 14));
  EXPECT_THAT(changes_, ElementsAre("+c12", "~a13", "-b2"));
  EXPECT_EQ(cache_.objects().size(), 2u);
  EXPECT_EQ(cache_.find("n/b"), nullptr);
}

TEST_F(ObjectCacheTest, AWatchThatEndsIsTakenUpAtTheLastVersionThatWasHeardOf) {
  begin_watching();
  event("MODIFIED", thing("a", 13));
  event("BOOKMARK", thing("", 20));
  loop_.run_for(5min);
  client_.reply(watch(), 200, "");
  loop_.run_ready();
  ASSERT_NE(watch(), nullptr);
  EXPECT_THAT(watch()->request.path, HasSubstr("resourceVersion=20&"));
  EXPECT_EQ(cache_.stats().lists, 1u);
  EXPECT_EQ(cache_.stats().failures, 0u);
}

TEST_F(ObjectCacheTest, AVersionThatIsGoneMeansAListAndEachDifferenceIsToldOnce) {
  begin_watching();
  const Json gone = {{"kind", "Status"}, {"code", 410}, {"message", "too old"}};
  event("ERROR", gone);
  loop_.run_ready();
  // While nobody looked: a unchanged, b deleted, c new.
  answer_list({thing("a", 1), thing("c", 30)}, 31);
  EXPECT_THAT(changes_, UnorderedElementsAre("-b2", "+c30"));
  EXPECT_EQ(synced_, 1);
  ASSERT_NE(watch(), nullptr);
  EXPECT_THAT(watch()->request.path, HasSubstr("resourceVersion=31&"));
}

TEST_F(ObjectCacheTest, AWatchRefusedWith410IsTheSame) {
  begin_watching();
  loop_.run_for(1min);
  client_.reply(watch(), 410, R"({"reason":"Expired"})");
  loop_.run_ready();
  answer_list({thing("a", 1), thing("b", 2)}, 31);
  EXPECT_TRUE(changes_.empty());
}

TEST_F(ObjectCacheTest, AServerThatAlwaysSaysGoneIsAskedEverMoreSeldom) {
  start();
  client_.answer = [](const ApiRequest& request) -> std::optional<Result<ApiReply>> {
    if (request.path.find("watch=1") != std::string::npos) {
      return ApiReply{.status = 410, .body = "{}"};
    }
    return ApiReply{.status = 200, .body = R"({"metadata":{"resourceVersion":"5"},"items":[]})"};
  };
  client_.reply(client_.only(), 200, R"({"metadata":{"resourceVersion":"5"},"items":[]})");
  loop_.run_for(10min);
  EXPECT_LT(cache_.stats().lists, 40u);
  EXPECT_GT(cache_.stats().lists, 10u);
}

TEST_F(ObjectCacheTest, WhileTheServerIsAwayThePausesGrowAndTheCopyStaysButIsNotFresh) {
  begin_watching();
  EXPECT_TRUE(cache_.is_fresh(90s));
  client_.answer = [](const ApiRequest&) -> std::optional<Result<ApiReply>> {
    return make_error(ErrorCode::kUnavailable, ErrorSource::kUpstream, "away", true);
  };
  client_.finish(watch(), make_error(ErrorCode::kReset, ErrorSource::kUpstream, "cut off", true));
  EXPECT_FALSE(cache_.is_fresh(90s));
  const size_t before = client_.sent.size();
  loop_.run_for(30s);
  EXPECT_EQ(cache_.objects().size(), 2u);
  EXPECT_GE(client_.sent.size() - before, 4u);
  EXPECT_LE(client_.sent.size() - before, 8u);
  EXPECT_THAT(cache_.trouble(), HasSubstr("away"));
  client_.answer = nullptr;
  ASSERT_TRUE(loop_.run_until([&] { return watch() != nullptr; }, 31s));
  EXPECT_THAT(watch()->request.path, HasSubstr("resourceVersion=11&"));
  event("MODIFIED", thing("a", 40));
  EXPECT_TRUE(cache_.is_fresh(90s));
  EXPECT_EQ(cache_.trouble(), "");
  EXPECT_THAT(changes_, ElementsAre("~a40"));
}

TEST_F(ObjectCacheTest, AWatchThatHearsNothingForTooLongIsNotFresh) {
  begin_watching();
  loop_.run_for(91s);
  EXPECT_FALSE(cache_.is_fresh(90s));
}

TEST_F(ObjectCacheTest, AListThatFailsIsAskedAgainFromTheBeginning) {
  start();
  client_.reply(client_.only(), 403, R"({"message":"no"})");
  loop_.run_for(1s);
  answer_list({thing("a", 1)}, 10);
  EXPECT_EQ(synced_, 1);
  EXPECT_THAT(changes_, ElementsAre("+a1"));
}

TEST_F(ObjectCacheTest, AnObjectThatWasMadeAnewIsTwoLives) {
  begin_watching();
  event("MODIFIED", thing("a", 20, "another"));
  EXPECT_THAT(changes_, ElementsAre("-a1", "+a20"));
}

TEST_F(ObjectCacheTest, BytesThatAreNoEventsEndTheWatchAndEverythingIsListedAgain) {
  begin_watching();
  const ApiClient::Data data = watch()->data;
  data("nonsense\n");
  EXPECT_EQ(client_.only(), nullptr);
  loop_.run_for(1s);
  answer_list({thing("a", 1), thing("b", 2)}, 50);
  EXPECT_TRUE(changes_.empty());
  EXPECT_NE(watch(), nullptr);
}

TEST_F(ObjectCacheTest, ABurstOfTenThousandEventsEndsInTheLastState) {
  begin_watching();
  const ApiClient::Data data = watch()->data;
  std::string burst;
  int version = 100;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 1'000; ++i) {
      burst += Json{{"type", round == 0 ? "ADDED" : "MODIFIED"},
                    {"object", thing("p" + std::to_string(i), ++version)}}
                   .dump() +
               "\n";
    }
  }
  constexpr size_t piece = 16'384;
  for (size_t at = 0; at < burst.size(); at += piece) data(burst.substr(at, piece));
  EXPECT_EQ(changes_.size(), 10'000u);
  EXPECT_EQ(cache_.objects().size(), 1'002u);
  EXPECT_EQ(cache_.find("n/p999")->resource_version, std::to_string(version));
  client_.finish(watch(), make_error(ErrorCode::kReset, ErrorSource::kUpstream, "cut off", true));
  ASSERT_TRUE(loop_.run_until([&] { return watch() != nullptr; }, 2s));
  EXPECT_THAT(watch()->request.path, HasSubstr("resourceVersion=" + std::to_string(version)));
}

}  // namespace
}  // namespace remora::k8s
