// An API server for one test: it keeps what it was asked and answers as it was told. Over plain
// sockets, so that it can also break off in the middle.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "k8s/api/client.h"
#include "sidecar/base/buffer.h"
#include "sidecar/net/listener.h"
#include "tests/unit/net/recording_transport_events.h"

namespace remora::k8s {

class FakeApi {
 public:
  // The bytes of the answer to one whole request; empty: none.
  using Answer = std::function<std::string(const std::string& request)>;

  explicit FakeApi(Loop& loop, Answer answer) : loop_(loop), answer_(std::move(answer)) {
    auto listener = Listener::open(
        loop_, *parse_socket_address("127.0.0.1:0"), [this](std::unique_ptr<Transport> transport) {
          conversations_.push_back(std::make_unique<Conversation>(*this, std::move(transport)));
        });
    EXPECT_TRUE(listener.has_value());
    listener_ = std::move(*listener);
  }

  ApiServer server() const {
    ApiServer server;
    server.address = listener_->address();
    server.name = server.address.to_string();
    server.tls = false;
    return server;
  }
  const std::vector<std::string>& requests() const { return requests_; }
  // The connection ends after the answer.
  bool closes = false;

  static std::string json(int status, const std::string& body) {
    return "HTTP/1.1 " + std::to_string(status) +
           " X\r\ncontent-type: application/json\r\ncontent-length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
  }

 private:
  class Conversation final : TransportEvents {
   public:
    Conversation(FakeApi& api, std::unique_ptr<Transport> transport)
        : api_(api), transport_(std::move(transport)) {
      transport_->start(*this);
    }

   private:
    void on_read(std::span<const uint8_t> bytes) override {
      request_.append(as_text(bytes));
      const size_t head_end = request_.find("\r\n\r\n");
      if (head_end == std::string::npos) return;
      constexpr std::string_view name = "Content-Length: ";
      const size_t field = request_.find(name);
      const size_t body_bytes =
          field < head_end ? std::stoul(request_.substr(field + name.size(), 12)) : size_t{0};
      if (request_.size() < head_end + 4 + body_bytes) return;
      api_.requests_.push_back(request_);
      output_.append(api_.answer_(request_));
      request_.clear();
      on_writable();
    }
    void on_read_eof() override {}
    void on_writable() override {
      const Result<size_t> taken = transport_->write(as_bytes(output_.view()));
      if (!taken) return;
      output_.consume(*taken);
      if (output_.empty() && api_.closes) transport_->shutdown_write();
    }
    void on_transport_error(const Error& /*error*/) override {}

    FakeApi& api_;
    std::unique_ptr<Transport> transport_;
    std::string request_;
    Buffer output_;
  };

  Loop& loop_;
  Answer answer_;
  std::vector<std::string> requests_;
  std::vector<std::unique_ptr<Conversation>> conversations_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace remora::k8s
