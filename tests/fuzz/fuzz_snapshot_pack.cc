// Packs from an untrusted volume: index, salvage scan and every frame. A chunk that decodes must
// hash to its id.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "checkpoint/chunker.h"
#include "checkpoint/pack.h"

namespace {

using namespace remora::checkpoint;  // NOLINT(google-build-using-namespace)

class MemoryFile final : public ReadableFile {
 public:
  explicit MemoryFile(std::string_view bytes) : bytes_(bytes) {}
  remora::Result<size_t> read_at(uint64_t offset, std::span<char> out) override {
    if (offset >= bytes_.size()) return size_t{0};
    const size_t n = std::min<size_t>(out.size(), bytes_.size() - offset);
    std::memcpy(out.data(), bytes_.data() + offset, n);
    return n;
  }
  remora::Result<FileStat> stat() override {
    FileStat st;
    st.size = bytes_.size();
    return st;
  }

 private:
  std::string_view bytes_;
};

void read_all(std::string_view bytes) {
  MemoryFile file(bytes);
  const auto index = read_pack_index(file);
  if (!index) return;
  std::string plain;
  for (const FrameInfo& frame : index->frames) {
    std::string stored(frame.stored_bytes, '\0');
    const auto n = file.read_at(frame.offset, stored);
    stored.resize(*n);
    if (!decode_chunk(frame, stored, plain)) continue;
    if (sha256(plain) != frame.id || plain.size() > chunk_bytes_max) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  read_all(bytes);
  // Past the magic, which a fuzzer rarely finds by itself.
  read_all("RMRPACK1" + std::string(bytes));
  if (const auto frames = decode_pack_index(bytes, 1 << 20)) {
    for (const FrameInfo& frame : *frames) {
      if (frame.offset + frame.stored_bytes > (1 << 20)) std::abort();
    }
  }
  return 0;
}
