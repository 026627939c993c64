// One structured log line ("request") for each finished exchange.
#pragma once

#include "filters/filter.h"

namespace remora {

class AccessLogFilter final : public Filter {
 public:
  void on_end(FilterContext& context) override;
};

}  // namespace remora
