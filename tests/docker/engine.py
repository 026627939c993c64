"""A Docker Engine of our own: its own socket, data, network and process namespaces.

`enter_namespaces` moves the calling process (pytest) into fresh network and mount namespaces, so
that bridges, packet filters and mounts of the engine vanish with the tests. The engine itself runs in
a process namespace below: when its first process is killed the kernel ends every container with it,
whatever state they are in. Nothing is pulled; there is no way out of the network.
"""

import ctypes
import json
import os
import shutil
import subprocess
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
# Debian's, not another one that may come first on PATH.
DOCKER = "/usr/bin/docker"
COMPOSE = "/usr/bin/docker-compose"
START_WAIT_S = 60
STOP_WAIT_S = 30
COMMAND_WAIT_S = 120
POLL_S = 0.05
CGROUP_ROOT = "/sys/fs/cgroup"
CGROUP_REMOVE_TRIES_MAX = 40


class EngineError(Exception):
    """A command of the engine failed; the text has its output."""


def wait_for(condition, what, wait_s):
    """The condition's first true value; fails with what was waited for."""
    deadline = time.monotonic() + wait_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {wait_s} s for {what}"
        time.sleep(POLL_S)
    return value


def enter_namespaces():
    """For the calling process and its children; before it has threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare: needs root")
    for command in (["mount", "--make-rprivate", "/"], ["ip", "link", "set", "lo", "up"]):
        subprocess.run(command, check=True)


class Engine:
    def __init__(self, directory):
        self.directory = str(directory)
        self.socket = os.path.join(self.directory, "docker.sock")
        self._cgroup = f"remora-docker-test-{os.getpid()}"
        self._log_path = os.path.join(self.directory, "dockerd.log")
        self._process = None
        self._environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": os.path.join(self.directory, "config"),
            "HOME": self.directory,
            "LC_ALL": "C.UTF-8",
        }

    def start(self):
        os.makedirs(self.directory, exist_ok=True)
        words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "dockerd",
                 "--host", f"unix://{self.socket}",
                 "--data-root", os.path.join(self.directory, "data"),
                 "--exec-root", os.path.join(self.directory, "exec"),
                 "--pidfile", os.path.join(self.directory, "dockerd.pid"),
                 "--storage-driver", "overlay2", "--cgroup-parent", f"/{self._cgroup}",
                 "--log-level", "warn"]
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             env=self._environment, start_new_session=True)
        wait_for(self._answers, "dockerd", START_WAIT_S)
        return self

    def _answers(self):
        if self._process.poll() is not None:
            raise EngineError(f"dockerd ended with {self._process.returncode}:\n{self.log_tail()}")
        return self.try_run("version").returncode == 0

    def log_tail(self, lines=30):
        with open(self._log_path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def stop(self):
        """Ends everything; the kernel ends what a dockerd that hangs would leave."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # The namespace's mounts (overlays) keep the data alive until they are gone.
        subprocess.run(["umount", "--recursive", "--lazy", os.path.join(self.directory, "data")],
                       stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)
        self._remove_cgroups()

    def _remove_cgroups(self):
        """Control groups stay when their processes are killed; a group goes once it is empty."""
        for controller in os.listdir(CGROUP_ROOT):
            top = os.path.join(CGROUP_ROOT, controller, self._cgroup)
            for path, _, _ in os.walk(top, topdown=False):
                for _ in range(CGROUP_REMOVE_TRIES_MAX):
                    try:
                        os.rmdir(path)
                        break
                    except FileNotFoundError:
                        break
                    except OSError:
                        time.sleep(POLL_S)

    # --- the command line ------------------------------------------------------------------------
    def try_run(self, *words, wait_s=COMMAND_WAIT_S, program=DOCKER, **options):
        return subprocess.run([program, *map(str, words)], capture_output=True, text=True,
                              timeout=wait_s, check=False, stdin=options.pop("stdin", subprocess.DEVNULL),
                              env=self._environment | options.pop("env", {}), **options)

    def run(self, *words, **options):
        done = self.try_run(*words, **options)
        if done.returncode != 0:
            raise EngineError(f"docker {' '.join(map(str, words))}: exit code {done.returncode}\n"
                              f"{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def compose(self, *words, **options):
        return self.run(*words, program=COMPOSE, **options)

    def inspect(self, name):
        return json.loads(self.run("inspect", name))[0]

    def state(self, name):
        return self.inspect(name)["State"]

    def address(self, name):
        """The container's own, in its first network."""
        networks = self.inspect(name)["NetworkSettings"]["Networks"]
        return next(iter(networks.values()))["IPAddress"]

    def started_at(self, name):
        return self.state(name)["StartedAt"]

    def restart_count(self, name):
        return self.inspect(name)["RestartCount"]

    def logs(self, name):
        done = self.try_run("logs", name)
        return done.stdout + done.stderr

    def kill_first_process(self, name):
        """SIGKILL to a container's first process as the kernel would send it. `docker kill` would be
        a wish to stop, after which no restart policy acts."""
        parent = self._process.pid
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as children:
            engine = children.read().split()[0]
        pid = self.state(name)["Pid"]
        subprocess.run(["nsenter", f"--pid=/proc/{engine}/ns/pid", "kill", "-KILL", str(pid)],
                       check=True)

    def remove(self, *names):
        self.try_run("rm", "--force", "--volumes", *names)
