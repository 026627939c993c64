// When the webhook's certificate is renewed and how, over the years, without waiting for them.
#include "k8s/operator/webhook_identity.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/operator/identity_secret.h"

namespace remora::k8s {
namespace {

using testing::HasSubstr;

constexpr int64_t start_s = 1'800'000'000;

class WebhookIdentityTest : public testing::Test {
 protected:
  RenewalDecision due(const WebhookIdentity& identity, int64_t now_s) const {
    return renewal_due(identity, rules_, now_s);
  }
  WebhookIdentity renewed(const WebhookIdentity& identity, Renewal renewal, int64_t now_s) const {
    auto made = renew(identity, renewal, rules_, now_s);
    EXPECT_TRUE(made.has_value()) << made.error().message;
    return *made;
  }
  WebhookIdentity fresh(int64_t now_s = start_s) const {
    return renewed({}, Renewal::kAuthority, now_s);
  }

  IdentityRules rules_{.names = {"remora-webhook.remora-system.svc"}};
};

TEST_F(WebhookIdentityTest, WhereThereIsNothingAllIsMade) {
  EXPECT_EQ(due({}, start_s).renewal, Renewal::kAuthority);
  const WebhookIdentity made = fresh();
  EXPECT_EQ(due(made, start_s).renewal, Renewal::kNone);
  EXPECT_EQ(authorities_of(made).size(), 1u);
  EXPECT_EQ(issuer_of(made.server, authorities_of(made)), authorities_of(made)[0]);
  EXPECT_TRUE(is_certificate_for(made.server.certificate_pem, rules_.names[0]));
  EXPECT_FALSE(is_certificate_for(made.server.certificate_pem, "other.remora-system.svc"));
  // For clocks that are behind.
  EXPECT_LE(validity_of(made.server.certificate_pem)->not_before_unix_s,
            start_s - certificate_backdate_s);
}

TEST_F(WebhookIdentityTest, ACertificateIsRenewedInItsLastThird) {
  const WebhookIdentity made = fresh();
  EXPECT_EQ(due(made, start_s + 59 * day_s).renewal, Renewal::kNone);
  const RenewalDecision decision = due(made, start_s + 61 * day_s);
  EXPECT_EQ(decision.renewal, Renewal::kServer);
  EXPECT_THAT(decision.why, HasSubstr("end"));
  const WebhookIdentity next = renewed(made, Renewal::kServer, start_s + 61 * day_s);
  EXPECT_EQ(next.authority, made.authority);
  EXPECT_NE(next.server, made.server);
  EXPECT_EQ(due(next, start_s + 61 * day_s).renewal, Renewal::kNone);
}

TEST_F(WebhookIdentityTest, AnAuthorityIsReplacedAndItsPredecessorStillBelieved) {
  const WebhookIdentity made = fresh();
  const int64_t late_s = start_s + 2'500 * day_s;
  EXPECT_EQ(due(made, late_s).renewal, Renewal::kAuthority);
  const WebhookIdentity next = renewed(made, Renewal::kAuthority, late_s);
  const std::vector<std::string> authorities = authorities_of(next);
  ASSERT_EQ(authorities.size(), 2u);
  EXPECT_EQ(authorities[1], authorities_of(made)[0]);
  EXPECT_EQ(issuer_of(next.server, authorities), authorities[0]);
  EXPECT_EQ(due(next, late_s).renewal, Renewal::kNone);
  // Once it has ended it is left out.
  const WebhookIdentity last = renewed(next, Renewal::kAuthority, start_s + 3'651 * day_s);
  EXPECT_EQ(authorities_of(last).size(), 2u);
  EXPECT_EQ(authorities_of(last)[1], authorities[0]);
}

TEST_F(WebhookIdentityTest, NeverMoreThanAFewAuthoritiesAreKept) {
  WebhookIdentity identity = fresh();
  for (int i = 0; i < 5; ++i) identity = renewed(identity, Renewal::kAuthority, start_s);
  EXPECT_EQ(authorities_of(identity).size(), authorities_max);
}

TEST_F(WebhookIdentityTest, ACertificateOutlivesNoAuthority) {
  rules_.authority_life_s = 10 * day_s;
  const WebhookIdentity made = fresh();
  EXPECT_EQ(validity_of(made.server.certificate_pem)->not_after_unix_s, start_s + 10 * day_s);
}

TEST_F(WebhookIdentityTest, WhatDoesNotFitIsMadeAnew) {
  const WebhookIdentity made = fresh();
  const WebhookIdentity other = fresh();
  const auto renewal = [&](const WebhookIdentity& identity) {
    return due(identity, start_s).renewal;
  };
  WebhookIdentity broken = made;
  broken.server.private_key_pem = other.server.private_key_pem;
  EXPECT_EQ(renewal(broken), Renewal::kServer);
  broken = made;
  broken.server = other.server;  // by another authority
  EXPECT_EQ(renewal(broken), Renewal::kServer);
  broken = made;
  broken.server.certificate_pem = "nonsense";
  EXPECT_EQ(renewal(broken), Renewal::kServer);
  broken = made;
  broken.authority.private_key_pem = other.authority.private_key_pem;
  EXPECT_EQ(renewal(broken), Renewal::kAuthority);
  broken = made;
  broken.authority.certificate_pem.clear();
  EXPECT_EQ(renewal(broken), Renewal::kAuthority);
  // Of a clock that was far ahead.
  EXPECT_EQ(due(made, start_s - 2 * day_s).renewal, Renewal::kServer);
}

TEST_F(WebhookIdentityTest, ForAnotherNameAnotherCertificate) {
  const WebhookIdentity made = fresh();
  rules_.names.push_back("127.0.0.1");
  const RenewalDecision decision = due(made, start_s);
  EXPECT_EQ(decision.renewal, Renewal::kServer);
  EXPECT_THAT(decision.why, HasSubstr("127.0.0.1"));
  const WebhookIdentity next = renewed(made, Renewal::kServer, start_s);
  EXPECT_EQ(due(next, start_s).renewal, Renewal::kNone);
}

TEST_F(WebhookIdentityTest, SomebodyElsesIsTakenForAsLongAsItHolds) {
  WebhookIdentity theirs = fresh();
  theirs.authority.private_key_pem.clear();
  EXPECT_EQ(due(theirs, start_s).renewal, Renewal::kNone);
  EXPECT_EQ(due(theirs, start_s + 61 * day_s).renewal, Renewal::kAuthority);
  const WebhookIdentity next = renewed(theirs, Renewal::kAuthority, start_s + 61 * day_s);
  EXPECT_EQ(authorities_of(next).size(), 2u);
}

TEST_F(WebhookIdentityTest, ASecretKeepsItWhole) {
  const WebhookIdentity made = fresh();
  const std::string json = write_identity_secret(made, "remora-system", "cert", "41");
  EXPECT_THAT(json, HasSubstr(R"("type":"Opaque")"));
  const auto stored = read_identity_secret(json);
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ(stored->identity, made);
  EXPECT_EQ(stored->resource_version, "41");
  EXPECT_EQ(stored->type, "Opaque");
}

TEST_F(WebhookIdentityTest, AnySecretIsReadAndOnlyASecret) {
  for (const char* bad :
       {"", "[]", "{}", R"({"kind":"ConfigMap","metadata":{}})", R"({"kind":"Secret"})"}) {
    EXPECT_EQ(read_identity_secret(bad).error().code, ErrorCode::kProtocol) << bad;
  }
  for (const char* data : {"null", "{}", "7", R"({"tls.crt":7,"ca.crt":"no base64!"})"}) {
    const auto stored = read_identity_secret(
        std::string(R"({"kind":"Secret","metadata":{"resourceVersion":"1"},"data":)") + data + "}");
    ASSERT_TRUE(stored.has_value()) << data;
    EXPECT_EQ(stored->identity, WebhookIdentity{}) << data;
    EXPECT_EQ(due(stored->identity, start_s).renewal, Renewal::kAuthority);
  }
}

}  // namespace
}  // namespace remora::k8s
