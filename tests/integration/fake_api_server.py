"""An API server over TLS and HTTP/2 for controllers: any resource, by path, with versions, conflicts,
lists in pages, watches with bookmarks, merge patches of objects and of their status, evictions and
deletions with preconditions. A test can put objects in, make it forget old versions (410), refuse,
throttle, or take it away."""

import asyncio
import copy
import json
import re
import ssl
import subprocess
import threading
import urllib.parse

import h2.config
import h2.connection
import h2.events
from fake_rbac import HEALING, INSTALL, LINK, Rights

PAGE = 500
PATH = re.compile(r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
                  r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?$")


def status(code, reason, message):
    return code, {"kind": "Status", "code": code, "reason": reason, "message": message}


def merged(target, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def applied_responders(target, patch):
    """As an apply merges status.responders of an Eviction: by name (listMapKey)."""
    entries = {each["name"]: each for each in target["status"]["responders"]}
    for each in patch["status"]["responders"]:
        entries[each["name"]] = merged(entries.get(each["name"]), each)
    return {"status": {"responders": list(entries.values())}}


def identity(directory):
    """A certificate for 127.0.0.1 that is its own authority."""
    key, certificate = directory / "api.key", directory / "api.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", certificate,
                    "-days", "2", "-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    return key, certificate


class Store:
    """Objects by plural and key, and what happened to them."""

    def __init__(self):
        self.objects = {}  # plural: {(namespace, name): object}
        self.version = 1
        self.log = []  # (version, plural, type, object)
        self.forgotten = 0  # versions up to it are no longer known
        self.lives = 0

    def put(self, plural, thing):
        metadata = thing["metadata"]
        key = metadata.get("namespace"), metadata["name"]
        old = self.objects.setdefault(plural, {}).get(key)
        self.version += 1
        thing = copy.deepcopy(thing)
        self.lives += 0 if old else 1
        life = old["metadata"]["uid"] if old else f"uid-{self.lives}"
        thing["metadata"].setdefault("uid", life)
        thing["metadata"]["resourceVersion"] = str(self.version)
        self.objects[plural][key] = thing
        self.log.append((self.version, plural, "MODIFIED" if old else "ADDED", thing))
        return thing

    def remove(self, plural, key):
        thing = self.objects[plural].pop(key)
        self.version += 1
        thing = copy.deepcopy(thing)
        thing["metadata"]["resourceVersion"] = str(self.version)
        self.log.append((self.version, plural, "DELETED", thing))
        return thing

    def list(self, plural, namespace=None):
        return [thing for (where, _), thing in sorted(self.objects.get(plural, {}).items(),
                                                      key=lambda item: str(item[0]))
                if namespace in (None, where)]


class FakeApiServer:
    def __init__(self, directory):
        self.lock = threading.RLock()
        self.store = Store()
        self.requests = []  # (method, path, status)
        self.tokens = []  # of each request
        self.connections = 0
        self.rights = Rights(INSTALL, HEALING, LINK)
        self.refusals = {}  # path: status
        self.throttles = {}  # path: how often it still says "later"
        self.sidecars = {}  # token for sidecars: (namespace, pod, UID)
        self.protected = set()  # pods that a disruption budget protects
        self.bookmark_s = 1
        self.key, self.certificate = identity(directory)
        self.kubeconfig = directory / "kubeconfig"
        self.port = 0
        self._links = set()
        self._loop = self._thread = None

    # --- its life --------------------------------------------------------------------------------
    def start(self):
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()

        async def serve():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key)
            context.set_alpn_protocols(["h2"])
            server = await asyncio.get_running_loop().create_server(
                lambda: Link(self), "127.0.0.1", self.port, ssl=context)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            return server

        def run():
            server = self._loop.run_until_complete(serve())
            self._loop.run_forever()
            for link in list(self._links):
                link.transport.abort()
            server.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(10)
        self.kubeconfig.write_text(json.dumps({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {
                "server": f"https://127.0.0.1:{self.port}",
                "certificate-authority": str(self.certificate)}}],
            "users": [{"name": "u", "user": {"token": "secret"}}]}))
        return self

    def stop(self):
        if self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._thread = None

    # --- what a test does to it ------------------------------------------------------------------
    def put(self, plural, *things):
        with self.lock:
            return [self.store.put(plural, thing) for thing in things][-1]

    def remove(self, plural, namespace, name):
        with self.lock:
            return self.store.remove(plural, (namespace, name))

    def get(self, plural, namespace, name):
        with self.lock:
            return copy.deepcopy(self.store.objects.get(plural, {}).get((namespace, name)))

    def all(self, plural):
        with self.lock:
            return copy.deepcopy(self.store.list(plural))

    def forget(self):
        """Watches end, and none can go on from where it was: 410 (what etcd's compaction does)."""
        with self.lock:
            self.store.version += 1
            self.store.forgotten = self.store.version

    def writes(self, since=0):
        with self.lock:
            return [request for request in self.requests[since:] if request[0] not in ("GET", "WATCH")]

    # --- what it answers -------------------------------------------------------------------------
    def answer(self, method, path, options, content_type, body):
        with self.lock:
            code, text = self._answer(method, path, options, content_type, body)
            self.requests.append((method, path, code))
            return code, text

    def _answer(self, method, path, options, content_type, body):
        if path == "/version":
            return 200, {"gitVersion": "v1.34.4"}
        found = PATH.match(path)
        if not found:
            return status(404, "NotFound", "no such path")
        if not self.rights.allow(method, path):
            return status(403, "Forbidden", "forbidden")
        if path in self.refusals:
            return status(self.refusals[path], "InternalError", "refused by the test")
        if self.throttles.get(path, 0) > 0:
            self.throttles[path] -= 1
            return status(429, "TooManyRequests", "later")
        if path.startswith("/api/v1/namespaces/") and path.count("/") == 4:
            namespace, plural, name, sub = None, "namespaces", path.split("/")[4], None
        else:
            namespace, plural, name, sub = found.group("namespace", "plural", "name", "sub")
        things, key = self.store.objects.setdefault(plural, {}), (namespace, name)
        if method == "GET" and not name:
            return self._list(plural, namespace, options)
        if plural == "tokenreviews":
            return 201, self._review(json.loads(body)["spec"])
        if method == "POST" and not name:
            thing = json.loads(body)
            if (namespace, thing["metadata"]["name"]) in things:
                return status(409, "AlreadyExists", "already exists")
            return 201, self.store.put(plural, thing)
        if content_type == "application/apply-patch+yaml" and not sub and key not in things:
            # Whoever applies what isn't there creates it, by that name.
            if not self.rights.allow("POST", path):
                return status(403, "Forbidden", "forbidden")
            return 201, self.store.put(plural, json.loads(body))
        if key not in things:
            return status(404, "NotFound", f"{plural} {name} not found")
        old = things[key]
        if method == "GET":
            return 200, old
        wanted = json.loads(body)
        if sub == "eviction":
            return self._evict(old, wanted)
        if method == "DELETE":
            return self._delete(plural, old, wanted)
        if content_type == "application/json-patch+json":
            return self._json_patch(plural, old, wanted)
        if sub == "resize":
            return self._resize(old, wanted)
        version = wanted.get("metadata", {}).get("resourceVersion")
        if version not in (None, old["metadata"]["resourceVersion"]):
            return status(409, "Conflict", "the object has been modified")
        if method == "PUT":
            return 200, self.store.put(plural, wanted)
        assert content_type in ("application/merge-patch+json", "application/apply-patch+yaml")
        if plural == "evictions":
            new = merged(old, applied_responders(old, wanted))
        elif sub == "status" and content_type == "application/apply-patch+yaml":
            # One manager's: what it names no more is gone.
            new = old | {"status": wanted["status"]}
        else:
            new = merged(old, {"status": wanted.get("status")} if sub == "status" else wanted)
        return 200, old if new == old else self.store.put(plural, new)

    def _review(self, spec):
        if spec["token"] not in self.sidecars or spec["audiences"] != ["remora.dev/link"]:
            return {"status": {"authenticated": False, "error": "unknown token"}}
        namespace, pod, uid = self.sidecars[spec["token"]]
        claims = {"authentication.kubernetes.io/pod-name": [pod],
                  "authentication.kubernetes.io/pod-uid": [uid]}
        return {"status": {"authenticated": True, "audiences": spec["audiences"],
                           "user": {"username": f"system:serviceaccount:{namespace}:default",
                                    "extra": claims}}}

    def _list(self, plural, namespace, options):
        things = self.store.list(plural, namespace)
        begin = int(options.get("continue", 0))
        end = begin + min(PAGE, int(options.get("limit", PAGE)))
        metadata = {"resourceVersion": str(self.store.version)}
        if end < len(things):
            metadata["continue"] = str(end)
        return 200, {"metadata": metadata, "items": things[begin:end]}

    def _evict(self, pod, eviction):
        uid = eviction.get("deleteOptions", {}).get("preconditions", {}).get("uid")
        if uid not in (None, pod["metadata"]["uid"]):
            return status(409, "Conflict", "the uid is another")
        if pod["metadata"]["name"] in self.protected:
            return status(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's "
                                                  "disruption budget.")
        self.store.remove("pods", (pod["metadata"]["namespace"], pod["metadata"]["name"]))
        return 201, {"kind": "Status", "status": "Success"}

    def _json_patch(self, plural, old, steps):
        """RFC 6902, as far as it is used here."""
        new = copy.deepcopy(old)
        for step in steps:
            *way, last = [part.replace("~1", "/").replace("~0", "~")
                          for part in step["path"].split("/")[1:]]
            place = new
            for part in way:
                place = place[part]
            if step["op"] == "test" and place.get(last) != step["value"]:
                return status(422, "Invalid", "the server rejected our request due to an error")
            place[last] = step["value"]
        if new["spec"] != old["spec"]:
            new["metadata"]["generation"] += 1
        return 200, self.store.put(plural, new)

    def _resize(self, pod, wanted):
        """Container by container, as a strategic merge patch; it takes effect at once."""
        pod = copy.deepcopy(pod)
        for change in wanted["spec"]["containers"]:
            container = next(each for each in pod["spec"]["containers"]
                             if each["name"] == change["name"])
            container["resources"] = merged(container.get("resources"), change["resources"])
        return 200, self.store.put("pods", pod)

    def _delete(self, plural, thing, options):
        metadata = thing["metadata"]
        for name, value in options.get("preconditions", {}).items():
            if metadata[name] != value:
                return status(409, "Conflict", f"precondition {name}")
        return 200, self.store.remove(plural, (metadata.get("namespace"), metadata["name"]))

    def events_since(self, version, plural, namespace):
        """What a watch tells next, and the version up to which it has been told; None: gone."""
        with self.lock:
            if version < self.store.forgotten:
                return None, version
            news = []
            for at, what, kind, thing in reversed(self.store.log):
                if at <= version:
                    break
                if what == plural and namespace in (None, thing["metadata"].get("namespace")):
                    news.append((kind, thing))
            return news[::-1], self.store.version


class Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, api):
        self.api = api
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False,
                                                                       header_encoding="utf-8"))
        self.asked = {}  # stream: [headers, body]
        self.windows = asyncio.Event()
        self.open = True

    def connection_made(self, transport):
        self.transport = transport
        self.api.connections += 1
        self.api._links.add(self)
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, _):
        self.open = False
        self.windows.set()
        self.api._links.discard(self)

    def flush(self):
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.asked[event.stream_id] = [dict(event.headers), b""]
            elif isinstance(event, h2.events.DataReceived):
                self.asked[event.stream_id][1] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                asyncio.ensure_future(self.respond(event.stream_id))
            elif isinstance(event, h2.events.StreamReset):
                self.asked.pop(event.stream_id, None)
            self.windows.set()
        self.flush()

    async def send(self, stream, data, end=False):
        """False once the stream is gone."""
        while self.open and stream in self.asked:
            size = min(len(data), self.h2.local_flow_control_window(stream),
                       self.h2.max_outbound_frame_size)
            if size or not data:
                self.h2.send_data(stream, data[:size], end_stream=end and size == len(data))
                self.flush()
                data = data[size:]
                if not data:
                    return True
            else:
                self.windows.clear()
                await self.windows.wait()
        return False

    async def respond(self, stream):
        headers, body = self.asked[stream]
        target = urllib.parse.urlsplit(headers[":path"])
        options = {key: values[0] for key, values in urllib.parse.parse_qs(target.query).items()}
        self.api.tokens.append(headers.get("authorization"))
        if options.get("watch") == "1":
            return await self.watch(stream, target.path, options)
        code, answer = self.api.answer(headers[":method"], target.path, options,
                                       headers.get("content-type"), body)
        if not self.open or stream not in self.asked:
            return None
        extra = [("retry-after", "1")] if answer.get("message") == "later" else []
        self.h2.send_headers(stream, [(":status", str(code)),
                                      ("content-type", "application/json"), *extra])
        return await self.send(stream, json.dumps(answer).encode(), end=True)

    async def watch(self, stream, path, options):
        found = PATH.match(path)
        namespace, plural = found.group("namespace", "plural")
        version = int(options["resourceVersion"])
        if not self.api.rights.allow("WATCH", path):
            self.api.requests.append(("WATCH", path, 403))
            self.h2.send_headers(stream, [(":status", "403"), ("content-type", "application/json")])
            refused = status(403, "Forbidden", "forbidden")[1]
            return await self.send(stream, json.dumps(refused).encode(), end=True)
        self.api.requests.append(("WATCH", path, version))
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
        self.flush()
        quiet = 0.0
        while self.open and stream in self.asked:
            news, version = self.api.events_since(version, plural, namespace)
            if news is None:
                gone = status(410, "Expired", "too old resource version")[1]
                line = json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n"
                return await self.send(stream, line, end=True)
            if not news and quiet >= self.api.bookmark_s:
                news = [("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})]
            quiet = 0.0 if news else quiet + 0.02
            text = b"".join(json.dumps({"type": kind, "object": thing}).encode() + b"\n"
                            for kind, thing in news)
            if text and not await self.send(stream, text):
                return None
            await asyncio.sleep(0.02)
        return None
