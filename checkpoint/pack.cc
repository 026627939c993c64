#include "checkpoint/pack.h"

#include <zstd.h>

#include "checkpoint/byte_codec.h"
#include "checkpoint/chunker.h"
#include "checkpoint/errors.h"

namespace remora::checkpoint {
namespace {

constexpr std::string_view pack_magic = "RMRPACK1";
constexpr std::string_view frame_magic = "CHNK";
constexpr std::string_view footer_magic = "RMRPEND1";
constexpr size_t footer_bytes = 8 + 4 + 32 + 8;
constexpr size_t index_entry_bytes = 32 + 8 + 4 + 4 + 1;
constexpr size_t write_bytes = 1 << 20;

void put_index_entry(ByteWriter& out, const FrameInfo& frame) {
  out.put_bytes(frame.id.view());
  out.put(frame.offset);
  out.put(frame.stored_bytes);
  out.put(frame.plain_bytes);
  out.put(static_cast<uint8_t>(frame.form));
}

bool is_sane(const FrameInfo& frame) {
  return frame.plain_bytes >= 1 && frame.plain_bytes <= chunk_bytes_max &&
         frame.stored_bytes >= 1 && frame.stored_bytes <= frame.plain_bytes &&
         (frame.form == StoredForm::kZstd ||
          (frame.form == StoredForm::kRaw && frame.stored_bytes == frame.plain_bytes));
}

// Index by the footer, or an error when either is not intact.
Result<std::vector<FrameInfo>> read_by_footer(ReadableFile& file, uint64_t size) {
  if (size < pack_magic.size() + footer_bytes) return corrupt("pack has no footer");
  std::string footer(footer_bytes, '\0');
  auto n = file.read_at(size - footer_bytes, footer);
  if (!n) return pass_on(n);
  if (*n != footer_bytes) return corrupt("pack shrank");
  ByteReader in(footer);
  const auto index_offset = in.get<uint64_t>();
  const auto count = in.get<uint32_t>();
  const Digest digest = in.get_digest();
  if (in.get_bytes(footer_magic.size()) != footer_magic) return corrupt("pack footer");
  const uint64_t index_bytes = uint64_t{count} * index_entry_bytes;
  if (index_bytes > pack_index_bytes_max || index_offset < pack_magic.size() ||
      index_offset > size || index_offset + index_bytes + footer_bytes != size) {
    return corrupt("pack footer");
  }
  std::string index(index_bytes, '\0');
  n = file.read_at(index_offset, index);
  if (!n) return pass_on(n);
  if (*n != index_bytes || sha256(index) != digest) return corrupt("pack index");
  return decode_pack_index(index, index_offset);
}

// Frames from the front until one is not whole.
Result<std::vector<FrameInfo>> scan_frames(ReadableFile& file, uint64_t size) {
  std::vector<FrameInfo> frames;
  uint64_t at = pack_magic.size();
  std::string header(frame_header_bytes, '\0');
  while (at + frame_header_bytes <= size) {
    auto n = file.read_at(at, header);
    if (!n) return pass_on(n);
    ByteReader in(std::string_view(header).substr(0, *n));
    const bool is_frame = in.get_bytes(frame_magic.size()) == frame_magic;
    FrameInfo frame;
    frame.id = in.get_digest();
    frame.stored_bytes = in.get<uint32_t>();
    frame.plain_bytes = in.get<uint32_t>();
    frame.form = static_cast<StoredForm>(in.get<uint8_t>());
    frame.offset = at + frame_header_bytes;
    if (in.failed() || !is_frame || !is_sane(frame)) break;
    if (frame.stored_bytes > size - frame.offset) break;
    at = frame.offset + frame.stored_bytes;
    frames.push_back(frame);
  }
  return frames;
}

}  // namespace

struct Compressor::State {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  std::string out;
};

Compressor::Compressor() : state_(std::make_unique<State>()) {
  state_->out.resize(ZSTD_compressBound(chunk_bytes_max));
}

Compressor::~Compressor() { ZSTD_freeCCtx(state_->context); }

std::string_view Compressor::compress(std::string_view plain, StoredForm& form) {
  const size_t n = ZSTD_compressCCtx(state_->context, state_->out.data(), state_->out.size(),
                                     plain.data(), plain.size(), zstd_level);
  if (ZSTD_isError(n) != 0 || n >= plain.size() - plain.size() / 16) {
    form = StoredForm::kRaw;
    return plain;
  }
  form = StoredForm::kZstd;
  return std::string_view(state_->out).substr(0, n);
}

Result<void> decode_chunk(const FrameInfo& frame, std::string_view stored, std::string& plain) {
  if (!is_sane(frame) || stored.size() != frame.stored_bytes) {
    return corrupt("chunk " + frame.id.hex() + " has impossible lengths");
  }
  if (frame.form == StoredForm::kRaw) {
    plain.assign(stored);
  } else {
    // The output is bounded by the declared length, itself at most chunk_bytes_max: a frame that
    // would blow up fails instead.
    plain.resize(frame.plain_bytes);
    const size_t n = ZSTD_decompress(plain.data(), plain.size(), stored.data(), stored.size());
    if (ZSTD_isError(n) != 0 || n != frame.plain_bytes) {
      return corrupt("chunk " + frame.id.hex() + " doesn't decompress");
    }
  }
  if (sha256(plain) != frame.id) {
    return corrupt("chunk " + frame.id.hex() + " doesn't match its hash");
  }
  return {};
}

PackWriter::PackWriter(std::unique_ptr<WritableFile> file)
    : file_(std::move(file)), pending_(pack_magic), offset_(pack_magic.size()) {}

Result<void> PackWriter::add(const ChunkId& id, uint32_t plain_bytes, std::string_view stored,
                             StoredForm form) {
  FrameInfo frame{.id = id,
                  .offset = offset_ + frame_header_bytes,
                  .stored_bytes = static_cast<uint32_t>(stored.size()),
                  .plain_bytes = plain_bytes,
                  .form = form};
  ByteWriter header;
  header.put_bytes(frame_magic);
  header.put_bytes(id.view());
  header.put(frame.stored_bytes);
  header.put(frame.plain_bytes);
  header.put(static_cast<uint8_t>(form));
  pending_.append(header.bytes()).append(stored);
  offset_ = frame.offset + frame.stored_bytes;
  frames_.push_back(frame);
  return pending_.size() >= write_bytes ? flush() : Result<void>{};
}

Result<void> PackWriter::flush() {
  auto written = file_->write(pending_);
  pending_.clear();
  return written;
}

Result<Digest> PackWriter::finish() {
  ByteWriter index;
  for (const FrameInfo& frame : frames_) put_index_entry(index, frame);
  const Digest name = sha256(index.bytes());
  ByteWriter footer;
  footer.put(offset_);
  footer.put(static_cast<uint32_t>(frames_.size()));
  footer.put_bytes(name.view());
  footer.put_bytes(footer_magic);
  pending_.append(index.bytes()).append(footer.bytes());
  if (auto done = flush(); !done) return pass_on(done);
  if (file_->size() != offset_ + index.bytes().size() + footer_bytes) {
    return storage_error(ErrorCode::kIo, "pack: short write");
  }
  if (auto done = file_->sync(); !done) return pass_on(done);
  return name;
}

Result<std::vector<FrameInfo>> decode_pack_index(std::string_view index, uint64_t data_bytes) {
  if (index.size() % index_entry_bytes != 0) return corrupt("pack index length");
  std::vector<FrameInfo> frames;
  frames.reserve(index.size() / index_entry_bytes);
  ByteReader in(index);
  while (in.left() > 0) {
    FrameInfo frame;
    frame.id = in.get_digest();
    frame.offset = in.get<uint64_t>();
    frame.stored_bytes = in.get<uint32_t>();
    frame.plain_bytes = in.get<uint32_t>();
    frame.form = static_cast<StoredForm>(in.get<uint8_t>());
    if (!is_sane(frame) || frame.offset > data_bytes ||
        frame.stored_bytes > data_bytes - frame.offset) {
      return corrupt("pack index entry");
    }
    frames.push_back(frame);
  }
  return frames;
}

Result<PackIndex> read_pack_index(ReadableFile& file) {
  auto st = file.stat();
  if (!st) return pass_on(st);
  if (st->type != FileType::kRegular || st->size > pack_file_bytes_max) {
    return corrupt("not a pack (type or size)");
  }
  std::string head(pack_magic.size(), '\0');
  auto n = file.read_at(0, head);
  if (!n) return pass_on(n);
  if (*n != head.size() || head != pack_magic) return corrupt("not a pack (head)");
  auto frames = read_by_footer(file, st->size);
  if (frames) return PackIndex{.frames = std::move(*frames), .salvaged = false};
  if (frames.error().code != ErrorCode::kCorrupt) return pass_on(frames);
  frames = scan_frames(file, st->size);
  if (!frames) return pass_on(frames);
  return PackIndex{.frames = std::move(*frames), .salvaged = true};
}

}  // namespace remora::checkpoint
