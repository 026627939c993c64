#include "k8s/healing/incident_trace.h"

#include <algorithm>

#include "k8s/healing/facts.h"

namespace remora::k8s {
namespace {

// 0 for what is no time.
int64_t unix_ns(const std::string& text) {
  const std::optional<WallTime> time = parse_time(text);
  return time ? time->time_since_epoch().count() : 0;
}

otlp::Span root_of(const std::string& namespace_name, const IncidentRecord& incident) {
  const v1alpha1::IncidentSpec& spec = incident.spec;
  const v1alpha1::PodReference& pod = spec.pod();
  const std::string& began = spec.began_at().empty() ? spec.detected_at() : spec.began_at();
  otlp::Span root{.trace_id = otlp::trace_id_of(incident.uid),
                  .span_id = otlp::span_id_of(incident.uid, otlp::heal_span),
                  .name = otlp::heal_span,
                  .from_unix_ns = unix_ns(began),
                  .to_unix_ns = unix_ns(incident.status.ended_at())};
  root.attributes = {{"k8s.namespace.name", namespace_name},
                     {"k8s.pod.name", pod.name()},
                     {"k8s.pod.uid", pod.uid()},
                     {"k8s.node.name", pod.node()},
                     {"k8s.container.name", spec.container()},
                     {"remora.incident", incident.name},
                     {"remora.fault", spec.fault()},
                     {"remora.policy", spec.policy()},
                     {"remora.summary", spec.summary()},
                     {"remora.outcome", incident.status.phase()}};
  std::erase_if(root.attributes, [](const auto& attribute) { return attribute.second.empty(); });
  const bool well = incident.status.phase() == "Resolved";
  root.status = well ? otlp::SpanStatus::kOk : otlp::SpanStatus::kError;
  if (!well) root.status_message = spec.summary();
  for (const v1alpha1::SidecarHealing& healing : incident.status.sidecar()) {
    root.links.push_back({.trace_id = otlp::trace_id_of(healing.id()),
                          .span_id = otlp::span_id_of(healing.id(), otlp::heal_span),
                          .attributes = {{"remora.incident", healing.id()}}});
  }
  return root;
}

}  // namespace

std::vector<otlp::Span> incident_trace(const std::string& namespace_name,
                                       const IncidentRecord& incident) {
  std::vector<otlp::Span> spans = {root_of(namespace_name, incident)};
  const int64_t end_ns = spans.front().to_unix_ns;
  for (int i = 0; i < incident.status.steps_size(); ++i) {
    const v1alpha1::IncidentStep& step = incident.status.steps(i);
    otlp::Span span{.trace_id = spans.front().trace_id,
                    .span_id = otlp::span_id_of(incident.uid, std::to_string(i)),
                    .parent_span_id = spans.front().span_id,
                    .name = step.name(),
                    .from_unix_ns = unix_ns(step.started_at()),
                    .to_unix_ns = step.ended_at().empty() ? end_ns : unix_ns(step.ended_at())};
    span.attributes = {{"remora.state", step.state()}};
    if (!step.message().empty()) span.attributes.emplace_back("remora.outcome", step.message());
    if (step.state() == "failed") span.status = otlp::SpanStatus::kError;
    spans.push_back(std::move(span));
  }
  return spans;
}

}  // namespace remora::k8s
