"""Network namespaces of the tests' own. Each lives as long as a process that reads from us: when the
test ends, however it ends, the namespace is gone with everything in it."""

import ctypes
import json
import os
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000
WAIT_S = 30
_libc = ctypes.CDLL(None, use_errno=True)


def program(variable, default):
    here = os.path.dirname(os.path.abspath(__file__))
    return os.path.abspath(os.environ.get(variable) or os.path.join(here, "../../build/dev", default))


def remora():
    return program("REMORA_BINARY", "remora")


def peer():
    return program("NETNS_PEER", "tests/netns/netns_peer")


class Namespace:
    def __init__(self):
        self._holder = subprocess.Popen(["unshare", "--net", "--", "sh", "-c", "echo up; exec cat"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout.readline() == b"up\n", "needs the right to make namespaces"
        self.pid = self._holder.pid
        self.path = f"/proc/{self.pid}/ns/net"
        self._started = []
        self.run("ip", "link", "set", "lo", "up")

    def close(self):
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()

    # --- programs --------------------------------------------------------------------------------
    def words(self, *words):
        return ["nsenter", f"--net={self.path}", "--", *map(str, words)]

    def run(self, *words, check=True, stdin=None, wait_s=WAIT_S):
        done = subprocess.run(self.words(*words), capture_output=True, text=True, input=stdin,
                              timeout=wait_s, check=False)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
        return done

    def popen(self, *words, **options):
        return subprocess.Popen(self.words(*words), stdin=subprocess.DEVNULL, **options)

    def serve(self, *words, prefix=()):
        """A netns_peer that listens when this returns; ended with the namespace."""
        process = self.popen(*prefix, peer(), *words, stdout=subprocess.PIPE)
        self._started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    def intercept(self, *options, check=True, **named):
        return self.run(remora(), "intercept", *options, check=check, **named)

    def ask(self, address, own=False, prefix=()):
        """What answers there: {"port": "15001", "original": "10.0.0.1:80"} for each hop."""
        done = self.run(*prefix, peer(), "ask", *(["--own"] if own else []), address)
        return [dict(field.split("=", 1) for field in line.split())
                for line in done.stdout.splitlines()]

    # --- sockets of this process -----------------------------------------------------------------
    def inside(self, call):
        """The result of call(), made by a thread in this namespace. Sockets that it makes stay
        there."""
        result = []

        def body():
            with open(self.path, "rb") as namespace:
                if _libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    result.append(OSError(ctypes.get_errno(), "setns"))
                    return
            try:
                result.append(call())
            except BaseException as error:  # handed over to the test
                result.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        made = self.inside(lambda: socket.socket(family, kind))
        made.settimeout(WAIT_S)
        return made

    # --- rules, as the nft program reads them ----------------------------------------------------
    def nft(self, *words, check=True, **named):
        return self.run("nft", *words, check=check, **named)

    def ruleset(self, *what):
        """The rules as nft shows them, without the handles that each transaction numbers anew."""
        listed = self.nft("-j", "list", *(what or ("ruleset",))).stdout
        entries = [entry for entry in json.loads(listed)["nftables"] if "metainfo" not in entry]
        for entry in entries:
            for part in entry.values():
                part.pop("handle", None)
        return entries

    def remora_rules(self):
        done = self.nft("list", "table", "inet", "remora", check=False)
        return done.stdout if done.returncode == 0 else None

    def rule_handles(self, chain):
        listed = json.loads(self.nft("-j", "list", "chain", "inet", "remora", chain).stdout)
        return [entry["rule"]["handle"] for entry in listed["nftables"] if "rule" in entry]


class Pod:
    """A pod and what is outside of it, joined by a link."""

    POD4, POD6 = "10.77.0.2", "fd77::2"
    OUT4, OUT6 = "10.77.0.1", "fd77::1"
    # Further away: reached over the default route.
    FAR4, FAR6 = "192.0.2.10", "2001:db8::10"

    def __init__(self):
        self.pod = Namespace()
        self.outside = Namespace()
        pod, outside = self.pod, self.outside
        pod.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
                outside.pid)
        for space, v4, v6 in ((pod, self.POD4, self.POD6), (outside, self.OUT4, self.OUT6)):
            space.run("ip", "link", "set", "eth0", "up")
            space.run("ip", "address", "add", f"{v4}/24", "dev", "eth0")
            space.run("ip", "address", "add", f"{v6}/64", "dev", "eth0", "nodad")
        outside.run("ip", "address", "add", f"{self.FAR4}/32", "dev", "lo")
        outside.run("ip", "address", "add", f"{self.FAR6}/128", "dev", "lo", "nodad")
        pod.run("ip", "route", "add", "default", "via", self.OUT4)
        pod.run("ip", "-6", "route", "add", "default", "via", self.OUT6)

    def close(self):
        self.pod.close()
        self.outside.close()


def as_user(uid, gid=None):
    """The words before a program that runs it as this user, without any capability."""
    return ("setpriv", f"--reuid={uid}", f"--regid={gid or uid}", "--clear-groups",
            "--bounding-set=-all", "--inh-caps=-all")
