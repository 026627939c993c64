// The filters of the inbound listener, made from options, in the order in which a request meets
// them.
#pragma once

#include <memory>
#include <vector>

#include "filters/deadline/deadline.h"
#include "filters/filter.h"
#include "filters/limits/limits.h"
#include "filters/observe/observe.h"

namespace remora {

struct InboundFilterOptions {
  DeadlineOptions deadline;
  LimitsOptions limits;
  bool access_log = false;
};

// observer outlives the filters.
std::vector<std::unique_ptr<Filter>> make_inbound_filters(const InboundFilterOptions& options,
                                                          RequestObserver& observer);

}  // namespace remora
