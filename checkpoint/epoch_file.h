// The file `epoch` of a store (FORMAT.md): who may publish, and who could before. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/store.h"

namespace remora::checkpoint {

struct EpochFile {
  Epoch epoch;
  Owners owners;
};
// "epoch 5 0123…\nowner …\n"
std::string format_epoch_file(const EpochFile& file);
// Untrusted input: kCorrupt.
Result<EpochFile> parse_epoch_file(std::string_view text);

// At most 18 digits.
std::optional<uint64_t> parse_epoch_number(std::string_view digits);

}  // namespace remora::checkpoint
