"""An API server that has Kubernetes' Eviction API (KEP-4563, alpha in 1.37), and its etcd, on loopback. No node
and no controller runs: nothing but its own checks says what a responder may write."""

import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cluster"))
# pylint: disable=wrong-import-position # they are beside this folder
import certs
import layout
import programs
import steps

sys.path.insert(0, str(HERE.parent / "integration"))
from remora import free_port

SOURCES = HERE / "programs"
START_S = 60
GATE, API = "EvictionRequestAPI", "lifecycle.k8s.io/v1alpha1"


def source_texts():
    return [f"{path.relative_to(SOURCES)}\n{path.read_text()}"
            for path in sorted(SOURCES.rglob("*")) if path.is_file()]


def place(where):
    version = programs.kubernetes_version((SOURCES / "go.mod").read_text())
    return where.cache / f"api-server-{version}-{programs.key(*source_texts())}"


def ready(where, clock):
    """Builds it where it isn't there yet."""
    return programs.cached(place(where), lambda folder: build(where, folder, clock))


def build(where, folder, clock):
    go = programs.find_go(where)
    version = programs.kubernetes_version((SOURCES / "go.mod").read_text())
    clock.say(f"building the API server of Kubernetes {version}: some minutes on two cores, once")
    steps.run([go, "build", "-trimpath", "-mod=readonly",
               f"-ldflags={programs.linker_flags(version)}", "-o", folder / "kube-apiserver",
               "./kubernetes"],
              seconds=programs.BUILD_S, cwd=SOURCES,
              # It wants a newer Go than the cluster's programs, which Go fetches by itself.
              env=programs.go_environment(where, go) | {"GOTOOLCHAIN": "auto"})


def missing(where):
    """What isn't there yet, in words."""
    at = programs.places(where)
    return [str(path) for path in (place(where), at.built, at.debian) if not path.exists()]


class ApiServer:
    """A context. folder: for its certificates, data and logs; gone with the test."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.where = layout.from_environment()
        self.programs = programs.places(self.where)
        self.url = f"https://127.0.0.1:{free_port()}"
        self._running = []

    def __enter__(self):
        certs.make_authority(self.folder, "ca")
        for one in (certs.Certificate("server", "/CN=kube-apiserver", certs.SERVER,
                                      ("IP:127.0.0.1", "DNS:localhost")),
                    certs.Certificate("admin", "/O=system:masters/CN=admin", certs.CLIENT)):
            certs.make_certificate(self.folder, one)
        steps.run(["openssl", "genrsa", "-out", self.folder / "accounts.key", "2048"])
        self.admin = self.kubeconfig("admin", {
            "client-certificate": str(self.folder / "admin.crt"),
            "client-key": str(self.folder / "admin.key")})
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self):
        etcd, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._launch("etcd", [
            self.programs.debian / "usr/bin/etcd", "--name=etcd", f"--data-dir={self.folder}/data",
            f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=etcd={peers}", "--unsafe-no-fsync"])
        self._launch("kube-apiserver", [
            place(self.where) / "kube-apiserver", f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            # Nobody calls it by its Service, and an endpoint must not be of loopback.
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.url.rsplit(':', 1)[1]}", f"--cert-dir={self.folder}",
            f"--tls-cert-file={self.folder}/server.crt",
            f"--tls-private-key-file={self.folder}/server.key",
            f"--client-ca-file={self.folder}/ca.crt", "--anonymous-auth=false",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder}/accounts.key",
            f"--service-account-signing-key-file={self.folder}/accounts.key",
            f"--feature-gates={GATE}=true", f"--runtime-config={API}=true"])
        steps.wait_until(f"the API server answers; its log: {self.log('kube-apiserver')}", START_S,
                         lambda: self._runs() and self.kubectl(
                             "get", "--raw=/readyz", check=False).returncode == 0)

    def _runs(self):
        for process in self._running:
            if process.poll() is not None:
                name = pathlib.Path(process.args[0]).name
                said = self.log(name).read_text()[-2000:]
                raise steps.Failure(f"{name} ended with {process.returncode}: {said}")
        return True

    def log(self, name):
        return self.folder / f"{name}.log"

    def _launch(self, name, argv):
        with open(self.log(name), "wb") as log:
            self._running.append(subprocess.Popen(
                [str(word) for word in argv], stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # Webhooks are called here, not through a proxy.
                env={name: value for name, value in os.environ.items()
                     if not name.lower().endswith("_proxy")}))

    def kubeconfig(self, name, user):
        path = self.folder / f"{name}.kubeconfig"
        steps.whole_file(path, json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {
                "server": self.url, "certificate-authority": str(self.folder / "ca.crt")}}],
            "users": [{"name": "x", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]}), mode=0o600)
        return path

    # --- as who administers it ----------------------------------------------------------------

    def kubectl(self, *words, **more):
        return steps.run([self.programs.kubectl(), f"--kubeconfig={self.admin}", *words],
                         env={**os.environ, "HOME": str(self.folder)}, **more)

    def apply(self, *things):
        self.kubectl("apply", "--filename=-", input_text=json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": list(things)}))

    def get(self, kind, name):
        done = self.kubectl("get", kind, name, "--output=json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def set_status(self, kind, name, status):
        self.kubectl("patch", kind, name, "--subresource=status", "--type=merge",
                     "--patch", json.dumps({"status": status}))

    def token(self, account, namespace="default", *more):
        return self.kubectl("create", "token", account, f"--namespace={namespace}",
                            *more).stdout.strip()
