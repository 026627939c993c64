// Any bytes on a call of a sidecar's, cut anywhere: framing, messages, reports, and what the
// sidecar reads of its own notes. Never a crash; the same messages however the bytes are cut, and
// what is kept of a report fits a custom resource and is read back from it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "k8s/agents/agent_plan.h"
#include "k8s/agents/report.h"
#include "k8s/link/frame.h"
#include "k8s/link/status.h"
#include "k8s/link/token_review.h"
#include "k8s/resources/message_json.h"

namespace {

using namespace remora;  // NOLINT(google-build-using-namespace)

std::vector<std::string> messages_in(std::string_view bytes, size_t step) {
  std::vector<std::string> all;
  link::FrameReader reader;
  for (size_t at = 0; at < bytes.size(); at += step) {
    const Result<void> read =
        reader.read(as_bytes(bytes.substr(at, step)), [&](std::string_view message) {
          all.emplace_back(message);
          return true;
        });
    if (!read) break;
  }
  return all;
}

void check_report(const link::v1::IncidentReport& told) {
  const auto report = k8s::sidecar_report({"n", "p", "u", "node"}, told);
  if (!report) return;
  k8s::v1alpha1::SidecarHealing again;
  if (!k8s::read_message(k8s::write_message(report->healing), again)) std::abort();
  if (again.steps_size() > k8s::report_items_max) std::abort();
}

void check_message(const std::string& text) {
  link::v1::SidecarMessage message;
  if (message.ParseFromString(text)) {
    check_report(message.incident());
    k8s::ConnectedAgent agent{.pod = {"n", "p", "u", ""}, .container = "c", .claim = {}};
    agent.snapshots = k8s::stored_snapshots(message.snapshots());
    agent.outcome = message.outcome();
    k8s::AgentRecord record;
    record.status.mutable_request()->set_id(message.outcome().id());
    record.status.mutable_request()->set_action("Restore");
    record.status.mutable_request()->set_state("Sent");
    const auto status = k8s::next_status(record, &agent, false, {});
    if (status && k8s::agent_status_text(record, *status).empty()) std::abort();
  }
  link::v1::OperatorMessage reply;
  static_cast<void>(reply.ParseFromString(text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string> whole = messages_in(bytes, bytes.size() + 1);
  if (whole != messages_in(bytes, 3)) std::abort();
  for (const std::string& message : whole) check_message(message);
  check_message(std::string(bytes));
  static_cast<void>(link::judge_review(bytes));
  static_cast<void>(k8s::claim_uid_of(bytes));
  const std::string text(bytes);
  if (link::decoded_message(link::encoded_message(text)) != text) std::abort();
  static_cast<void>(link::decoded_message(text));
  return 0;
}
