#include "sidecar/app/next_start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/app/all_options.h"

namespace remora {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(NextStartTest, NamesOnlyWhatARunningOneCantTake) {
  const config::Config before =
      config_of("agent: {appPort: 8000, stateDir: /d}\nsnapshots: {store: /s}");
  EXPECT_THAT(keys_for_next_start(before, before), IsEmpty());
  EXPECT_THAT(
      keys_for_next_start(
          before, config_of("agent: {appPort: 8000, stateDir: /d}\nsnapshots: {store: "
                            "/s}\ndetection: {hangWindow: 3s}\n"
                            "inbound: {timeouts: {drain: 1s}, limits: {connectionsMax: 3}}")),
      IsEmpty());
  EXPECT_THAT(keys_for_next_start(
                  before, config_of("agent: {appPort: 8001, stateDir: /d}\n"
                                    "snapshots: {store: /s, exclude: [a, b], keepLast: 3}")),
              ElementsAre("agent.appPort", "snapshots.keepLast", "snapshots.exclude"));
}

TEST(NextStartTest, ListsAreNotMixedUpWithTheirJoinedText) {
  EXPECT_THAT(keys_for_next_start(
                  config_of("agent: {stateDir: /d}\nsnapshots: {store: /s, exclude: [a, b]}"),
                  config_of("agent: {stateDir: /d}\nsnapshots: {store: /s, exclude: [ab]}")),
              ElementsAre("snapshots.exclude"));
}

}  // namespace
}  // namespace remora
