// How far the operator knows of an agent's incidents: the incident files in the store are the
// queue, this is the mark in it, kept in the store as well. Pure.
//
// Settled is an incident that is closed and whose last report was acknowledged. All up to `through`
// are, and some after it: incidents need not end in the order in which they began.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace remora {

inline constexpr std::string_view report_mark_file = "reported.json";
inline constexpr size_t report_mark_bytes_max = 1 << 20;
// Past it the oldest open one is no longer waited for.
inline constexpr size_t report_mark_settled_max = 1'000;

class ReportMark {
 public:
  // Of the file; what can't be read is a mark at the very beginning, of no pod.
  static ReportMark parse(std::string_view text);
  std::string text() const;

  // Incidents of an earlier pod on the same store are not this one's to report: where the mark is
  // another pod's it moves to newest, the newest incident there is.
  void begin(const std::string& pod_uid, const std::string& newest);

  bool is_settled(const std::string& id) const;
  // oldest_open: of those that are known and not settled, id left out; empty: there is none.
  void settle(const std::string& id, const std::string& oldest_open);

 private:
  std::string pod_;
  std::string through_;
  std::set<std::string> settled_;  // after through_
};

}  // namespace remora
