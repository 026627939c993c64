// An exchange that exists only in the test.
#pragma once

#include <optional>

#include "filters/filter.h"

namespace remora {

struct FakeFilterContext final : FilterContext {
  FakeFilterContext() {
    exchange.listener = "inbound";
    exchange.peer = "127.0.0.1:5555";
    exchange.began_at = MonotonicTime(std::chrono::seconds(100));
    head.method = "POST";
    head.path = "/invoke";
  }
  MonotonicTime now() const override { return exchange.began_at; }
  const ExchangeInfo& info() const override { return exchange; }
  http::RequestHead& request() override { return head; }
  void set_deadline(MonotonicTime at) override { deadline = at; }
  void reply(http::Problem problem) override { replied = problem; }

  // The deadline as a duration from the beginning.
  std::optional<Duration> limit() const {
    return deadline ? std::optional(*deadline - exchange.began_at) : std::nullopt;
  }

  ExchangeInfo exchange;
  http::RequestHead head;
  std::optional<MonotonicTime> deadline;
  std::optional<http::Problem> replied;
};

}  // namespace remora
