// Packs: files that hold many chunks, so that thousands of small files cost a handful of fsyncs.
//
// Each chunk stands in its own frame (header with id and lengths, then the stored bytes), and an
// index of all frames ends the file. The index makes opening cheap; when the tail is lost or
// damaged the frames alone rebuild it up to the first broken one. Nothing read here is trusted: a
// chunk counts only once its plain bytes hash to its id.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/file_system.h"
#include "checkpoint/manifest.h"

namespace remora::checkpoint {

inline constexpr int zstd_level = 1;
inline constexpr uint64_t pack_bytes_max = 16 << 20;  // a pack is closed once it passes this
// What a reader accepts: one frame more than the writer's limit, and the index.
inline constexpr uint64_t pack_file_bytes_max = 64 << 20;
inline constexpr uint64_t pack_index_bytes_max = 16 << 20;

enum class StoredForm : uint8_t { kRaw = 0, kZstd = 1 };

struct FrameInfo {
  ChunkId id;
  uint64_t offset = 0;        // of the stored bytes in the pack
  uint32_t stored_bytes = 0;  // at most plain_bytes
  uint32_t plain_bytes = 0;   // 1 to chunk_bytes_max
  StoredForm form = StoredForm::kRaw;
};

inline constexpr size_t frame_header_bytes = 4 + 32 + 4 + 4 + 1;

// Compresses with zstd_level; kRaw when that saves less than a sixteenth. Not for two threads at
// once.
class Compressor {
 public:
  Compressor();
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  ~Compressor();
  // Valid until the next call.
  std::string_view compress(std::string_view plain, StoredForm& form);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The plain bytes of a frame, checked against its id. stored is untrusted.
Result<void> decode_chunk(const FrameInfo& frame, std::string_view stored, std::string& plain);

// Writes one pack. Frames are buffered and written in large pieces.
class PackWriter {
 public:
  explicit PackWriter(std::unique_ptr<WritableFile> file);
  Result<void> add(const ChunkId& id, uint32_t plain_bytes, std::string_view stored,
                   StoredForm form);
  uint64_t bytes() const { return offset_; }
  const std::vector<FrameInfo>& frames() const { return frames_; }
  // Index, footer, fsync. The result names the pack: SHA-256 of the index.
  Result<Digest> finish();

 private:
  Result<void> flush();

  std::unique_ptr<WritableFile> file_;
  std::string pending_;
  uint64_t offset_ = 0;
  std::vector<FrameInfo> frames_;
};

struct PackIndex {
  std::vector<FrameInfo> frames;
  // The index was missing or damaged; frames are those that a scan from the front found.
  bool salvaged = false;
};

// kCorrupt when not even the head is a pack's.
Result<PackIndex> read_pack_index(ReadableFile& file);

// The frames of an encoded index; for read_pack_index and its fuzzer.
Result<std::vector<FrameInfo>> decode_pack_index(std::string_view index, uint64_t data_bytes);

}  // namespace remora::checkpoint
