// Writes of one kind that were not taken: counted, and logged when it is for another reason than
// the last one was.
#pragma once

#include <string>
#include <string_view>

#include "k8s/api/problem.h"
#include "k8s/watch/work_queue.h"
#include "sidecar/admin/metrics.h"

namespace remora::k8s {

class RefusedWrites {
 public:
  // event and key_name as the log has them; failures must outlive it.
  RefusedWrites(std::string_view event, std::string_view key_name, Counter& failures)
      : event_(event), key_name_(key_name), failures_(failures) {}

  // How a look ends whose write was refused: it is decided again. reply: an error, or not ok().
  WorkOutcome outcome(const std::string& key, const ApiRequest& request,
                      const Result<ApiReply>& reply);
  // The same for what goes wrong otherwise.
  void add(std::string_view event, const std::string& key, const std::string& why);
  // One was taken.
  void forget() { last_.clear(); }

 private:
  const std::string event_;
  const std::string key_name_;
  Counter& failures_;
  std::string last_;
};

}  // namespace remora::k8s
