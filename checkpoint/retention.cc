#include "checkpoint/retention.h"

#include <algorithm>

#include "checkpoint/errors.h"

namespace remora::checkpoint {

Result<std::vector<bool>> select_kept(
    const std::vector<SnapshotInfo>& all, uint64_t keep_last,
    const std::function<Result<bool>(const SnapshotInfo&)>& is_intact) {
  const size_t kept = std::min<uint64_t>(std::max<uint64_t>(keep_last, 1), all.size());
  std::vector<bool> keep(all.size(), false);
  std::fill(keep.end() - static_cast<std::ptrdiff_t>(kept), keep.end(), true);
  if (kept == all.size()) return keep;  // nothing would go: no need to read anything
  for (size_t i = all.size(); i-- > 0;) {
    auto intact = is_intact(all[i]);
    if (!intact) return pass_on(intact);
    if (*intact) {
      keep[i] = true;
      break;
    }
  }
  return keep;
}

}  // namespace remora::checkpoint
