#include "k8s/watch/event_reader.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace remora::k8s {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::pair<std::string_view, EventType>, 5> types = {
    {{"ADDED", EventType::kAdded},
     {"MODIFIED", EventType::kModified},
     {"DELETED", EventType::kDeleted},
     {"BOOKMARK", EventType::kBookmark},
     {"ERROR", EventType::kError}}};

std::unexpected<Error> broken(ErrorCode code, const char* why) {
  return make_error(code, ErrorSource::kUpstream, std::string("watch: ") + why, true);
}

// Reading deeper than this would end in the stack: nlohmann's destructor and ours recurse.
bool too_deep(std::string_view text) {
  size_t depth = 0;
  bool in_text = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_text) {
      if (c == '\\') ++i;
      in_text = c != '"';
    } else if (c == '"') {
      in_text = true;
    } else if (c == '{' || c == '[') {
      if (++depth > watch_event_depth_max) return true;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return false;
}

std::optional<EventType> type_of(const Json& event) {
  const auto type = event.find("type");
  if (type == event.end() || !type->is_string()) return std::nullopt;
  const auto known = std::ranges::find(types, type->get_ref<const std::string&>(),
                                       [](const auto& pair) { return pair.first; });
  return known == types.end() ? std::nullopt : std::optional(known->second);
}

Result<bool> tell(std::string_view line, const EventReader::Event& event) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return true;
  if (too_deep(line)) return broken(ErrorCode::kLimitExceeded, "an event is nested too deep");
  Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return broken(ErrorCode::kProtocol, "a line is no event");
  const std::optional<EventType> type = type_of(json);
  const auto object = json.find("object");
  if (!type || object == json.end() || !object->is_object()) {
    return broken(ErrorCode::kProtocol, "a line is no event");
  }
  return event(*type, *object);
}

}  // namespace

Result<void> EventReader::feed(std::string_view bytes, const Event& event) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    if (line_.size() + piece.size() > watch_event_bytes_max) {
      return broken(ErrorCode::kLimitExceeded, "an event is too large");
    }
    if (end == std::string_view::npos) {
      line_ += piece;
      return {};
    }
    bytes.remove_prefix(end + 1);
    // Copied only where it came in pieces. Moved out: the receiver may end this reader.
    const std::string joined = line_.empty() ? std::string() : std::exchange(line_, {}) += piece;
    const Result<bool> more = tell(joined.empty() ? piece : std::string_view(joined), event);
    if (!more) return std::unexpected(more.error());
    if (!*more) return {};
  }
  return {};
}

}  // namespace remora::k8s
