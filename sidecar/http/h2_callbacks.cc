// The functions that nghttp2 calls: each only finds its codec and stream and says what happened.
#include <algorithm>
#include <cstring>

#include "sidecar/http/h2_codec.h"

namespace remora::http {

struct H2Codec::Callbacks {
  static H2Codec& codec_of(void* user_data) { return *static_cast<H2Codec*>(user_data); }

  static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    H2Codec& codec = codec_of(user_data);
    const StreamId id = frame->hd.stream_id;
    codec.block_.begin(id, codec.limits_);
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
      // Without events until the request is known to be well-formed.
      codec.open_stream(id)->muted = true;
    }
    return 0;
  }

  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                       size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                       void* user_data) {
    H2Codec& codec = codec_of(user_data);
    if (frame->hd.stream_id != codec.block_.stream_id()) return 0;
    codec.block_.add(as_text({name, name_size}), as_text({value, value_size}));
    return 0;
  }

  // RFC 9113 section 8.2.1: a message with an invalid field is malformed as a whole.
  static int on_invalid_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t*, size_t,
                               const uint8_t*, size_t, uint8_t, void* user_data) {
    H2Codec& codec = codec_of(user_data);
    codec.count_misbehaviour();
    if (Stream* stream = codec.find(frame->hd.stream_id)) stream->reset_sent = true;
    nghttp2_submit_rst_stream(codec.session_.get(), NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                              NGHTTP2_PROTOCOL_ERROR);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }

  static int on_frame_received(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    H2Codec& codec = codec_of(user_data);
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        codec.on_headers(*frame);
        break;
      case NGHTTP2_DATA:
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) break;
        if (Stream* stream = codec.find(frame->hd.stream_id)) codec.on_end_stream(*stream);
        break;
      case NGHTTP2_GOAWAY:
        if (!std::exchange(codec.peer_goaway_, true)) codec.events_.on_goaway();
        break;
      case NGHTTP2_PING:
        // Sent between the two GOAWAYs of a graceful end: whatever the peer had sent before it
        // learnt of the first has now arrived.
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && codec.draining_ &&
            std::ranges::equal(frame->ping.opaque_data, drain_ping)) {
          codec.submit_final_goaway();
        }
        break;
      default:
        break;
    }
    return 0;
  }

  static int on_data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data,
                     size_t size, void* user_data) {
    H2Codec& codec = codec_of(user_data);
    nghttp2_session_consume_connection(session, size);
    Stream* stream = codec.find(id);
    if (stream != nullptr && !stream->muted) codec.on_data(*stream, {data, size});
    return 0;
  }

  static int on_stream_close(nghttp2_session*, int32_t id, uint32_t error_code, void* user_data) {
    codec_of(user_data).on_stream_closed(id, error_code);
    return 0;
  }

  static int on_invalid_frame(nghttp2_session*, const nghttp2_frame*, int, void* user_data) {
    codec_of(user_data).count_misbehaviour();
    return 0;
  }

  static int before_frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    H2Codec& codec = codec_of(user_data);
    // The head is encoded: nghttp2 needs the message's bytes no more.
    if (frame->hd.type == NGHTTP2_HEADERS && frame->hd.stream_id == codec.headers_awaited_) {
      codec.headers_awaited_ = 0;
    }
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      codec.reset_flood_ = frame->goaway.error_code == NGHTTP2_INTERNAL_ERROR;
    }
    return 0;
  }

  static int on_frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    H2Codec& codec = codec_of(user_data);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      codec.on_goaway_sent(frame->goaway);
      return 0;
    }
    Stream* stream = codec.find(frame->hd.stream_id);
    if (stream == nullptr) return 0;
    if (frame->hd.type == NGHTTP2_RST_STREAM) stream->reset_sent = true;
    const bool carries_end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (carries_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      codec.on_end_stream_sent(*stream);
    }
    return 0;
  }

  static int on_frame_not_sent(nghttp2_session*, const nghttp2_frame* frame, int, void* user_data) {
    H2Codec& codec = codec_of(user_data);
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    const StreamId id = frame->hd.stream_id;
    if (id == codec.headers_awaited_) codec.headers_awaited_ = 0;
    // A request that the peer will never see: it has said GOAWAY in between.
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
      codec.on_stream_closed(id, NGHTTP2_REFUSED_STREAM);
    }
    return 0;
  }

  static int send_data(nghttp2_session*, nghttp2_frame*, const uint8_t* frame_header, size_t length,
                       nghttp2_data_source* source, void* user_data) {
    return codec_of(user_data).write_data_frame(*static_cast<Stream*>(source->ptr), frame_header,
                                                length);
  }

  static const nghttp2_session_callbacks* make();
};

const nghttp2_session_callbacks* H2Codec::Callbacks::make() {
  nghttp2_session_callbacks* table = nullptr;
  nghttp2_session_callbacks_new(&table);
  nghttp2_session_callbacks_set_on_begin_headers_callback(table, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(table, on_header);
  nghttp2_session_callbacks_set_on_invalid_header_callback(table, on_invalid_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(table, on_frame_received);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(table, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(table, on_stream_close);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(table, on_invalid_frame);
  nghttp2_session_callbacks_set_before_frame_send_callback(table, before_frame_sent);
  nghttp2_session_callbacks_set_on_frame_send_callback(table, on_frame_sent);
  nghttp2_session_callbacks_set_on_frame_not_send_callback(table, on_frame_not_sent);
  nghttp2_session_callbacks_set_send_data_callback(table, send_data);
  return table;
}

// nghttp2 copies the table into each session, so one serves all of them.
const nghttp2_session_callbacks* H2Codec::callbacks() {
  static const CHandle<const nghttp2_session_callbacks,
                       [](const nghttp2_session_callbacks* table) {
                         nghttp2_session_callbacks_del(
                             const_cast<nghttp2_session_callbacks*>(table));
                       }>
      table(Callbacks::make());
  return table.get();
}

}  // namespace remora::http
