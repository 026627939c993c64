#include "k8s/watch/refused_writes.h"

#include "sidecar/base/log.h"

namespace remora::k8s {

WorkOutcome RefusedWrites::outcome(const std::string& key, const ApiRequest& request,
                                   const Result<ApiReply>& reply) {
  const RefusedWrite refused = refused_write(request, reply);
  if (!refused.why.empty()) add(event_, key, refused.why);
  return {.failed = true, .again_after = refused.retry_after};
}

void RefusedWrites::add(std::string_view event, const std::string& key, const std::string& why) {
  failures_.add();
  if (why != last_) log_warn(event, {{key_name_, key}, {"error", why}});
  last_ = why;
}

}  // namespace remora::k8s
