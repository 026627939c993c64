"""A receiver of OTLP/HTTP that reads with OpenTelemetry's own schema: what doesn't fit it is answered 400. GET
/spans tells what came."""

import base64
import http.server
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

SPANS, REFUSED = [], []
IDS = ("traceId", "spanId", "parentSpanId")


def with_bytes(value):
    """OTLP's JSON has ids in hexadecimal where protobuf's has base64."""
    if isinstance(value, list):
        return [with_bytes(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: base64.b64encode(bytes.fromhex(each)).decode() if key in IDS else with_bytes(each)
            for key, each in value.items()}


def attributes(thing):
    return {each.key: each.value.string_value for each in thing.attributes}


def keep(body):
    request = trace_service_pb2.ExportTraceServiceRequest()
    json_format.ParseDict(with_bytes(json.loads(body)), request)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                assert len(span.trace_id) == 16 and len(span.span_id) == 8
                assert span.start_time_unix_nano <= span.end_time_unix_nano
                SPANS.append({
                    "resource": attributes(resource.resource), "name": span.name,
                    "trace": span.trace_id.hex(), "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(), "attributes": attributes(span),
                    "status": span.status.code,
                    "links": [[link.trace_id.hex(), link.span_id.hex()] for link in span.links]})


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, thing):
        body = json.dumps(thing).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            assert self.path == "/v1/traces", self.path
            keep(body)
        except Exception as error:  # pylint: disable=broad-except
            REFUSED.append(repr(error))
            return self.answer(400, {"message": repr(error)})
        return self.answer(200, {})

    def do_GET(self):
        self.answer(200, {"spans": SPANS, "refused": REFUSED})


http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
