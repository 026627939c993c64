// Every key of the schema reaches its option. A key that is added to the schema makes this fail
// until it is wired and has a line here.
#include <functional>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/schema.h"
#include "tests/unit/app/all_options.h"

namespace remora {
namespace {

using namespace std::chrono_literals;
using Steps = std::vector<HealStep>;

struct Case {
  std::vector<std::string> keys;
  std::string yaml;
  // True of the options made of yaml, false of those made of an empty configuration.
  std::function<bool(const AllOptions&)> reached;
};

std::vector<Case> agent_cases() {
  return {
      {{"agent.command"},
       "agent: {command: [python3, agent.py]}",
       [](const AllOptions& o) {
         return o.child.command == std::vector<std::string>{"python3", "agent.py"};
       }},
      {{"agent.appPort"},
       "agent: {appPort: 8123}",
       [](const AllOptions& o) {
         return o.proxy.upstream.address.port() == 8123 && o.probes.startup &&
                std::get<TcpProbe>(o.probes.startup->action).address.port() == 8123;
       }},
      {{"agent.appHost"},
       "agent: {appPort: 1, appHost: 127.0.0.9}",
       [](const AllOptions& o) { return o.proxy.upstream.address.to_string() == "127.0.0.9:1"; }},
      {{"agent.appProtocol"},
       "agent: {appProtocol: http2}",
       [](const AllOptions& o) { return o.proxy.router.app_protocol == AppProtocol::kHttp2; }},
      {{"agent.env"},
       "agent: {env: {A: '1'}}",
       [](const AllOptions& o) { return o.child.environment == std::vector<std::string>{"A=1"}; }},
      {{"agent.workingDir"},
       "agent: {workingDir: /srv}",
       [](const AllOptions& o) { return o.child.working_dir == "/srv"; }},
      {{"agent.stateDir"},
       "agent: {stateDir: /data}",
       [](const AllOptions& o) {
         return o.child.environment == std::vector<std::string>{"REMORA_STATE_DIR=/data"};
       }},
      {{"agent.terminationGracePeriod"},
       "agent: {terminationGracePeriod: 7s}",
       [](const AllOptions& o) { return o.supervisor.stop_grace == 7s; }},
      {{"agent.logTailBytes"},
       "agent: {logTailBytes: 1KiB}",
       [](const AllOptions& o) { return o.child.log_tail_bytes == 1024; }},
      {{"log.level"},
       "log: {level: error}",
       [](const AllOptions& o) { return o.log == LogLevel::kError; }},
  };
}

std::vector<Case> inbound_cases() {
  return {
      {{"inbound.listen"},
       "inbound: {listen: '127.0.0.1:9'}",
       [](const AllOptions& o) { return o.proxy.listen.to_string() == "127.0.0.1:9"; }},
      {{"inbound.protocol"},
       "inbound: {protocol: http1}",
       [](const AllOptions& o) { return o.proxy.protocol == ListenerProtocol::kHttp1; }},
      {{"inbound.limits.requestHeaderBytesMax"},
       "inbound: {limits: {requestHeaderBytesMax: 2KiB}}",
       [](const AllOptions& o) { return o.proxy.downstream_limits.header_bytes_max == 2048; }},
      {{"inbound.limits.requestBodyBytesMax"},
       "inbound: {limits: {requestBodyBytesMax: 1TiB}}",
       [](const AllOptions& o) {
         return o.filters.limits.request_body_bytes_max == uint64_t{1} << 40;
       }},
      {{"inbound.limits.requestsInFlightMax"},
       "inbound: {limits: {requestsInFlightMax: 3}}",
       [](const AllOptions& o) { return o.filters.limits.requests_in_flight_max == 3; }},
      {{"inbound.limits.connectionsMax"},
       "inbound: {limits: {connectionsMax: 4}}",
       [](const AllOptions& o) { return o.proxy.connections_max == 4; }},
      {{"inbound.limits.upstreamConnectionsMax"},
       "inbound: {limits: {upstreamConnectionsMax: 5}}",
       [](const AllOptions& o) { return o.proxy.upstream.connections_max == 5; }},
      {{"inbound.timeouts.request"},
       "inbound: {timeouts: {request: 1500ms}}",
       [](const AllOptions& o) { return o.filters.deadline.request_timeout == 1500ms; }},
      {{"inbound.timeouts.idle"},
       "inbound: {timeouts: {idle: 11s}}",
       [](const AllOptions& o) { return o.proxy.timeouts.idle == 11s; }},
      {{"inbound.timeouts.headers"},
       "inbound: {timeouts: {headers: 12s}}",
       [](const AllOptions& o) { return o.proxy.timeouts.headers == 12s; }},
      {{"inbound.timeouts.connect"},
       "inbound: {timeouts: {connect: 13s}}",
       [](const AllOptions& o) {
         return o.proxy.timeouts.connect == 13s && o.proxy.upstream.connect_timeout == 13s;
       }},
      {{"inbound.timeouts.detect"},
       "inbound: {timeouts: {detect: 9s}}",
       [](const AllOptions& o) { return o.proxy.timeouts.detect == 9s; }},
      {{"inbound.timeouts.drain"},
       "inbound: {timeouts: {drain: 14s}}",
       [](const AllOptions& o) { return o.supervisor.drain_wait == 14s; }},
      {{"inbound.hold.wait"},
       "inbound: {hold: {wait: 15s}}",
       [](const AllOptions& o) { return o.proxy.exchange.hold_wait == 15s; }},
      {{"inbound.hold.replayBodyBytesMax"},
       "inbound: {hold: {replayBodyBytesMax: 10}}",
       [](const AllOptions& o) { return o.proxy.exchange.replay_body_bytes_max == 10; }},
      {{"inbound.hold.replaysMax"},
       "inbound: {hold: {replaysMax: 0}}",
       [](const AllOptions& o) { return o.proxy.exchange.replays_max == 0; }},
      {{"inbound.idempotent.method", "inbound.idempotent.pathPrefix"},
       "inbound: {idempotent: [{method: POST, pathPrefix: /a}, {method: PUT, pathPrefix: /b}]}",
       [](const AllOptions& o) {
         const auto& routes = o.proxy.router.idempotent;
         return routes.size() == 2 && routes[0].method == "POST" && routes[0].path_prefix == "/a" &&
                routes[1].method == "PUT" && routes[1].path_prefix == "/b";
       }},
      {{"inbound.accessLog.enabled"},
       "inbound: {accessLog: {enabled: true}}",
       [](const AllOptions& o) { return o.filters.access_log; }},
  };
}

std::vector<Case> healing_cases() {
  return {
      {{"detection.hangWindow"},
       "detection: {hangWindow: 16s}",
       [](const AllOptions& o) {
         return o.supervisor.detection.hang_window == 16s && o.progress.hang_window == 16s;
       }},
      {{"detection.sampleInterval"},
       "detection: {sampleInterval: 250ms}",
       [](const AllOptions& o) { return o.progress.sample_interval == 250ms; }},
      {{"detection.deadlock"},
       "detection: {deadlock: false}",
       [](const AllOptions& o) {
         return !o.supervisor.detection.deadlock && !o.progress.deadlock;
       }},
      {{"healing.ladders.fault", "healing.ladders.steps"},
       "healing: {ladders: [{fault: hang, steps: [restart, restart, give_up]}]}",
       [](const AllOptions& o) {
         return o.supervisor.policy.ladders[static_cast<size_t>(FaultKind::kHang)] ==
                Steps{HealStep::kRestart, HealStep::kRestart, HealStep::kGiveUp};
       }},
      {{"healing.backoff.base"},
       "healing: {backoff: {base: 2s}}",
       [](const AllOptions& o) { return o.supervisor.policy.backoff_base == 2s; }},
      {{"healing.backoff.step"},
       "healing: {backoff: {step: 3s}}",
       [](const AllOptions& o) { return o.supervisor.policy.backoff_step == 3s; }},
      {{"healing.backoff.max"},
       "healing: {backoff: {max: 4s}}",
       [](const AllOptions& o) { return o.supervisor.policy.backoff_max == 4s; }},
      {{"healing.budget.restartsMax"},
       "healing: {budget: {restartsMax: 6}}",
       [](const AllOptions& o) { return o.supervisor.policy.restarts_max == 6; }},
      {{"healing.budget.window"},
       "healing: {budget: {window: 17s}}",
       [](const AllOptions& o) { return o.supervisor.policy.restarts_window == 17s; }},
      {{"healing.paused"},
       "healing: {paused: true}",
       [](const AllOptions& o) { return o.supervisor.policy.paused; }},
      {{"healing.stepTimeout"},
       "healing: {stepTimeout: 18s}",
       [](const AllOptions& o) { return o.supervisor.policy.step_timeout == 18s; }},
      {{"healing.stableAfter"},
       "healing: {stableAfter: 19s}",
       [](const AllOptions& o) { return o.supervisor.policy.stable_after == 19s; }},
      {{"snapshots.store"},
       "agent: {stateDir: /data}\nsnapshots: {store: /store}",
       [](const AllOptions& o) { return o.supervisor.policy.can_restore; }},
  };
}

using ProbePart = std::optional<ProbeSpec> ProbeSet::*;

// probe: the key. body: what stands in it. reached is asked only when there is such a probe.
Case probe_case(const std::string& probe, ProbePart part, std::vector<std::string> keys,
                const std::string& body, std::function<bool(const ProbeSpec&)> reached) {
  for (std::string& key : keys) key = probe + "." + key;
  return {std::move(keys), "agent: {appPort: 8000}\n" + probe + ": {" + body + "}",
          [part, reached = std::move(reached)](const AllOptions& o) {
            return (o.probes.*part).has_value() && reached(*(o.probes.*part));
          }};
}

std::vector<Case> probe_cases(const std::string& probe, ProbePart part) {
  const auto one = [&](std::vector<std::string> keys, const std::string& body, auto reached) {
    return probe_case(probe, part, std::move(keys), body, reached);
  };
  const bool threshold = probe == "readinessProbe";  // 1 for the others, as in Kubernetes
  return {
      one({"httpGet.scheme"}, "httpGet: {port: 81, scheme: HTTPS}",
          [](const ProbeSpec& spec) {
            const auto* http = std::get_if<HttpProbe>(&spec.action);
            return http != nullptr && http->tls;
          }),
      one({"httpGet.path", "httpGet.port", "httpGet.host", "httpGet.httpHeaders.name",
           "httpGet.httpHeaders.value"},
          "httpGet: {path: '/h?a', port: 81, host: 127.0.0.2, httpHeaders: [{name: A, value: b}]}",
          [](const ProbeSpec& spec) {
            const auto* http = std::get_if<HttpProbe>(&spec.action);
            return http != nullptr && http->path == "/h?a" &&
                   http->address.to_string() == "127.0.0.2:81" && http->headers.size() == 1 &&
                   http->headers[0] == std::pair<std::string, std::string>("A", "b");
          }),
      one({"tcpSocket.port", "tcpSocket.host"}, "tcpSocket: {port: 82, host: 127.0.0.3}",
          [](const ProbeSpec& spec) {
            const auto* tcp = std::get_if<TcpProbe>(&spec.action);
            return tcp != nullptr && tcp->address.to_string() == "127.0.0.3:82";
          }),
      one({"exec.command"}, "exec: {command: [test, -e, /x]}",
          [](const ProbeSpec& spec) {
            const auto* exec = std::get_if<ExecProbe>(&spec.action);
            return exec != nullptr && exec->command == std::vector<std::string>{"test", "-e", "/x"};
          }),
      one({"grpc.port", "grpc.service"}, "grpc: {port: 83, service: s}",
          [](const ProbeSpec& spec) {
            const auto* grpc = std::get_if<GrpcProbe>(&spec.action);
            return grpc != nullptr && grpc->address.to_string() == "127.0.0.1:83" &&
                   grpc->service == "s";
          }),
      one({"initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"},
          "tcpSocket: {}, initialDelaySeconds: 2, periodSeconds: 3, timeoutSeconds: 4, "
          "failureThreshold: 5",
          [](const ProbeSpec& spec) {
            return spec.initial_delay == 2s && spec.period == 3s && spec.timeout == 4s &&
                   spec.failure_threshold == 5;
          }),
      one({"successThreshold"},
          threshold ? "tcpSocket: {}, successThreshold: 6" : "tcpSocket: {}, successThreshold: 1",
          [threshold](const ProbeSpec& spec) {
            return spec.success_threshold == (threshold ? 6u : 1u);
          }),
  };
}

std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (std::vector<Case> part : {agent_cases(), inbound_cases(), healing_cases(),
                                 probe_cases("startupProbe", &ProbeSet::startup),
                                 probe_cases("livenessProbe", &ProbeSet::liveness),
                                 probe_cases("readinessProbe", &ProbeSet::readiness)}) {
    for (Case& one : part) all.push_back(std::move(one));
  }
  return all;
}

TEST(EveryKeyTest, ReachesItsOption) {
  const AllOptions defaults = options_of(config_of(""));
  for (const Case& c : all_cases()) {
    EXPECT_TRUE(c.reached(options_of(config_of(c.yaml)))) << c.yaml;
    EXPECT_FALSE(c.reached(defaults)) << "proves nothing: " << c.yaml;
  }
}

void collect_keys(const config::MessageDescriptor& type, const std::string& prefix,
                  std::set<std::string>& out) {
  for (int i = 0; i < type.field_count(); ++i) {
    const config::FieldDescriptor& field = *type.field(i);
    const std::string key = prefix + config::key_of(field);
    if (config::field_form(field) == config::FieldForm::kMessage) {
      collect_keys(*field.message_type(), key + ".", out);
    } else {
      out.insert(key);
    }
  }
}

TEST(EveryKeyTest, HasALine) {
  std::set<std::string> missing;
  collect_keys(*config::Config::descriptor(), "", missing);
  for (const Case& c : all_cases()) {
    for (const std::string& key : c.keys)
      EXPECT_EQ(missing.erase(key), 1u) << key << ": no such key";
  }
  // What only a pod has, read where the pod is put together.
  std::erase_if(missing, [](const std::string& key) {
    return key.starts_with("interception.") || key.starts_with("outbound.") ||
           key.starts_with("pod.") || key == "inbound.timeouts.drainDelay";
  });
  // Read by app.cc and snapshots.cc themselves.
  EXPECT_THAT(missing, testing::UnorderedElementsAre(
                           "healing.alert.exec", "snapshots.interval", "snapshots.keepLast",
                           "snapshots.exclude", "snapshots.stopMax", "admin.socket", "admin.listen",
                           "telemetry.otlpEndpoint", "telemetry.otlpCertificate"));
}

}  // namespace
}  // namespace remora
