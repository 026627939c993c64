#include "checkpoint/epoch_file.h"

#include <charconv>

#include "checkpoint/errors.h"

namespace remora::checkpoint {
namespace {

constexpr std::string_view epoch_head = "epoch ";
constexpr std::string_view owner_head = "owner ";
constexpr size_t token_digits = 32;
constexpr size_t number_digits_max = 18;

// The next line, without its end; nothing when there is no whole one.
std::optional<std::string_view> next_line(std::string_view& text) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return line;
}

}  // namespace

std::optional<uint64_t> parse_epoch_number(std::string_view digits) {
  uint64_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [at, problem] = std::from_chars(digits.data(), end, number);
  const bool whole = problem == std::errc() && at == end && digits.size() <= number_digits_max;
  return whole ? std::optional(number) : std::nullopt;
}

std::string format_epoch_file(const EpochFile& file) {
  std::string text =
      std::string(epoch_head) + std::to_string(file.epoch.number) + " " + file.epoch.token + "\n";
  for (const std::string& owner : file.owners) text.append(owner_head).append(owner).append("\n");
  return text;
}

Result<EpochFile> parse_epoch_file(std::string_view text) {
  EpochFile file;
  const std::optional<std::string_view> head = next_line(text);
  if (!head || !head->starts_with(epoch_head)) return corrupt("epoch file");
  const std::string_view rest = head->substr(epoch_head.size());
  const size_t space = rest.find(' ');
  if (space == std::string_view::npos) return corrupt("epoch file");
  const std::optional<uint64_t> number = parse_epoch_number(rest.substr(0, space));
  if (!number || rest.size() - space - 1 != token_digits) return corrupt("epoch file");
  file.epoch = {.number = *number, .token = std::string(rest.substr(space + 1))};
  while (!text.empty()) {
    const std::optional<std::string_view> line = next_line(text);
    if (!line || !line->starts_with(owner_head)) return corrupt("epoch file");
    const std::string_view owner = line->substr(owner_head.size());
    if (!is_owner(owner) || file.owners.size() >= owners_max) return corrupt("epoch file");
    file.owners.emplace_back(owner);
  }
  return file;
}

}  // namespace remora::checkpoint
