"""Base-URL gateways: a client library that knows only a base URL goes through Remora, which speaks TLS
to the real server and checks who it is."""

import json
import os
import socket
import ssl
import subprocess
import threading

import pytest

from remora import UnixConnection, free_port, run_cli, wait_for

CHUNKS = [f"data: {n}\n\n".encode() for n in range(5)]


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """A server's certificate for localhost, made by an authority of its own."""
    folder = tmp_path_factory.mktemp("identity")
    ca, key, request, certificate = (folder / name for name in ("ca.pem", "key", "csr", "crt"))
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "ca.key", "-out", ca,
            "-subj", "/CN=test authority", "-days", "2")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=x")
    (folder / "ext").write_text("subjectAltName=DNS:localhost")
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", folder / "ca.key", "-out", certificate,
            "-days", "2", "-extfile", folder / "ext", "-CAcreateserial")
    return ca, certificate, key


class Server:
    """HTTPS; remembers the heads of its requests. /v1/stream sends pieces when told to, /v1/ws echoes
    what comes after an upgrade, /v1/lost hangs up."""

    def __init__(self, certificate, key):
        self.heads = []
        self.more = threading.Semaphore(0)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Once more does no harm."""
        listener, self._listener = self._listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the accept that close alone leaves sleeping
            listener.close()

    def _accept(self):
        listener = self._listener
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw):
        try:
            with self._context.wrap_socket(raw, server_side=True) as stream:
                while self._answer(stream, stream.makefile("rb")):
                    pass
        except OSError:
            pass

    def _answer(self, stream, reader):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                return False
            head += line
        text = head.decode()
        self.heads.append(text)
        length = next((int(line.split(":")[1]) for line in text.splitlines()
                       if line.lower().startswith("content-length:")), 0)
        body = reader.read(length)
        path = text.split()[1]
        if path == "/v1/lost":
            return False
        if path == "/v1/stream":
            stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                           b"transfer-encoding: chunked\r\n\r\n")
            for chunk in CHUNKS:
                self.more.acquire()
                stream.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            stream.sendall(b"0\r\n\r\n")
        elif path == "/v1/ws":
            stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
                           b"connection: upgrade\r\n\r\n")
            stream.sendall(reader.read1(100))
            return False
        else:
            reply = json.dumps({"path": path, "body": body.decode(), "id": "chatcmpl-1",
                                "object": "chat.completion", "created": 1, "model": "m",
                                "choices": [{"index": 0, "finish_reason": "stop", "message": {
                                    "role": "assistant", "content": "hello"}}]}).encode()
            stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                           b"content-length: %d\r\n\r\n%s" % (len(reply), reply))
        return True


@pytest.fixture
def server(identity):
    one = Server(*identity[1:])
    yield one
    one.close()


@pytest.fixture
def gateway(remora, server, identity):
    """The port, with Remora and its agent running."""
    return start(remora, server, ca=identity[0])


def start(remora, server, ca, host="localhost"):
    port = free_port()
    outbound = {"proxyPort": free_port(), "gatewayPort": port,
                "gateways": [f"OPENAI_BASE_URL=https://{host}:{server.port}/v1"]}
    if ca:
        outbound["trustedCertificates"] = str(ca)
    remora.start_ready(config={"outbound": outbound})
    return port


def curl(port, path, *words):
    done = subprocess.run(["curl", "-sS", "--max-time", "20", "--noproxy", "*", *words,
                           f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def metric(remora, name, *labels):
    connection = UnixConnection(os.path.join(remora.store, "admin.sock"))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return sum(float(line.split()[-1]) for line in text.splitlines()
               if line.startswith(name + "{") and all(label in line for label in labels))


def test_the_agent_is_told_where_its_gateway_is(remora, gateway):
    with open(f"/proc/{remora.agent_pid()}/environ", encoding="utf-8") as environ:
        variables = dict(one.split("=", 1) for one in environ.read().split("\0") if one)
    assert variables["OPENAI_BASE_URL"] == f"http://127.0.0.1:{gateway}/v1"


def test_a_call_reaches_the_real_server_under_its_own_name(remora, gateway, server):
    reply = json.loads(curl(gateway, "/v1/models?x=1", "-H", "Authorization: Bearer hush-hush",
                            "-d", "question"))
    assert (reply["path"], reply["body"]) == ("/v1/models?x=1", "question")
    assert f"Host: localhost:{server.port}\r\n" in server.heads[0]
    assert "Bearer hush-hush" in server.heads[0]
    assert "hush-hush" not in remora.log_text()
    wait_for(lambda: metric(remora, "remora_http_requests_total", 'agent="OPENAI_BASE_URL"',
                            'listener="gateway"', 'code_class="2xx"') == 1, "its count")


def test_connections_to_the_server_are_kept(remora, gateway, server):
    for _ in range(3):
        curl(gateway, "/v1/models")
    assert len(server.heads) == 3
    assert metric(remora, "remora_upstream_connections", 'listener="gateway"') == 1


def test_event_stream_passes_piece_by_piece(gateway, server):
    with socket.create_connection(("127.0.0.1", gateway), timeout=20) as caller:
        caller.sendall(b"POST /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        seen = b""
        for chunk in CHUNKS:
            assert chunk not in seen
            server.more.release()
            while chunk not in seen:
                seen += caller.recv(65536)


def test_websocket_passes(gateway):
    with socket.create_connection(("127.0.0.1", gateway), timeout=20) as caller:
        caller.sendall(b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
                       b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                       b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += caller.recv(65536)
        assert head.startswith(b"HTTP/1.1 101")
        frame = b"\x82\x03abc"
        caller.sendall(frame)
        assert caller.recv(100) == frame


def problem(port, path, *words):
    return json.loads(curl(port, path, *words))


@pytest.mark.parametrize("ca, host", [(False, "localhost"), (True, "127.0.0.1")],
                         ids=["unknown authority", "another name"])
def test_a_server_that_is_not_who_it_should_be_gets_nothing(remora, server, identity, ca, host):
    port = start(remora, server, ca=identity[0] if ca else None, host=host)
    answer = problem(port, "/v1/models", "-H", "Authorization: Bearer hush-hush")
    assert answer["status"] == 502
    assert answer["type"].endswith("/server-unreachable")
    assert "certificate" in answer["detail"]
    assert server.heads == []


def test_a_server_that_is_not_there_or_hangs_up_is_told_at_once(remora, gateway, server):
    answer = problem(gateway, "/v1/lost", "-d", "paid for")
    assert answer["type"].endswith("/server-lost")
    assert len(server.heads) == 1, "not sent a second time"
    server.close()
    answer = problem(gateway, "/v1/models", "-d", "x")
    assert answer["type"].endswith("/server-unreachable")
    assert remora.get("/ok").status == 200


@pytest.mark.parametrize("text, complaint", [
    ("OPENAI_BASE_URL", "is not NAME=URL"), ("1A=https://h", "no name for an environment variable"),
    ("A=ftp://h", "neither https:// nor http://"), ("A=https://u:hush@h/", "names a user"),
    ("A=https://h:0/", "names no host"), ("A=https://h/a?b=1", "more than a path")])
def test_mistakes_are_named(tmp_path, text, complaint):
    path = tmp_path / "remora.yaml"
    path.write_text(json.dumps({"outbound": {"gateways": [text]}}))
    done = run_cli("validate", path)
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr
    assert "hush" not in done.stdout + done.stderr


OPENAI_CALL = """
import openai
client = openai.OpenAI(api_key="k")
reply = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
print(reply.choices[0].message.content)
"""


def test_the_openai_client_needs_nothing_but_the_variable(remora, gateway):
    """With the real library where REMORA_TEST_OPENAI names a Python that has it."""
    python = os.environ.get("REMORA_TEST_OPENAI")
    if not python:
        pytest.skip("REMORA_TEST_OPENAI names no Python with the package openai")
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run([python, "-c", OPENAI_CALL], capture_output=True, text=True, timeout=60,
                          env=env | {"OPENAI_BASE_URL": f"http://127.0.0.1:{gateway}/v1"},
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "hello"
