// An API client whose answers the test gives, for virtual time: calls wait until they are answered
// and keep to their own time limit and right to be sent, as real ones do.
#pragma once

#include <algorithm>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "k8s/api/client.h"

namespace remora::k8s {

class FakeApiClient final : public ApiClient {
 public:
  // What a test sees of a call that is under way.
  struct Pending {
    ApiRequest request;
    Data data;
    Done done;
    Subscription timer;
    bool is_stream() const { return static_cast<bool>(data); }
  };

  explicit FakeApiClient(Loop& loop) : loop_(loop) {}

  std::unique_ptr<ApiCall> call(ApiRequest request, Done done) override {
    return enter(std::move(request), {}, std::move(done));
  }
  std::unique_ptr<ApiCall> stream(ApiRequest request, Data data, Done done) override {
    return enter(std::move(request), std::move(data), std::move(done));
  }
  ApiClientStats stats() const override { return {}; }

  // Answers by itself: nothing leaves the call waiting.
  std::function<std::optional<Result<ApiReply>>(const ApiRequest&)> answer;
  // Everything that was sent: "PUT /path".
  std::vector<std::string> sent;

  std::vector<Pending*> pending() {
    std::vector<Pending*> all;
    for (const auto& each : pending_) all.push_back(each.get());
    return all;
  }
  // The only one under way; null otherwise.
  Pending* only() { return pending_.size() == 1 ? pending_.front().get() : nullptr; }
  void reply(Pending* pending, int status, std::string body) {
    finish(pending, ApiReply{.status = status, .body = std::move(body)});
  }
  void finish(Pending* pending, Result<ApiReply> result) {
    const auto found =
        std::ranges::find_if(pending_, [&](const auto& each) { return each.get() == pending; });
    if (found == pending_.end()) return;
    const std::shared_ptr<Pending> ended = *found;
    pending_.erase(found);
    ended->done(std::move(result));
  }

 private:
  class Handle final : public ApiCall {
   public:
    Handle(FakeApiClient& client, std::shared_ptr<Pending> pending)
        : client_(client), pending_(std::move(pending)) {}
    ~Handle() override { client_.forget(pending_.get()); }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;

   private:
    FakeApiClient& client_;
    // Held beyond its answer: no later call gets its address.
    const std::shared_ptr<Pending> pending_;
  };

  std::unique_ptr<ApiCall> enter(ApiRequest request, Data data, Done done) {
    auto pending = std::make_shared<Pending>();
    pending->request = std::move(request);
    pending->data = std::move(data);
    pending->done = std::move(done);
    Pending* const raw = pending.get();
    pending_.push_back(pending);
    // Sent in a later task, as the real one does it.
    raw->timer = loop_.add_timer({}, [this, raw] { send(raw); });
    return std::make_unique<Handle>(*this, std::move(pending));
  }
  void send(Pending* pending) {
    const ApiRequest& request = pending->request;
    if (request.may_send && !request.may_send()) {
      return finish(pending, make_error(ErrorCode::kCancelled, ErrorSource::kUpstream, "not sent"));
    }
    sent.push_back(request.method + " " + request.path);
    const Duration limit = std::chrono::milliseconds(request.answer_ms_max);
    pending->timer = loop_.add_timer(limit, [this, pending] {
      if (!pending->is_stream()) {
        finish(pending, make_error(ErrorCode::kTimeout, ErrorSource::kUpstream, "no answer", true));
      }
    });
    if (!answer) return;
    if (std::optional<Result<ApiReply>> now = answer(request)) finish(pending, std::move(*now));
  }
  void forget(Pending* pending) {
    std::erase_if(pending_, [&](const auto& each) { return each.get() == pending; });
  }

  Loop& loop_;
  std::list<std::shared_ptr<Pending>> pending_;
};

}  // namespace remora::k8s
