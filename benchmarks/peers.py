"""What is measured: Remora, the proxies that people would use instead, and the floor.

Each peer writes its configuration into a directory of its own and gives the command that serves it
in the foreground. All get one worker, no access log and keep-alive to the backend.
"""

import dataclasses
import os
import re
import shutil
import subprocess

TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
PROXY_CORE = 0
LOAD_CORE = 1


@dataclasses.dataclass
class Site:
    """Where one instance of a peer lives."""

    directory: str
    port: int
    port_h2: int  # for HTTP/2 where the peer wants a port of its own
    backend_port: int
    agent_port: int  # for the agent that Remora starts itself


def render(template, site):
    """Fills a template in and returns the path of the result."""
    with open(os.path.join(TEMPLATES, template), encoding="utf-8") as source:
        text = source.read()
    values = {"DIRECTORY": site.directory, "PORT": site.port, "PORT_H2": site.port_h2,
              "BACKEND": site.backend_port}
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    path = os.path.join(site.directory, template)
    with open(path, "w", encoding="utf-8") as target:
        target.write(text)
    return path


def version_in(command):
    """The first thing like a version number that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)*", done.stdout + done.stderr)
    return found.group(0) if found else "unknown"


class Peer:
    """One proxy under test. `is_floor` marks what nothing in user space can beat."""

    name = ""
    is_floor = False
    speaks_h2 = True
    own_h2_port = False
    # Processes below the first one belong to the proxy (Remora's child is the agent: not its own).
    counts_children = True

    def is_available(self):
        return True

    def version(self):
        raise NotImplementedError

    def command(self, site):
        raise NotImplementedError


class Relay(Peer):
    name = "bare relay"
    is_floor = True
    speaks_h2 = False

    def __init__(self, program):
        self.program = program

    def version(self):
        return "benchmarks/relay.cc"

    def command(self, site):
        return [self.program, "--port", str(site.port), "--backend", str(site.backend_port)]


class Remora(Peer):
    name = "Remora"
    counts_children = False

    def __init__(self, program, backend_program):
        self.program = program
        self.backend_program = backend_program

    def is_available(self):
        return os.access(self.program, os.X_OK)

    def version(self):
        return version_in([self.program, "--version"])

    def command(self, site):
        """No configuration file: the defaults are what is measured. The agent is its own child."""
        return [self.program, "run", "--listen", f"127.0.0.1:{site.port}",
                "--app-port", str(site.agent_port), "--",
                "taskset", "-c", str(LOAD_CORE), self.backend_program, "--port",
                str(site.agent_port)]


class Nginx(Peer):
    name = "nginx"
    own_h2_port = True

    def is_available(self):
        return shutil.which("nginx") is not None

    def version(self):
        return version_in(["nginx", "-v"])

    def command(self, site):
        return ["nginx", "-p", site.directory, "-c", render("nginx.conf", site)]


class HAProxy(Peer):
    name = "HAProxy"
    own_h2_port = True

    def is_available(self):
        return shutil.which("haproxy") is not None

    def version(self):
        return version_in(["haproxy", "-v"])

    def command(self, site):
        return ["haproxy", "-q", "-db", "-f", render("haproxy.cfg", site)]


class Envoy(Peer):
    name = "Envoy"

    def __init__(self, program):
        self.program = program

    def is_available(self):
        return self.program is not None and os.access(self.program, os.X_OK)

    def version(self):
        done = subprocess.run([self.program, "--version"], capture_output=True, text=True,
                              check=False)
        found = re.search(r"/(\d+\.\d+\.\d+)", done.stdout)
        return found.group(1) if found else "unknown"

    def command(self, site):
        return [self.program, "-c", render("envoy.yaml", site), "--concurrency", "1",
                "--disable-hot-restart", "--log-level", "error"]


class Nghttpx(Peer):
    name = "nghttpx"

    def is_available(self):
        return shutil.which("nghttpx") is not None

    def version(self):
        return version_in(["nghttpx", "--version"])

    def command(self, site):
        return ["nghttpx", f"--conf={render('nghttpx.conf', site)}"]
