#include "sidecar/base/worker.h"

#include <future>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace remora {
namespace {

TEST(WorkerThreadTest, RunsJobsInOrderOnOneOtherThread) {
  WorkerThread worker;
  std::vector<int> order;
  std::vector<std::thread::id> threads;
  std::promise<void> done;
  for (int i = 0; i < 100; ++i) {
    worker.submit([&, i] {
      order.push_back(i);
      threads.push_back(std::this_thread::get_id());
    });
  }
  worker.submit([&] { done.set_value(); });
  done.get_future().wait();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  for (const std::thread::id id : threads) EXPECT_EQ(id, threads[0]);
  EXPECT_NE(threads[0], std::this_thread::get_id());
}

TEST(WorkerThreadTest, AJobMaySubmitAnother) {
  WorkerThread worker;
  std::promise<void> done;
  worker.submit([&] { worker.submit([&] { done.set_value(); }); });
  done.get_future().wait();
}

TEST(WorkerThreadTest, WithoutAJobItEndsAtOnce) { const WorkerThread worker; }

// Those that still wait are destroyed, run or not, with all they hold.
TEST(WorkerThreadTest, TheEndWaitsForTheRunningJobAndKeepsNothing) {
  std::promise<void> began;
  std::promise<void> go_on;
  bool finished = false;
  const auto held = std::make_shared<int>(1);
  auto worker = std::make_unique<WorkerThread>();
  worker->submit([&] {
    began.set_value();
    go_on.get_future().wait();
    finished = true;
  });
  for (int i = 0; i < 10; ++i) worker->submit([held] {});
  began.get_future().wait();
  std::thread ender([&worker] { worker.reset(); });
  go_on.set_value();
  ender.join();
  EXPECT_TRUE(finished);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(WorkerThreadTest, TakesJobsFromManyThreads) {
  WorkerThread worker;
  int count = 0;  // touched by the worker only
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 250; ++i) worker.submit([&count] { ++count; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::promise<int> total;
  worker.submit([&] { total.set_value(count); });
  EXPECT_EQ(total.get_future().get(), 1000);
}

}  // namespace
}  // namespace remora
