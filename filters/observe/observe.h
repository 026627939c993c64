// Tells an observer (the metrics) of each finished exchange.
#pragma once

#include "filters/filter.h"

namespace remora {

class RequestObserver {
 public:
  virtual ~RequestObserver() = default;
  virtual void on_request_finished(const ExchangeInfo& info) = 0;
};

class ObserveFilter final : public Filter {
 public:
  explicit ObserveFilter(RequestObserver& observer) : observer_(observer) {}
  void on_end(FilterContext& context) override { observer_.on_request_finished(context.info()); }

 private:
  RequestObserver& observer_;
};

}  // namespace remora
