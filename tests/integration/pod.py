"""A pod's sidecar without a pod: its volumes written as the kubelet writes them."""

import json
import os
import shutil

from remora import Remora, UnixConnection, binary, free_port
from runtime import Runtime


class Volume:
    """Each name is a link through ..data, which is swapped for a new directory (AtomicWriter)."""

    def __init__(self, path):
        self.path = str(path)
        self._version = 0
        os.makedirs(self.path)

    def publish(self, files):
        old, self._version = self._version, self._version + 1
        version = f"..v{self._version}"
        os.mkdir(os.path.join(self.path, version))
        for name, text in files.items():
            with open(os.path.join(self.path, version, name), "w", encoding="utf-8") as file:
                file.write(text)
        link = os.path.join(self.path, "..data_tmp")
        os.symlink(version, link)
        os.rename(link, os.path.join(self.path, "..data"))
        for name in files:
            if not os.path.islink(os.path.join(self.path, name)):
                os.symlink(f"..data/{name}", os.path.join(self.path, name))
        if old:
            shutil.rmtree(os.path.join(self.path, f"..v{old}"))


def quoted(text):
    """As Go's %q writes printable ASCII."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class PodSidecar(Remora):
    """`remora sidecar --pod-info` in explicit mode; its agents are found by their names."""

    def __init__(self, directory):
        super().__init__(directory)
        self.info = Volume(os.path.join(self.directory, "pod-info"))
        self.config = None
        self.own = os.path.join(self.directory, "own")
        self.runtimes = []
        self.health_port = free_port()
        self.inbound_port = free_port()
        self.proxy_port = free_port()
        self.agents = [{"name": self.unique("agent"), "ports": [{"port": self.app_port}]}]
        os.makedirs(self.own)
        os.makedirs(self.state)

    def unique(self, name):
        return f"{name}-{os.path.basename(os.path.dirname(self.directory))}-{os.getpid()}".lower()

    def annotate(self, **annotations):
        """Names with _ for -, all of them; the record of the injection is added."""
        injected = {"version": "0.1.0", "agents": self.agents, "restartPolicy": "Always",
                    "interception": {"mode": "explicit", "inboundPort": self.inbound_port,
                                     "outboundPort": 15001},
                    "outbound": {"proxyPort": self.proxy_port},
                    "pod": {"healthPort": self.health_port}, "processNamespaceShared": True}
        injected |= getattr(self, "injected", {})
        texts = {f"remora.dev/{name.replace('_', '-')}": text
                 for name, text in annotations.items()}
        texts["remora.dev/injected"] = json.dumps(injected)
        self.info.publish({"annotations": "".join(
            f"{key}={quoted(text)}\n" for key, text in sorted(texts.items()))})

    def configure(self, text):
        """The ConfigMap's file."""
        self.config = self.config or Volume(os.path.join(self.directory, "config"))
        self.config.publish({"remora.yaml": text})

    def socket(self):
        return os.path.join(self.own, "admin.sock")

    def ask_admin(self, path):
        """The text of the answer."""
        connection = UnixConnection(self.socket())
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read().decode()
        connection.close()
        assert reply.status == 200, body
        return body

    def in_force(self):
        """The configuration."""
        return json.loads(self.ask_admin("/config?format=json"))

    def command(self, options=()):
        words = [binary(), "sidecar", "--pod-info", self.info.path, "--state", self.state,
                 "--store", self.store, "--admin", self.socket(),
                 f"--health-listen=127.0.0.1:{self.health_port}"]
        if self.config:
            words += ["-c", os.path.join(self.config.path, "remora.yaml")]
        return [*words, *map(str, options)]

    def launch(self, *arguments, env=None, **named):
        env = {"REMORA_ADMIN": self.socket(), "REMORA_POD_UID": "uid-1"} | (env or {})
        return super().launch(*arguments, env=env, **named)

    def run_agent(self, *words, name=None, **options):
        env = {"REMORA_STATE_DIR": self.state}
        runtime = Runtime(self.agent_command(*words), name or self.agents[0]["name"], env=env,
                          **options)
        self.runtimes.append(runtime)
        return runtime

    def clean_up(self):
        super().clean_up()
        for runtime in self.runtimes:
            runtime.clean_up()
