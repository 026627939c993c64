// Drives one codec as a hostile peer would, and checks what holds for every input: events come in
// order, none comes after the end of its stream, and kept bytes stay bounded. The first byte
// chooses role and answers, the second seeds the cuts; the rest is what the peer sends.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "sidecar/base/buffer.h"
#include "sidecar/http/codec.h"

namespace remora::http {

class CodecDriver : public CodecEvents {
 public:
  using Make = std::unique_ptr<Codec> (*)(Role, CodecEvents&, const CodecLimits&);

  CodecDriver(Make make, uint8_t choice) : choice_(choice) {
    limits_.header_bytes_max = 4096;
    limits_.url_bytes_max = 512;
    limits_.header_count_max = 16;
    codec_ = make(is_client() ? Role::kClient : Role::kServer, *this, limits_);
    if (is_client()) open();
  }

  void run(std::span<const uint8_t> input, uint8_t seed) {
    uint32_t random = seed;
    bool ok = true;
    while (ok && !input.empty()) {
      random = random * 1664525 + 1013904223;
      const size_t piece = seed == 0 ? input.size() : 1 + (random >> 16) % 61;
      const auto bytes = input.first(std::min(piece, input.size()));
      input = input.subspan(bytes.size());
      ok = codec_->receive(bytes).has_value();
      after_receive();
    }
    if (!ok && !is_client()) {
      ResponseHead head;
      head.status = 400;
      codec_->send_response(kErrorStream, head, false);
      codec_->send_data(kErrorStream, as_bytes("bad"), true);
    }
    codec_->receive_eof();
    after_receive();
    if ((choice_ & 64) != 0) codec_->start_drain();
    flush();
  }

 private:
  enum class Phase { kHead, kBody, kTrailers, kEnded };
  struct Seen {
    Phase phase = Phase::kHead;
    bool answered = false;
    size_t unconsumed = 0;
  };

  bool is_client() const { return (choice_ & 1) != 0; }
  static void check(bool holds) {
    if (!holds) std::abort();
  }

  void open() {
    static constexpr std::string_view kMethods[] = {"GET", "HEAD", "POST", "CONNECT"};
    RequestHead head;
    head.method = kMethods[choice_ >> 1 & 3];
    head.authority = "a.test:80";
    head.path = "/";
    if ((choice_ & 8) != 0 && head.method == "GET") head.upgrade = "websocket";
    const bool end = head.method != "POST";
    const auto id = codec_->send_request(head, end);
    if (!id) return;
    seen_[*id] = {};
    if (!end) codec_->send_data(*id, as_bytes("body"), (choice_ & 16) != 0);
  }

  void after_receive() {
    for (auto& [id, seen] : seen_) {
      if (seen.unconsumed > 0 && (choice_ & 32) != 0) {
        codec_->consume(id, std::exchange(seen.unconsumed, 0));
      }
      if (!is_client() && !seen.answered && seen.phase != Phase::kEnded && (choice_ & 16) != 0) {
        answer(id, seen);
      }
    }
    if ((choice_ & 4) == 0) flush();
    for (int i = 0; i < 100 && codec_->has_unparsed(); ++i) (void)codec_->receive({});
    if (is_client() && codec_->can_open() && seen_.size() < 100) open();
  }

  void answer(StreamId id, Seen& seen) {
    seen.answered = true;
    ResponseHead head;
    head.status = (choice_ & 2) != 0 ? 101 : 200;
    if ((choice_ & 8) != 0) {
      ResponseHead hints;
      hints.status = 103;
      codec_->send_informational(id, hints);
    }
    codec_->send_response(id, head, false);
    codec_->send_data(id, as_bytes("response body"), false);
    HeaderMap trailers;
    trailers.add("X-Trailer", "1");
    if ((choice_ & 8) != 0) {
      codec_->send_trailers(id, trailers);
    } else {
      codec_->send_data(id, {}, true);
    }
  }

  void flush() {
    constexpr size_t kOutputBytesMax = 8 << 20;
    size_t total = 0;
    while (true) {
      const std::string_view pending = codec_->pending_output();
      if (pending.empty()) break;
      const size_t part = std::max<size_t>(1, pending.size() / 2);
      total += part;
      check(total < kOutputBytesMax);
      codec_->wrote(part);
    }
  }

  void on_request(StreamId id, RequestHead head, bool end) override {
    check(!is_client() && !seen_.contains(id));
    check(!head.method.empty() && (head.path.empty() == (head.method == "CONNECT")));
    for (const HeaderField& field : head.headers) {
      check(field.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
    }
    Seen& seen = seen_[id];
    seen.phase = end ? Phase::kTrailers : Phase::kBody;
    if ((choice_ & 16) == 0) answer(id, seen);
    if ((choice_ & 128) != 0) codec_->reset(id);
  }
  void on_informational(StreamId id, ResponseHead head) override {
    check(head.status / 100 == 1 && seen_.at(id).phase == Phase::kHead);
  }
  void on_response(StreamId id, ResponseHead head, bool end) override {
    check(is_client() && seen_.at(id).phase == Phase::kHead);
    check(head.status >= 200 || head.status == 101);
    seen_.at(id).phase = end ? Phase::kEnded : Phase::kBody;
  }
  void on_data(StreamId id, std::span<const uint8_t> bytes) override {
    Seen& seen = seen_.at(id);
    // A tunnel's bytes come after the end of the request that opened it.
    check(seen.phase == Phase::kBody || (seen.phase == Phase::kTrailers && seen.answered));
    check(!bytes.empty());
    seen.unconsumed += bytes.size();
  }
  void on_trailers(StreamId id, ArenaPtr, HeaderMap) override {
    check(seen_.at(id).phase == Phase::kBody);
    seen_.at(id).phase = Phase::kTrailers;
  }
  void on_end(StreamId id) override {
    check(seen_.at(id).phase == Phase::kBody || seen_.at(id).phase == Phase::kTrailers);
    seen_.at(id).phase = is_client() ? Phase::kEnded : Phase::kTrailers;
  }
  void on_stream_error(StreamId id, StreamErrorKind, const Error& error) override {
    check(seen_.contains(id) && !error.message.empty());
    seen_.at(id).phase = Phase::kEnded;
  }
  void on_drained(StreamId id) override { check(seen_.contains(id)); }

  const uint8_t choice_;
  CodecLimits limits_;
  std::map<StreamId, Seen> seen_;
  std::unique_ptr<Codec> codec_;
};

}  // namespace remora::http
