// A client codec and a server codec joined by two byte pipes, whose bytes are handed over in
// pieces that a seed chooses.
#pragma once

#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include "tests/unit/http/recording_events.h"

namespace remora::http {

class CodecPair {
 public:
  explicit CodecPair(Version version, uint32_t seed = 0, const CodecLimits& limits = {})
      : limits_(limits), random_(seed), whole_(seed == 0) {
    const auto make = version == Version::kHttp2 ? make_h2_codec : make_h1_codec;
    client = make(Role::kClient, client_events, limits_);
    server = make(Role::kServer, server_events, limits_);
  }

  // Moves one piece in each direction; false when there was nothing to move.
  bool step() {
    const bool to_server = move(*client, *server, &server_error);
    const bool to_client = move(*server, *client, &client_error);
    if (server->has_unparsed()) (void)server->receive({});
    return to_server || to_client;
  }
  // Returns false if the two have not come to rest.
  bool run() {
    constexpr int kStepsMax = 2'000'000;
    for (int i = 0; i < kStepsMax; ++i) {
      if (!step()) return true;
    }
    return false;
  }

  RecordingEvents client_events;
  RecordingEvents server_events;
  std::unique_ptr<Codec> client;
  std::unique_ptr<Codec> server;
  std::optional<Error> client_error;
  std::optional<Error> server_error;

 private:
  bool move(Codec& from, Codec& to, std::optional<Error>* error) {
    const std::string_view pending = from.pending_output();
    if (pending.empty()) return false;
    size_t size = pending.size();
    if (!whole_) {
      std::uniform_int_distribution<size_t> pieces(1, random_() % 4 == 0 ? 20'000 : 20);
      size = std::min(size, pieces(random_));
    }
    const std::string piece(pending.substr(0, size));
    from.wrote(size);
    if (auto received = to.receive(as_bytes(piece)); !received) *error = received.error();
    return true;
  }

  const CodecLimits limits_;
  std::mt19937 random_;
  const bool whole_;
};

inline RequestHead make_request(std::string_view method, std::string_view path) {
  RequestHead head;
  head.method = method;
  head.scheme = "http";
  head.authority = "agent.test:8080";
  head.path = path;
  return head;
}

inline ResponseHead make_response(int status) {
  ResponseHead head;
  head.status = status;
  return head;
}

}  // namespace remora::http
