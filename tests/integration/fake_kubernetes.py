"""As much of a Kubernetes API server as the operator talks to, on a port of loopback: Secrets, the
webhook configuration, namespaces, pods and events, with versions and conflicts as the real one has
them. It keeps every request; a test can make it refuse, or wait, at a path."""

import base64
import copy
import http.server
import json
import re
import socket
import threading
import urllib.parse

from fake_rbac import Rights

CONFIG_PATH = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/remora-webhook"
SECRET_PATH = "/api/v1/namespaces/remora-system/secrets/remora-webhook-certificate"


def webhook(name):
    return {"name": name, "clientConfig": {"service": {"namespace": "remora-system",
                                                       "name": "remora-webhook", "port": 443}}}


def namespace(name, **labels):
    return {"metadata": {"name": name, "labels": labels}}


def selects(selector, labels):
    """The two forms of a label selector that the operator uses."""
    if not selector:
        return True
    if found := re.fullmatch(r"(\S+)=(\S+)", selector):
        return labels.get(found[1]) == found[2]
    found = re.fullmatch(r"(\S+) notin \((\S+)\)", selector)
    return labels.get(found[1]) != found[2]


class FakeKubernetes:
    def __init__(self, version="v1.34.4"):
        self.lock = threading.RLock()
        self.version = version
        self.objects = {}  # by path
        self.events = {}  # by (namespace, name)
        self.pods = []
        self.requests = []  # (method, path with query, status)
        self.rights = Rights()
        self.refusals = {}  # "METHOD /path prefix": status
        self.before_answer = lambda method, path, status: None
        self.connections = set()
        self._counter = 0
        self._server = None
        self._thread = None
        self.port = 0
        self.put(CONFIG_PATH, {"kind": "MutatingWebhookConfiguration",
                               "metadata": {"name": "remora-webhook"},
                               "webhooks": [webhook("label.remora.dev"),
                                            webhook("namespace.remora.dev")]})
        self.add_namespace("default")

    # --- its life --------------------------------------------------------------------------------
    def start(self):
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # As Go does it; else head and body, two writes, meet a delayed acknowledgement.
            disable_nagle_algorithm = True

            def handle_any(self):
                size = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(size)
                status, answer = fake.serve(self.command, self.path, body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def setup(self):
                super().setup()
                fake.connections.add(self.connection)

            def finish(self):
                fake.connections.discard(self.connection)
                super().finish()

            do_GET = do_POST = do_PUT = do_PATCH = handle_any

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that has gone

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,),
                                        daemon=True)
        self._thread.start()
        return self

    def stop(self):
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
            # An API server that ends takes its connections along.
            for connection in list(self.connections):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # gone already

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    # --- what it holds ---------------------------------------------------------------------------
    def put(self, path, thing):
        with self.lock:
            self._counter += 1
            thing = copy.deepcopy(thing)
            thing["metadata"]["resourceVersion"] = str(self._counter)
            self.objects[path] = thing
            return thing

    def get(self, path):
        with self.lock:
            return copy.deepcopy(self.objects.get(path))

    def add_namespace(self, name, **labels):
        self.put(f"/api/v1/namespaces/{name}", namespace(name, **labels))

    def bundles(self):
        """The caBundle of each webhook, as PEM text."""
        return [base64.b64decode(hook["clientConfig"].get("caBundle", "")).decode()
                for hook in self.get(CONFIG_PATH)["webhooks"]]

    def set_bundle(self, index, pem):
        config = self.get(CONFIG_PATH)
        config["webhooks"][index]["clientConfig"]["caBundle"] = base64.b64encode(
            pem.encode()).decode()
        self.put(CONFIG_PATH, config)

    def secret(self):
        """The Secret's texts; None when there is none."""
        stored = self.get(SECRET_PATH)
        return stored and {key: base64.b64decode(value).decode()
                           for key, value in stored["data"].items()}

    def set_secret(self, texts):
        stored = self.get(SECRET_PATH)
        stored["data"] = {key: base64.b64encode(text.encode()).decode()
                          for key, text in texts.items()}
        self.put(SECRET_PATH, stored)

    def asked(self, method, path):
        """The statuses that such requests got so far."""
        with self.lock:
            return [status for m, p, status in self.requests
                    if m == method and p.split("?")[0] == path]

    # --- what it answers -------------------------------------------------------------------------
    def serve(self, method, target, body):
        path, _, query = target.partition("?")
        options = {key: values[0] for key, values in urllib.parse.parse_qs(query).items()}
        with self.lock:
            refused = next((status for prefix, status in self.refusals.items()
                            if f"{method} {path}".startswith(prefix)), None)
            if refused:
                status, answer = refused, {"kind": "Status", "message": "refused by the test"}
            elif not self.rights.allow(method, path):
                status, answer = 403, {"kind": "Status", "message": "forbidden"}
            else:
                status, answer = self._answer(method, path, options, body)
            self.requests.append((method, target, status))
        self.before_answer(method, path, status)
        return status, answer

    def _answer(self, method, path, options, body):
        if method == "GET":
            return self._read(path, options)
        thing = json.loads(body)
        if method == "POST" and path.endswith("/events"):
            return self._add_event(path, thing)
        if method == "POST":
            path = f"{path}/{thing['metadata']['name']}"
            if path in self.objects:
                return 409, {"kind": "Status", "message": "already exists"}
            return 201, self.put(path, thing)
        if path not in self.objects:
            return 404, {"kind": "Status", "message": "not found"}
        if method == "PUT":
            version = thing["metadata"].get("resourceVersion")
            if version not in (None, self.objects[path]["metadata"]["resourceVersion"]):
                return 409, {"kind": "Status", "message": "the object has been modified"}
            return 200, self.put(path, thing)
        return self._patch(path, thing)

    def _read(self, path, options):
        if path == "/version":
            return 200, {"major": "1", "gitVersion": self.version}
        if path == "/api/v1/namespaces":
            prefix = "/api/v1/namespaces/"
            return self._page([thing for key, thing in self.objects.items()
                               if key.startswith(prefix) and "/" not in key[len(prefix):]],
                              options)
        if found := re.fullmatch(r"/api/v1(?:/namespaces/([^/]+))?/pods", path):
            selector = options.get("labelSelector", "")
            return self._page([pod for pod in self.pods
                               if found[1] in (None, pod["metadata"]["namespace"])
                               and selects(selector, pod["metadata"].get("labels", {}))], options)
        thing = self.objects.get(path)
        if thing is None:
            return 404, {"kind": "Status", "message": "not found"}
        return 200, thing | ({"kind": "Secret"} if "/secrets/" in path else {})

    @staticmethod
    def _page(things, options):
        begin = int(options.get("continue", 0))
        end = begin + min(int(options["limit"]), 3)  # smaller pages than asked for are allowed
        metadata = {"continue": str(end)} if end < len(things) else {}
        return 200, {"metadata": metadata, "items": things[begin:end]}

    def _add_event(self, path, event):
        key = (path.split("/")[4], event["metadata"]["name"])
        assert event["involvedObject"]["namespace"] == event["metadata"]["namespace"] == key[0]
        if key in self.events:
            return 409, {"kind": "Status", "message": "already exists"}
        self.events[key] = event
        return 201, event

    def _patch(self, path, operations):
        thing = self.get(path)
        for operation in operations:
            *parents, last = operation["path"].split("/")[1:]
            target = thing
            for step in parents:
                target = target[int(step)] if isinstance(target, list) else target[step]
            if operation["op"] == "add":
                target[last] = operation["value"]
            elif target.get(last) != operation["value"]:
                return 422, {"kind": "Status", "message": "the test of the patch failed"}
        return 200, self.put(path, thing)
