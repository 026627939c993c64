#include "k8s/watch/work_queue.h"

#include <utility>

namespace remora::k8s {

WorkQueue::WorkQueue(Loop& loop, WorkQueueOptions options, Work work)
    : loop_(loop), options_(options), work_(std::move(work)), random_(options.seed) {}

WorkQueue::~WorkQueue() { *alive_ = false; }

bool WorkQueue::add(const std::string& key) {
  if (items_.size() >= work_items_max && !items_.contains(key)) return false;
  Item& item = items_[key];
  item.timer.cancel();
  switch (item.state) {
    case State::kIdle:
      make_ready(key, item);
      break;
    case State::kWorking:
      item.state = State::kWorkingAndDirty;
      break;
    case State::kReady:
    case State::kWorkingAndDirty:
      break;
  }
  return true;
}

bool WorkQueue::add_after(const std::string& key, Duration delay) {
  if (items_.size() >= work_items_max && !items_.contains(key)) return false;
  Item& item = items_[key];
  if (item.state == State::kReady || item.state == State::kWorkingAndDirty) return true;
  const MonotonicTime due = loop_.now() + delay;
  if (item.timer && item.due <= due) return true;
  item.due = due;
  item.timer = loop_.add_timer(delay, [this, key] { add(std::string(key)); });
  return true;
}

void WorkQueue::clear() {
  items_.clear();
  ready_.clear();
  working_ = 0;
}

void WorkQueue::make_ready(const std::string& key, Item& item) {
  item.state = State::kReady;
  item.since = loop_.now();
  ready_.push_back(key);
  pump_soon();
}

void WorkQueue::pump_soon() {
  if (std::exchange(pump_posted_, true)) return;
  loop_.post([this, alive = alive_] {
    if (!*alive) return;
    pump_posted_ = false;
    pump();
  });
}

// What its work adds at once waits for the next turn: no look can starve the loop.
void WorkQueue::pump() {
  for (size_t left = ready_.size(); left > 0 && working_ < options_.workers_max; --left) {
    if (ready_.empty()) return;
    const std::string key = std::move(ready_.front());
    ready_.pop_front();
    Item& item = items_.at(key);
    item.state = State::kWorking;
    item.look = ++looks_;
    ++working_;
    work_(key, [this, alive = alive_, key, look = item.look](const WorkOutcome& outcome) {
      if (*alive) end(key, look, outcome);
    });
  }
  if (!ready_.empty() && working_ < options_.workers_max) pump_soon();
}

void WorkQueue::end(const std::string& key, uint64_t look, const WorkOutcome& outcome) {
  const auto found = items_.find(key);
  if (found == items_.end() || found->second.look != look) return;
  Item& item = found->second;
  --working_;
  const bool dirty = item.state == State::kWorkingAndDirty;
  item.state = State::kIdle;
  item.look = 0;
  if (outcome.failed) {
    ++failures_;
    const Duration pause = backoff_pause(options_.backoff, item.failures++, random_);
    add_after(key, outcome.again_after.value_or(pause));
  } else {
    item.failures = 0;
    // Also while it is dirty, the look that follows says when it wants the next one.
    if (dirty) {
      make_ready(key, item);
    } else if (outcome.again_after) {
      add_after(key, *outcome.again_after);
    }
  }
  drop_if_idle(key);
  if (!ready_.empty()) pump_soon();
}

void WorkQueue::drop_if_idle(const std::string& key) {
  const auto found = items_.find(key);
  if (found != items_.end() && found->second.state == State::kIdle && !found->second.timer) {
    items_.erase(found);
  }
}

Duration WorkQueue::oldest_wait() const {
  return ready_.empty() ? Duration{} : loop_.now() - items_.at(ready_.front()).since;
}

}  // namespace remora::k8s
