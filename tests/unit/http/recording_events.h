// CodecEvents that writes down what it is told, one line an event, with the data of consecutive
// on_data() calls joined: two runs of the same bytes cut up differently give the same record.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sidecar/base/buffer.h"
#include "sidecar/http/codec.h"

namespace remora::http {

inline std::string describe(const HeaderMap& headers) {
  std::string text;
  for (const HeaderField& field : headers) {
    text.append(" [").append(field.name).append(": ").append(field.value).append("]");
  }
  return text;
}

inline std::string describe(const RequestHead& head) {
  std::string text;
  text.append(head.method).append(" ").append(head.scheme).append("://").append(head.authority);
  text.append(" ").append(head.path);
  if (head.content_length) text.append(" length=").append(std::to_string(*head.content_length));
  if (!head.upgrade.empty()) text.append(" upgrade=").append(head.upgrade);
  return text + describe(head.headers);
}

inline std::string describe(const ResponseHead& head) {
  std::string text = std::to_string(head.status);
  if (head.content_length) text.append(" length=").append(std::to_string(*head.content_length));
  if (!head.upgrade.empty()) text.append(" upgrade=").append(head.upgrade);
  return text + describe(head.headers);
}

class RecordingEvents : public CodecEvents {
 public:
  void on_request(StreamId id, RequestHead head, bool end_stream) override {
    last_id = id;
    note(id, "request " + describe(head) + (end_stream ? " end" : ""));
    if (request_hook) request_hook(id, head, end_stream);
  }
  void on_informational(StreamId id, ResponseHead head) override {
    note(id, "informational " + describe(head));
  }
  void on_response(StreamId id, ResponseHead head, bool end_stream) override {
    note(id, "response " + describe(head) + (end_stream ? " end" : ""));
    if (end_stream && end_hook) end_hook(id);
  }
  void on_data(StreamId id, std::span<const uint8_t> bytes) override {
    body[id].append(as_text(bytes));
    if (data_hook) data_hook(id, bytes);
  }
  void on_trailers(StreamId id, ArenaPtr arena, HeaderMap trailers) override {
    flush_body(id);
    note(id, "trailers" + describe(trailers));
    arenas.push_back(std::move(arena));
  }
  void on_end(StreamId id) override {
    flush_body(id);
    note(id, "end");
    if (end_hook) end_hook(id);
  }
  void on_stream_error(StreamId id, StreamErrorKind kind, const Error& error) override {
    static constexpr const char* kNames[] = {"peer-reset", "refused", "protocol"};
    flush_body(id);
    note(id, std::string("error ") + kNames[static_cast<int>(kind)]);
    last_error = error;
  }
  void on_drained(StreamId id) override {
    ++drained[id];
    if (drained_hook) drained_hook(id);
  }
  void on_goaway() override { ++goaways; }

  std::string joined() const {
    std::string text;
    for (const std::string& line : lines) text.append(line).append("\n");
    return text;
  }

  std::vector<std::string> lines;
  std::map<StreamId, std::string> body;
  std::map<StreamId, int> drained;
  int goaways = 0;
  StreamId last_id = 0;
  Error last_error;
  std::vector<ArenaPtr> arenas;
  std::function<void(StreamId, const RequestHead&, bool)> request_hook;
  std::function<void(StreamId, std::span<const uint8_t>)> data_hook;
  std::function<void(StreamId)> end_hook;
  std::function<void(StreamId)> drained_hook;

 private:
  void note(StreamId id, const std::string& text) {
    lines.push_back(std::to_string(id) + " " + text);
  }
  void flush_body(StreamId id) {
    const auto it = body.find(id);
    if (it == body.end() || it->second.empty()) return;
    note(id, "data " + (it->second.size() <= 64
                            ? it->second
                            : std::to_string(it->second.size()) + " bytes #" +
                                  std::to_string(std::hash<std::string>{}(it->second))));
    it->second.clear();
  }
};

// Takes everything that a codec wants to send.
inline std::string take_output(Codec& codec) {
  std::string all;
  while (true) {
    const std::string_view pending = codec.pending_output();
    if (pending.empty()) return all;
    all.append(pending);
    codec.wrote(pending.size());
  }
}

}  // namespace remora::http
