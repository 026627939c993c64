#include "sidecar/intercept/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace remora::intercept {
namespace {

using testing::HasSubstr;

TEST(ValidateTest, TheDefaultsAreValid) { EXPECT_TRUE(validate({})); }

TEST(ValidateTest, SaysEverythingThatIsWrongAtOnce) {
  InterceptOptions options;
  options.inbound = options.outbound = false;
  options.inbound_port = 80;
  options.outbound_port = options.health_port;
  options.exclude_uids.resize(excluded_owners_max + 1);
  options.exclude_outbound_ports = {{90, 80}};
  const auto valid = validate(options);
  ASSERT_FALSE(valid);
  EXPECT_EQ(valid.error().code, ErrorCode::kInvalidArgument);
  for (const char* part : {"neither inbound nor outbound", "inbound port 80", "must differ",
                           "33 excluded uids, at most 32", "ports 90-80"}) {
    EXPECT_THAT(valid.error().message, HasSubstr(part));
  }
}

TEST(ValidateTest, EveryListHasALimit) {
  const auto is_valid = [](auto fill) {
    InterceptOptions options;
    fill(options);
    return validate(options).has_value();
  };
  const PortRange port{80, 80};
  EXPECT_TRUE(is_valid([&](auto& o) { o.exclude_inbound_ports.assign(excluded_ports_max, port); }));
  EXPECT_FALSE(
      is_valid([&](auto& o) { o.exclude_inbound_ports.assign(excluded_ports_max + 1, port); }));
  EXPECT_FALSE(
      is_valid([&](auto& o) { o.exclude_outbound_ports.assign(excluded_ports_max + 1, port); }));
  EXPECT_FALSE(
      is_valid([](auto& o) { o.exclude_outbound_addresses.resize(excluded_addresses_max + 1); }));
  EXPECT_FALSE(is_valid([](auto& o) { o.exclude_gids.resize(excluded_owners_max + 1); }));
}

}  // namespace
}  // namespace remora::intercept
