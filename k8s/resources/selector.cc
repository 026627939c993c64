#include "k8s/resources/selector.h"

#include <algorithm>

namespace remora::k8s {
namespace {

bool meets(const v1alpha1::Requirement& wanted, const std::map<std::string, std::string>& labels) {
  const auto label = labels.find(wanted.key());
  const bool has = label != labels.end();
  if (wanted.operator_() == "Exists") return has;
  if (wanted.operator_() == "DoesNotExist") return !has;
  const bool among =
      has && std::ranges::find(wanted.values(), label->second) != wanted.values().end();
  return wanted.operator_() == "In" ? among : !among;
}

}  // namespace

bool selects(const v1alpha1::Selector& selector, const std::map<std::string, std::string>& labels) {
  for (const auto& [key, value] : selector.match_labels()) {
    const auto label = labels.find(key);
    if (label == labels.end() || label->second != value) return false;
  }
  return std::ranges::all_of(selector.match_expressions(), [&](const v1alpha1::Requirement& each) {
    return meets(each, labels);
  });
}

}  // namespace remora::k8s
