"""The agent's way out through the explicit proxy: CONNECT and http:// URLs, by real clients."""

import http.server
import os
import socket
import subprocess
import threading

import pytest

from remora import UnixConnection, free_port, wait_for


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        text = f"{self.command} {self.path}\n{self.headers}".encode() + body
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def upstream():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(remora):
    port = free_port()
    remora.start_ready(config={"outbound": {"proxyPort": port}})
    return port


def curl(proxy, *words):
    done = subprocess.run(["curl", "-sS", "--max-time", "20", "-x", f"http://127.0.0.1:{proxy}",
                           "--noproxy", "", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_http_url_goes_to_its_host_without_the_hops_own_fields(proxy, upstream):
    code, out, err = curl(proxy, "-H", "Proxy-Authorization: Basic c2VjcmV0", "-H", "X-Mine: 1",
                          f"http://127.0.0.1:{upstream}/path?q=1")
    assert code == 0, err
    assert out.startswith("GET /path?q=1\n")
    assert f"Host: 127.0.0.1:{upstream}" in out
    assert "X-Mine: 1" in out
    assert "c2VjcmV0" not in out and "Proxy-Connection" not in out


def test_large_body_passes_whole(proxy, upstream, tmp_path):
    blob = tmp_path / "blob"
    blob.write_bytes(bytes(range(256)) * 8192)
    code, out, err = curl(proxy, "--data-binary", f"@{blob}", "-o", str(tmp_path / "reply"),
                          f"http://127.0.0.1:{upstream}/up")
    assert code == 0, err + out
    assert (tmp_path / "reply").read_bytes().endswith(blob.read_bytes())


def test_connect_gives_a_tunnel(proxy, upstream):
    code, out, err = curl(proxy, "-p", f"http://localhost:{upstream}/in-the-tunnel")
    assert code == 0, err
    assert out.startswith("GET /in-the-tunnel\n")


def test_bytes_right_behind_the_connect_head_are_not_lost(proxy, upstream):
    with socket.create_connection(("127.0.0.1", proxy)) as caller:
        caller.sendall(f"CONNECT 127.0.0.1:{upstream} HTTP/1.1\r\n\r\nGET /early HTTP/1.1\r\n"
                       "Host: a\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while piece := caller.recv(65536):
            data += piece
    assert data.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"GET /early\n" in data


@pytest.mark.parametrize("request_text,status,why", [
    ("GET /origin HTTP/1.1\r\nHost: a\r\n\r\n", 400, "this is a proxy"),
    ("CONNECT nowhere HTTP/1.1\r\n\r\n", 400, "HOST:PORT"),
    ("GET http://user@host/ HTTP/1.1\r\n\r\n", 400, "no host"),
    ("GET http://a/ HTTP/1.1\r\nX: 1\r\n folded\r\n\r\n", 400, "no name"),
    ("\x16\x03\x01 garbage\r\n\r\n", 400, "request line"),
    ("GET http://a/ HTTP/1.1\r\nX: " + "x" * 70_000, 431, "too large"),
    ("CONNECT no-such-name.invalid:80 HTTP/1.1\r\n\r\n", 502, "look up no-such-name.invalid"),
    ("CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n", 502, "connect to 127.0.0.1:1"),
])
def test_refusals_say_why(proxy, request_text, status, why):
    with socket.create_connection(("127.0.0.1", proxy), timeout=20) as caller:
        caller.sendall(request_text.encode("latin-1"))
        reply = b""
        while piece := caller.recv(65536):
            reply += piece
    assert reply.startswith(f"HTTP/1.1 {status} ".encode()), reply
    assert why.encode() in reply


def test_connections_are_counted(remora, proxy, upstream):
    assert curl(proxy, f"http://127.0.0.1:{upstream}/x")[0] == 0
    connection = UnixConnection(os.path.join(remora.store, "admin.sock"))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    assert 'remora_outbound_connections_total{way="proxy"} 1' in text


def test_names_are_looked_up(proxy, upstream):
    code, out, err = curl(proxy, f"http://localhost:{upstream}/named")
    assert code == 0, err
    assert f"Host: localhost:{upstream}" in out


def test_descriptors_come_back(remora, proxy, upstream):
    def open_files():
        done = subprocess.run(["ls", f"/proc/{remora.process.pid}/fd"], capture_output=True,
                              text=True, check=True)
        return len(done.stdout.split())
    before = open_files()
    for _ in range(40):
        assert curl(proxy, f"http://127.0.0.1:{upstream}/x")[0] == 0
    wait_for(lambda: open_files() <= before + 2, "the descriptors")
