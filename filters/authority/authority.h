// Gives each request the name of the server that it is carried to.
#pragma once

#include <string>
#include <utility>

#include "filters/filter.h"

namespace remora {

class AuthorityFilter final : public Filter {
 public:
  // As a Host field: "api.openai.com".
  explicit AuthorityFilter(std::string authority) : authority_(std::move(authority)) {}
  Verdict on_request_head(FilterContext& context) override {
    // The chain, and the text with it, lives as long as the exchange.
    context.request().authority = authority_;
    return Verdict::kContinue;
  }

 private:
  const std::string authority_;
};

}  // namespace remora
