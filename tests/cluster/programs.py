"""The programs that a cluster runs: fetched and built once, kept under names that change with what
they are made from. From Debian 13: containerd, etcd and busybox, unpacked, not installed (they run on
Debian 12 too). From their Go modules: Kubernetes and CoreDNS (programs/go.mod has the versions)."""

import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import tempfile

import layout
import steps

SUITE = "trixie"
PACKAGES = ("containerd", "etcd-server", "busybox-static")
# Only where the machine has no Go that is new enough.
GO_PACKAGES = ("golang-1.24-go", "golang-1.24-src")
GO_IN_PACKAGES = "usr/lib/go-1.24"
GO_MINOR_MIN = 24
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCES = layout.HERE / "programs"
KUBERNETES_NAMES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet",
                    "kube-proxy", "kubectl")
FETCH_S, BUILD_S = 600, 3600
# Installed by ./dev cluster.
CNI_PLUGINS = "/usr/lib/cni"
RUNC = "/usr/sbin/runc"


@dataclasses.dataclass(frozen=True)
class Programs:
    built: pathlib.Path
    debian: pathlib.Path

    @property
    def path(self):
        """For PATH: nothing of the machine comes before what was built for the cluster."""
        ours = f"{self.built}:{self.debian / 'usr/bin'}"
        return f"{ours}:/usr/sbin:/usr/bin:/sbin:/bin"

    @property
    def busybox(self):
        return self.debian / "usr/bin/busybox"

    def kubectl(self):
        return str(self.built / "kubectl")


def places(where):
    """Where the programs are, or will be: Kubernetes, Debian's."""
    return Programs(where.cache / f"kubernetes-{kubernetes_version()}-{key(*source_texts())}",
                    where.cache / f"debian-{key(SUITE, *PACKAGES)}")


def ready(where, clock):
    """Fetches and builds what isn't there yet."""
    at = places(where)
    return Programs(cached(at.built, lambda folder: build(where, folder, clock)),
                    cached(at.debian, lambda folder: fetch_debian(folder, PACKAGES)))


def key(*texts):
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:12]


def cached(folder, make):
    """The folder, made at most once: it gets its name when it is complete."""
    with steps.locked(folder.parent / "locks" / folder.name):
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix="making-", dir=folder.parent) as temporary:
                begun = pathlib.Path(temporary) / "folder"
                begun.mkdir()
                make(begun)
                begun.rename(folder)
    return folder


# --- Debian --------------------------------------------------------------------------------------

def mirror():
    """The Debian mirror that this machine is set up to use."""
    return mirror_among(steps.run([
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(ORIGIN)",
        "Created-By: Packages"]).stdout)


def mirror_among(targets):
    """targets: lines of `REPO_URI COMPONENT ORIGIN`."""
    for line in targets.splitlines():
        words = line.split()
        if words[1:] == ["main", "Debian"] and "security" not in words[0]:
            return words[0]
    raise steps.Failure("apt has no Debian source with component main: the programs of the test "
                        f"cluster come from Debian's {SUITE}")


def apt_options(folder):
    """An apt of its own, which knows one suite and leaves the machine's lists alone."""
    return [word for name, value in (
        ("Dir::Etc::sourcelist", folder / "sources.list"), ("Dir::Etc::sourceparts", "-"),
        ("Dir::State::lists", folder / "lists"), ("Dir::Cache", folder / "cache"),
    ) for word in ("-o", f"{name}={value}")]


def fetch_debian(folder, packages):
    steps.say(f"fetching from Debian's {SUITE}: {' '.join(packages)}")
    with tempfile.TemporaryDirectory(prefix="apt-", dir=folder.parent) as temporary:
        apt = pathlib.Path(temporary)
        (apt / "lists/partial").mkdir(parents=True)
        (apt / "cache/archives/partial").mkdir(parents=True)
        (apt / "sources.list").write_text(
            f"deb [signed-by={KEYRING}] {mirror()} {SUITE} main\n")
        command = ["apt-get", "--quiet=2", *apt_options(apt)]
        steps.run([*command, "update"], seconds=FETCH_S)
        steps.run([*command, "download", *packages], seconds=FETCH_S, cwd=apt)
        for package in sorted(apt.glob("*.deb")):
            steps.run(["dpkg-deb", "--extract", package, folder])


# --- Go ------------------------------------------------------------------------------------------

def source_texts():
    return [f"{path.relative_to(SOURCES)}\n{path.read_text()}"
            for path in sorted(SOURCES.rglob("*")) if path.is_file()]


def kubernetes_version(text=None):
    text = text if text is not None else (SOURCES / "go.mod").read_text()
    return re.search(r"^\s*k8s\.io/kubernetes (v\S+)$", text, re.MULTILINE).group(1)


def go_minor(said):
    """24 for `go version go1.24.4 linux/amd64`; 0 for anything else."""
    found = re.match(r"go version go1\.(\d+)", said)
    return int(found.group(1)) if found else 0


def find_go(where):
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and os.access(candidate, os.X_OK):
            said = steps.run([candidate, "version"], env={**os.environ, "GOTOOLCHAIN": "local"})
            if go_minor(said.stdout) >= GO_MINOR_MIN:
                return pathlib.Path(candidate)
    folder = cached(where.cache / f"go-{key(SUITE, *GO_PACKAGES)}",
                    lambda begun: fetch_debian(begun, GO_PACKAGES))
    return folder / GO_IN_PACKAGES / "bin/go"


def go_environment(where, go):
    """Downloads and objects are kept outside the checkout; 4 GB after a build from nothing."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false",
            "GOROOT": str(go.resolve().parent.parent), "GOMODCACHE": str(where.cache / "go/modules"),
            "GOCACHE": str(where.cache / "go/objects")}


def linker_flags(version):
    """What `kubectl version` says and the nodes report."""
    major, minor, _ = version.removeprefix("v").split(".")
    flags = ["-s", "-w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        for name, value in (("gitVersion", version), ("gitMajor", major), ("gitMinor", minor),
                            ("gitTreeState", "clean")):
            flags += ["-X", f"{package}.{name}={value}"]
    return " ".join(flags)


def build(where, folder, clock):
    go = find_go(where)
    version = kubernetes_version()
    clock.say(f"building Kubernetes {version} and CoreDNS: six to ten minutes on two cores, once")
    environment = go_environment(where, go)
    for name in ("kubernetes", "coredns"):
        steps.run([go, "build", "-trimpath", "-mod=readonly", f"-ldflags={linker_flags(version)}",
                   "-o", folder / name, f"./{name}"], seconds=BUILD_S, cwd=SOURCES, env=environment)
        clock.say(f"{name}: {(folder / name).stat().st_size >> 20} MiB")
    for name in KUBERNETES_NAMES:
        (folder / name).symlink_to("kubernetes")
