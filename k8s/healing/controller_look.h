// One look of HealingController at one namespace, which ends when everything that it has begun has
// been answered. For the controller's own files.
#pragma once

#include <string>

#include "k8s/healing/controller.h"

namespace remora::k8s {

struct HealingController::Look {
  std::string namespace_name;
  WorkQueue::Done done;
  WorkOutcome outcome;
  int under_way = 0;
  int steps = 0;  // that it writes down
};

}  // namespace remora::k8s
