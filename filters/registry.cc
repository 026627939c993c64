#include "filters/registry.h"

#include "filters/access_log/access_log.h"

namespace remora {

std::vector<std::unique_ptr<Filter>> make_inbound_filters(const InboundFilterOptions& options,
                                                          RequestObserver& observer) {
  std::vector<std::unique_ptr<Filter>> filters;
  // First in, last out: these two see every exchange, refused ones too, and its whole duration.
  if (options.access_log) filters.push_back(std::make_unique<AccessLogFilter>());
  filters.push_back(std::make_unique<ObserveFilter>(observer));
  // Before anything is spent on a request: may it come in at all?
  filters.push_back(std::make_unique<LimitsFilter>(options.limits));
  // Last, because its clock should run for requests that were let in.
  filters.push_back(std::make_unique<DeadlineFilter>(options.deadline));
  return filters;
}

}  // namespace remora
