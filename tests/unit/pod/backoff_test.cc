// A kubelet's back-off, as it is shown while its next start is awaited.
#include <chrono>

#include <gtest/gtest.h>

#include "sidecar/pod/pod_agent.h"

namespace remora {
namespace {

using namespace std::chrono_literals;

TEST(KubeletBackoff, IsNoneThenTenSecondsThenDoublesUpToItsLongest) {
  EXPECT_EQ(kubelet_backoff(0), 0s);
  EXPECT_EQ(kubelet_backoff(1), 0s);
  EXPECT_EQ(kubelet_backoff(2), 10s);
  EXPECT_EQ(kubelet_backoff(3), 20s);
  EXPECT_EQ(kubelet_backoff(6), 160s);
  EXPECT_EQ(kubelet_backoff(7), 300s);
  EXPECT_EQ(kubelet_backoff(4'000'000'000), 300s);
}

}  // namespace
}  // namespace remora
