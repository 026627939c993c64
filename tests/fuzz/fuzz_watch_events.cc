// Any bytes as the body of a watch: never a crash, and the same events however the network cuts
// them. The first byte says where.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "k8s/watch/event_reader.h"

namespace {

struct Read {
  std::vector<std::string> events;
  bool ok = true;
};

Read read_in_pieces(std::string_view text, size_t piece) {
  Read read;
  remora::k8s::EventReader reader;
  for (size_t at = 0; at < text.size() && read.ok; at += piece) {
    read.ok = reader
                  .feed(text.substr(at, piece),
                        [&](remora::k8s::EventType type, nlohmann::ordered_json& object) {
                          if (!object.is_object()) std::abort();
                          read.events.push_back(
                              std::to_string(static_cast<int>(type)) +
                              object.dump(-1, ' ', false,
                                          nlohmann::ordered_json::error_handler_t::replace));
                          return true;
                        })
                  .has_value();
  }
  return read;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const Read whole = read_in_pieces(text, text.size() + 1);
  const Read cut = read_in_pieces(text, size_t{data[0]} + 1);
  if (whole.ok != cut.ok || whole.events != cut.events) std::abort();
  return 0;
}
