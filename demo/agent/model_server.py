"""A scripted local model behind OpenAI's chat-completions interface, so that the demo needs no
network and no key. Standard library.

The script: a conversation that ends with the user's message is answered by one call of the first
tool that the request offers, one that ends with a tool's result by a sentence that quotes the
result. The same request always gets the same answer. "stream": true gives server-sent events.
"""

import argparse
import hashlib
import json
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_BYTES_MAX = 4 << 20
MODEL = "scripted-1"


def text_of(message):
    """The text of a message whose content is a string or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


def scripted_message(request):
    """The assistant's next message and its finish reason."""
    messages = request.get("messages") or [{}]
    tools = request.get("tools") or []
    last = messages[-1]
    if last.get("role") == "user" and tools:
        digest = hashlib.sha256(text_of(last).encode()).hexdigest()
        call = {
            "id": f"call_{digest[:20]}",
            "type": "function",
            "function": {
                "name": tools[0]["function"]["name"],
                "arguments": json.dumps({"text": text_of(last)}),
            },
        }
        return {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    if last.get("role") == "tool":
        return {"role": "assistant", "content": f"Noted: {text_of(last)}."}, "stop"
    return {"role": "assistant", "content": f"You said: {text_of(last)}"}, "stop"


def envelope(request, kind):
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    return {"id": f"chatcmpl-{digest[:24]}", "object": kind, "created": 0, "model": MODEL}


def completion(request):
    message, finish_reason = scripted_message(request)
    prompt = sum(len(text_of(m).split()) for m in request.get("messages") or [])
    answer = len((message["content"] or "").split())
    return envelope(request, "chat.completion") | {
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        },
    }


def completion_chunks(request):
    """The same answer word by word."""
    message, finish_reason = scripted_message(request)
    deltas = [{"role": "assistant", "content": ""}]
    for index, call in enumerate(message.get("tool_calls") or []):
        deltas.append({"tool_calls": [{"index": index} | call]})
    words = (message["content"] or "").split(" ")
    deltas += [{"content": word if n == 0 else f" {word}"} for n, word in enumerate(words)]
    head = envelope(request, "chat.completion.chunk")
    for delta in deltas:
        yield head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/healthz":
            self._send_json(200, {"status": "ok"})
        elif self.path == "/v1/models":
            self._send_json(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            self._send_error(404, f"nothing at {self.path}")

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_BYTES_MAX:
            self.close_connection = True
            self._send_error(413, f"more than {BODY_BYTES_MAX} bytes")
            return
        body = self.rfile.read(length)
        if self.path != "/v1/chat/completions":
            self._send_error(404, f"nothing at {self.path}")
            return
        try:
            request = json.loads(body)
        except ValueError as error:
            self._send_error(400, f"not JSON: {error}")
            return
        if request.get("stream"):
            self._send_events(completion_chunks(request))
        else:
            self._send_json(200, completion(request))

    def _send_error(self, status, message):
        error = {"message": message, "type": "invalid_request_error", "code": None}
        self._send_json(status, {"error": error})

    def _send_json(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _send_events(self, chunks):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for data in [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]:
            event = f"data: {data}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A caller that went away is its own affair; anything else is worth a line."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, socket.timeout)):
            print(f"model server: {error!r}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 in a container of its own")
    arguments = parser.parse_args()
    server = Server((arguments.host, arguments.port), Handler)
    # shutdown() waits for serve_forever(), which runs in the thread that takes the signal.
    stop = threading.Thread(target=server.shutdown, daemon=True)
    signal.signal(signal.SIGTERM, lambda *_: stop.start())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the demo, which ends this one
    print(json.dumps({"event": "listening", "port": server.server_address[1]}), flush=True)
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
