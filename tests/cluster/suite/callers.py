"""Busy callers of a Service in a pod of their own, every request accounted for.

Two kinds of callers: some keep their connection for as long as they are let, some make a new one for
each request. A kept connection that is closed without `Connection: close` having been said is a
failure like any other: nothing here tries twice."""

import json

from kube import container, pod

POLL_FILE, STOP_FILE = "/tmp/progress", "/tmp/stop"

CALLERS = """
import http.client, json, os, sys, threading, time
wish = json.loads(sys.argv[1])
lock, failures, times, served = threading.Lock(), [], [], {}
began = time.monotonic()

def one(connection, method, number):
    body = json.dumps({"number": number}) if method == "POST" else None
    connection.request(method, wish["path"], body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {answer.getheader('remora-problem')} {text[:80]}")
    return text.split()[0], answer.will_close

def caller(name, keeps):
    connection = None
    number = 0
    while not os.path.exists(wish["stop"]):
        number += 1
        # Half of them must not be sent twice by anybody.
        method = "POST" if number % 2 else "GET"
        at = time.monotonic()
        try:
            connection = connection or http.client.HTTPConnection(
                wish["host"], wish["port"], timeout=wish["seconds"])
            who, closes = one(connection, method, number)
            with lock:
                times.append(time.monotonic() - at)
                served[who] = served.get(who, 0) + 1
        except Exception as error:
            closes = True
            with lock:
                failures.append([round(at - began, 2), name, method, repr(error)[:160]])
        if closes or not keeps:
            connection.close()
            connection = None
        time.sleep(max(0, at + wish["pause"] - time.monotonic()))

threads = [threading.Thread(target=caller, args=(f"{kind}-{index}", kind == "kept"))
           for kind in ("kept", "fresh") for index in range(wish[kind])]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    with lock:
        text = json.dumps({"answered": len(times), "failed": len(failures), "served": served})
    with open(wish["progress"] + ".new", "w") as file:
        file.write(text)
    os.rename(wish["progress"] + ".new", wish["progress"])
    time.sleep(0.2)
times.sort()
print(json.dumps({
    "answered": len(times), "failed": len(failures), "failures": failures[:1000], "served": served,
    "p50_ms": times[len(times) // 2] * 1000 if times else None,
    "p99_ms": times[len(times) * 99 // 100] * 1000 if times else None,
    "longest_ms": times[-1] * 1000 if times else None}))
"""


class Load:
    """In `with`: callers are at work. Afterwards: result."""

    def __init__(self, kube, image, host, port=80, name="load", kept=4, fresh=4, pause_s=0.02,
                 seconds=20, **spec):
        self.kube, self.name, self.result = kube, name, None
        wish = {"host": host, "port": port, "path": "/", "kept": kept, "fresh": fresh,
                "pause": pause_s, "seconds": seconds, "stop": STOP_FILE, "progress": POLL_FILE}
        self.pod = pod(name, container("main", image, ["python3", "-c", CALLERS, json.dumps(wish)]),
                       restartPolicy="Never", **spec)

    def __enter__(self):
        self.kube.apply(self.pod)
        self.kube.wait_ready(self.name)
        self.wait_answered(100)
        return self

    def progress(self):
        done = self.kube.run(self.name, "cat", POLL_FILE, check=False)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else {"answered": 0}

    def wait_answered(self, more):
        """So many further answers."""
        wanted = self.progress()["answered"] + more
        return self.kube.wait_for(f"{more} further answers", self.progress,
                                  lambda seen: seen["answered"] >= wanted)

    def __exit__(self, kind, *_):
        self.kube.run(self.name, "touch", STOP_FILE, check=kind is None)
        if kind is not None:
            return
        self.kube.wait_done(self.name)
        self.result = json.loads(self.kube.logs(self.name, "main"))

    def row(self):
        """For a table."""
        return {key: f"{self.result[key]:.0f}" for key in (
            "answered", "failed", "p50_ms", "p99_ms", "longest_ms")}
