// What the kernel would show after a transaction, read from the transaction itself: its messages
// have the same form as those that the kernel answers with.
#pragma once

#include <utility>

#include "sidecar/intercept/nft_message.h"

namespace remora::intercept {

inline Found found_after(const Transaction& transaction) {
  Found found;
  ByteSpan rest = transaction.bytes;
  while (const auto message = take_message(rest)) {
    if (auto table = decode_table(*message)) found.table = *table;
    if (auto chain = decode_chain(*message)) found.chains.push_back(std::move(*chain));
    if (auto rule = decode_rule(*message)) {
      rule->handle = found.rules.size() + 1;
      found.rules.push_back(std::move(*rule));
    }
  }
  if (found.table) found.table->object_count = static_cast<uint32_t>(found.chains.size());
  return found;
}

}  // namespace remora::intercept
