// One call of a sidecar, from its token to its end; used by desk.cc only.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "k8s/agents/desk.h"

namespace remora::k8s {

class SidecarSession final : public link::CallEvents {
 public:
  SidecarSession(Desk& desk, link::Call& call);
  ~SidecarSession() override { *alive_ = false; }
  SidecarSession(const SidecarSession&) = delete;
  SidecarSession& operator=(const SidecarSession&) = delete;

  void begin();
  const link::PodClaims& pod() const { return pod_; }
  // Whom to trust from now on.
  void welcome();
  void send(const link::v1::OperatorMessage& message) { call_.send(message); }
  void finish(link::StatusCode code, const std::string& why) { call_.finish(code, why); }
  bool is_over(MonotonicTime now) const { return now >= ends_at_; }
  // The pod's policy may say something else than what the sidecar was told.
  void set_settings_due() { settings_due_ = true; }
  void tell_settings();

 private:
  void on_message(const link::v1::SidecarMessage& message) override;
  void on_end() override;

  void on_reviewed(const Result<link::PodClaims>& claims);
  void on_hello(const link::v1::Hello& hello);
  void on_incident(const link::v1::IncidentReport& report);
  void on_settings(const link::v1::SettingsReport& report);
  bool may_report();

  Desk& desk_;
  link::Call& call_;
  link::PodClaims pod_;
  bool entered_ = false;
  std::set<std::string> containers_;  // those that hello has named
  bool settings_due_ = false;
  std::optional<config::PolicyValues> told_;
  double reports_left_ = reports_burst_max;
  MonotonicTime reported_at_{};
  MonotonicTime ends_at_ = MonotonicTime::max();
  // Lets go of answers that come after the end.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace remora::k8s
