// Kubernetes' label selectors (meta/v1 LabelSelector). Pure.
#pragma once

#include <map>
#include <string>

#include "k8s/resources/resources.pb.h"

namespace remora::k8s {

// An empty selector takes everything.
bool selects(const v1alpha1::Selector& selector, const std::map<std::string, std::string>& labels);

}  // namespace remora::k8s
