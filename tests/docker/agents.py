"""What the tests of one container and of Compose share: the agent from outside, and its faults."""

import http.client
import json
import threading

import images
from callers import answers, ask
from engine import wait_for

WARM_UP_REQUESTS = 20
HEAL_WAIT_S = 40
READY_WAIT_S = 60
# How long a fault stays unhealed before "never" is believed, where Docker alone does nothing.
NEVER_S = 20
STATE = "/var/lib/agent"
DAMAGE = (images.SOURCE / "tests/agents/damage_state.py").read_text(encoding="utf-8")


class Agent:
    """The agent's container, and the one in which Remora runs (the same one, or beside it)."""

    def __init__(self, engine, name, host, port, remora=None, store="/var/lib/remora"):
        self.engine, self.name = engine, name
        self.host, self.port = host, port
        self.remora = remora or name
        self._store = store

    def wait_until_ready(self):
        wait_for(lambda: answers(self.host, self.port), "the agent's first answer", READY_WAIT_S)
        return self

    def pid(self):
        """In the containers' process namespace."""
        return json.loads(ask(self.host, self.port, "GET", "/healthz")[1])["pid"]

    def exec(self, *words):
        return self.engine.run("exec", self.name, *words)

    def kill(self, pid):
        self.exec("sh", "-c", f"kill -KILL {pid}")

    def damage_state(self, pid):
        self.exec("python3", "-c", DAMAGE, str(pid), STATE)

    def restarts(self):
        return self.engine.restart_count(self.name)

    def cli(self, *words):
        text = self.engine.run("exec", self.remora, "/usr/local/bin/remora", *words,
                               "--store", self._store, "--json")
        return json.loads(text)

    def closed_incident(self, fault):
        def found():
            incidents = self.cli("incident", "list")
            return next((i for i in incidents if i["fault"] == fault and i["status"] == "closed"), None)
        return wait_for(found, f"a closed incident {fault}", HEAL_WAIT_S)

    def ask_for_fault(self, kind):
        """The agent falls ill on request. The answer, once there is one, is in the list."""
        answer = []

        def call():
            try:
                answer.append(ask(self.host, self.port, "POST", f"/fault/{kind}"))
            except (OSError, http.client.HTTPException) as error:
                answer.append((0, str(error)))

        threading.Thread(target=call, daemon=True).start()
        return answer


def warm(callers):
    wait_for(lambda: len(callers.records()) >= WARM_UP_REQUESTS, "the first requests", HEAL_WAIT_S)
    assert callers.failures() == []


def healed_after(callers, injected_at):
    """Seconds until a request that began after the fault was answered."""
    return wait_for(lambda: callers.healed_at(injected_at), "an answer", HEAL_WAIT_S) - injected_at


def count(callers):
    return f"{len(callers.failures())} of {len(callers.records())} requests failed"
