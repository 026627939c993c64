"""The trace of a healing, as an OpenTelemetry collector gets it over OTLP/HTTP."""

import http.server
import json
import os
import signal
import threading
import time

import pytest
from remora import free_port, wait_for

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RETRY_WAIT_S = 20


class Collector:
    """Takes what is sent to it; a test can make it refuse, and begin late."""

    def __init__(self, port=0):
        self.bodies, self.refusals = [], []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status = collector.refusals.pop(0) if collector.refusals else 200
                if status == 200:
                    collector.bodies.append((self.path, self.headers["content-type"],
                                             json.loads(body)))
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def spans(self):
        """By name, of the only trace that came."""
        wait_for(lambda: self.bodies, "a trace", RETRY_WAIT_S)
        assert len(self.bodies) == 1
        (resource,) = self.bodies[0][2]["resourceSpans"]
        (scope,) = resource["scopeSpans"]
        return {span["name"]: span for span in scope["spans"]}


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.stop()


def settings(port):
    """As a pod has them by annotation or policy."""
    return {"telemetry": {"otlpEndpoint": f"http://127.0.0.1:{port}"}}


def environment(port):
    return os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                         "OTEL_SERVICE_NAME": "shop",
                         "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"}


def kill_agent(remora):
    os.kill(remora.agent_pid(), signal.SIGKILL)
    return remora.wait_incident("crash")


def attributes(thing):
    return {each["key"]: each["value"]["stringValue"] for each in thing["attributes"]}


def test_a_healing_is_one_trace_with_a_span_for_each_part(remora, collector):
    remora.start_ready(env=environment(collector.port))
    kill_agent(remora)
    spans = collector.spans()
    assert sorted(spans) == ["act", "decide", "detect", "heal", "ready"]
    path, content_type, body = collector.bodies[0]
    assert (path, content_type) == ("/v1/traces", "application/json")
    about = attributes(body["resourceSpans"][0]["resource"])
    assert about["service.name"] == "shop"
    assert about["deployment.environment"] == "test"
    heal = spans["heal"]
    assert attributes(heal)["remora.fault"] == "crash"
    assert attributes(heal)["remora.outcome"] == "recovered"
    assert heal["status"] == {"code": 1}
    assert len(heal["traceId"]) == 32 and len(heal["spanId"]) == 16
    at = int(heal["startTimeUnixNano"])
    for name in ("detect", "decide", "act", "ready"):
        span = spans[name]
        assert (span["traceId"], span["parentSpanId"]) == (heal["traceId"], heal["spanId"])
        assert int(span["startTimeUnixNano"]) == at
        at = int(span["endTimeUnixNano"])
    assert at <= int(heal["endTimeUnixNano"]) <= time.time_ns()
    assert [event["name"] for event in heal["events"]] == ["restart"]


def test_the_trace_links_to_the_requests_that_were_under_way(remora, collector):
    remora.start_ready(env=environment(collector.port))
    answer = remora.get("/crash?times=1&id=c", headers=[("traceparent", f"00-{TRACE}-{SPAN}-01")])
    assert answer.status == 200
    (link,) = collector.spans()["heal"]["links"]
    assert (link["traceId"], link["spanId"]) == (TRACE, SPAN)
    assert attributes(link)["remora.request"].startswith("GET /crash, ")


def test_what_the_collector_cant_take_now_is_sent_again(remora, collector):
    collector.refusals = [503, 429]
    remora.start_ready(env=environment(collector.port))
    kill_agent(remora)
    assert "heal" in collector.spans()
    assert collector.refusals == []


def test_a_collector_that_comes_late_gets_what_happened(remora):
    port = free_port()
    remora.start_ready(env=environment(port))
    kill_agent(remora)
    assert remora.get("/ok").status == 200
    late = Collector(port)
    try:
        assert "heal" in late.spans()
    finally:
        late.stop()


def test_what_the_collector_refuses_is_dropped_and_told(remora, collector):
    collector.refusals = [400]
    remora.start_ready(env=environment(collector.port))
    kill_agent(remora)
    remora.wait_log("trace_lost")
    kill_agent_again(remora)
    wait_for(lambda: collector.bodies, "the next one", RETRY_WAIT_S)


def kill_agent_again(remora):
    os.kill(remora.agent_pid(), signal.SIGKILL)
    remora.wait_incident("crash", count=2)


def test_a_setting_names_the_collector_and_wins_over_the_environment(remora, collector):
    remora.start_ready(config=settings(collector.port), env=environment(free_port()))
    kill_agent(remora)
    assert "heal" in collector.spans()
    assert collector.bodies[0][0] == "/v1/traces"


def test_a_collector_that_is_named_later_gets_what_happens_then(remora, collector):
    remora.start_ready(config={})
    kill_agent(remora)
    remora.write_config(settings(collector.port))
    remora.signal(signal.SIGHUP)
    remora.wait_log("reloaded")
    kill_agent_again(remora)
    assert len(collector.spans()) == 5


def test_an_endpoint_that_cant_be_used_is_told_and_nothing_else_suffers(remora):
    remora.start_ready(env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://127.0.0.1:4317"})
    assert "http://HOST:4318" in remora.wait_log("traces_off")["reason"]
    assert remora.get("/ok").status == 200
