// One thread for work that may block: hashing, compression, file I/O, fsync. Jobs run one at a
// time in the order given. Never used for anything the data path waits for.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace remora {

class WorkerThread {
 public:
  WorkerThread() = default;
  // Finishes the job that runs now, drops those that wait, joins.
  ~WorkerThread();
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  // Any thread. The thread is started by the first job.
  void submit(std::move_only_function<void()> job);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::move_only_function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace remora
