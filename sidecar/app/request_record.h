// Which requests of the operator's were carried out, and how they went, kept in the store: one that
// comes again is answered again, never done again. Pure.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>

namespace remora {

inline constexpr std::string_view request_record_file = "requests.json";
inline constexpr size_t request_record_bytes_max = 1 << 20;
inline constexpr size_t requests_kept_max = 64;

struct DoneRequest {
  std::string id;
  bool is_over = false;  // false: begun
  bool done = false;     // as it was asked for
  std::string message{};
  std::string snapshot{};
};

class RequestRecord {
 public:
  // Of the file; what can't be read is an empty record.
  static RequestRecord parse(std::string_view text);
  std::string text() const;

  const DoneRequest* find(const std::string& id) const;
  // Replaces what was known of its id; past the limit the oldest goes.
  void put(DoneRequest request);
  // Of an earlier process: what it had begun is over, nobody knows how.
  void close_left_open();

 private:
  std::deque<DoneRequest> requests_;
};

}  // namespace remora
