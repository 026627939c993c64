"""Container images made on this machine, no registry needed, as OCI archives: a tar that `ctr images
import`, podman and skopeo read. Layers are plain tars, written to disk, never held in memory."""

import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import tarfile
import tempfile

import layout
import programs
import steps

OCI = "application/vnd.oci.image"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMPILER, CXX_COMPILER = "gcc-12", "g++-12"
DEBIAN_SUITE = "bookworm"
DEBIAN_S = 900
PYPI_S = 900
READ_BYTES = 1 << 20

PAUSE_SOURCE = r"""
#include <signal.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
int main(void) {
  struct sigaction reap = {.sa_handler = SIG_IGN, .sa_flags = SA_NOCLDWAIT};
  sigaction(SIGCHLD, &reap, 0); /* children that end leave nothing to wait for */
  signal(SIGTERM, end);
  signal(SIGINT, end);
  for (;;) pause();
}
"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """make(folder, programs) fills the top layer; the layers of base lie below. inputs: whatever else
    the content depends on, for the name under which the result is kept."""

    name: str
    make: object
    inputs: tuple = ()
    config: dict = dataclasses.field(default_factory=dict)
    base: "Recipe | None" = None

    @property
    def reference(self):
        return f"remora.test/{self.name}:1"

    def key(self):
        below = self.base.key() if self.base else ""
        return programs.key(self.name, below, json.dumps(self.config), *map(str, self.inputs))

    def archive(self, where):
        return where.images / f"{self.name}-{self.key()}.tar"


# --- recipes -------------------------------------------------------------------------------------

def _make_pause(folder, _):
    steps.run([COMPILER, "-Os", "-static", "-s", "-x", "c", "-o", folder / "pause", "-"],
              input_text=PAUSE_SOURCE)


def _make_tools(folder, of):
    for name in ("bin", "etc", "root", "var/www"):
        (folder / name).mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    busybox = folder / "bin/busybox"
    busybox.write_bytes(of.busybox.read_bytes())
    busybox.chmod(0o755)
    for applet in steps.run([busybox, "--list"]).stdout.split():
        if applet != "busybox":
            (folder / "bin" / applet).symlink_to("busybox")


def _make_python(folder, _):
    steps.say(f"image python: Debian {DEBIAN_SUITE} with python3, about a minute, once")
    steps.run(["debootstrap", "--variant=minbase", "--include=python3,ca-certificates,procps",
               DEBIAN_SUITE, folder, programs.mirror()], seconds=DEBIAN_S)
    for place in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log", "usr/share/doc",
                  "usr/share/man", "usr/share/locale"):
        for path in (folder / place).rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.unlink()


def python_packages(name, requirements):
    """An image with packages from PyPI on top of python. requirements: the text of a pip file."""
    def make(folder, _):
        wanted = [line for line in requirements.splitlines() if not line.startswith("#")]
        steps.say(f"image {name}: installing from PyPI: {' '.join(wanted)}")
        wishes = folder.parent / "requirements.txt"
        wishes.write_text(requirements)
        steps.run(["/usr/bin/python3", "-m", "venv", folder.parent / "venv"])
        steps.run([folder.parent / "venv/bin/python", "-m", "pip", "install", "--quiet",
                   "--disable-pip-version-check", "--target", folder / "opt/agent",
                   "--requirement", wishes], seconds=PYPI_S)
    return Recipe(name, make, (requirements,), {"Env": ["PYTHONPATH=/opt/agent"]}, PYTHON)


def with_files(name, source, place, base):
    """An image with a folder of this repository at place, on top of base."""
    files = {path.relative_to(source): path.read_text() for path in sorted(source.glob("*.py"))}

    def make(folder, _):
        for path, text in files.items():
            steps.whole_file(folder / place / path, text)
    return Recipe(name, make, tuple(files.items()), {**base.config, "WorkingDir": f"/{place}"}, base)


AGENTS = layout.REPOSITORY / "tests/agents"
MCP_PACKAGES = "mcp==1.30.0\n"
OTLP_PACKAGES = "opentelemetry-proto==1.27.0\n"


def locking_agent():
    """An agent in C++ that can deadlock, nothing else."""
    source = AGENTS / "locking_agent.cc"

    def make(folder, _):
        steps.run([CXX_COMPILER, "-std=c++23", "-O2", "-static", "-pthread", "-s", source, "-o",
                   folder / "locking_agent"])
    return Recipe("locking-agent", make, (source.read_text(),), {"Entrypoint": ["/locking_agent"]})


def mcp_server():
    """Python and the SDK of the Model Context Protocol."""
    return python_packages("mcp-packages", MCP_PACKAGES)


def otlp_receiver():
    """Python and OpenTelemetry's own schema of OTLP."""
    return python_packages("otlp-packages", OTLP_PACKAGES)


PAUSE = Recipe("pause", _make_pause, (PAUSE_SOURCE,), {"Entrypoint": ["/pause"], "User": "65535:65535"})
TOOLS = Recipe("tools", _make_tools, (programs.SUITE,), {"Cmd": ["sh"]})
PYTHON = Recipe("python", _make_python, (DEBIAN_SUITE, "python3,ca-certificates,procps"),
                {"Cmd": ["python3"]})
DEMO = layout.REPOSITORY / "demo"


def agent():
    """The demo's agents and their model server, with LangGraph."""
    return with_files("agent", DEMO / "agent", "srv/agent", python_packages(
        "agent-packages", (DEMO / "requirements.txt").read_text()))


def ready(where, recipe, of):
    """The archive of an image, made when it isn't there yet."""
    archive = recipe.archive(where)
    with steps.locked(where.images / "locks" / archive.name):
        if not archive.exists():
            with tempfile.TemporaryDirectory(prefix="making-", dir=where.images) as temporary:
                _make(where, recipe, of, pathlib.Path(temporary)).rename(archive)
    return archive


def _make(where, recipe, of, work):
    folder = work / "layer"
    folder.mkdir()
    recipe.make(folder, of)
    layer = work / "layer.tar"
    steps.run(["tar", "--create", "--file", layer, "--directory", folder, "--sort=name",
               "--numeric-owner", "--mtime=@0", "--one-file-system", "."], seconds=DEBIAN_S)
    with contextlib.ExitStack() as kept:
        below = _layers_of(ready(where, recipe.base, of), kept) if recipe.base else []
        write_archive(work / "image.tar", recipe, [*below, _Blob.of_file(layer, kept)])
    return work / "image.tar"


# --- the archive ---------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class _Blob:
    digest: str
    size: int
    stream: object

    @staticmethod
    def of_bytes(data):
        return _Blob(hashlib.sha256(data).hexdigest(), len(data), io.BytesIO(data))

    @staticmethod
    def of_file(path, kept):
        stream = kept.enter_context(open(path, "rb"))
        digest = hashlib.sha256()
        while data := stream.read(READ_BYTES):
            digest.update(data)
        stream.seek(0)
        return _Blob(digest.hexdigest(), path.stat().st_size, stream)

    def descriptor(self, kind, **more):
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{self.digest}", "size": self.size,
                **more}


def image_documents(recipe, layers):
    """The image's configuration and manifest, as blobs."""
    environment = [f"PATH={PATH}", *recipe.config.get("Env", [])]
    config = _Blob.of_bytes(json.dumps({
        "architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"WorkingDir": "/", **recipe.config, "Env": environment},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
    }).encode())
    manifest = _Blob.of_bytes(json.dumps({
        "schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json",
        "config": config.descriptor("config.v1+json"),
        "layers": [layer.descriptor("layer.v1.tar") for layer in layers],
    }).encode())
    return config, manifest


def write_archive(path, recipe, layers):
    config, manifest = image_documents(recipe, layers)
    named = manifest.descriptor("manifest.v1+json", annotations={
        "io.containerd.image.name": recipe.reference,
        "org.opencontainers.image.ref.name": recipe.reference.rpartition(":")[2]})
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", _Blob.of_bytes(b'{"imageLayoutVersion": "1.0.0"}'))
        _add(archive, "index.json", _Blob.of_bytes(json.dumps(
            {"schemaVersion": 2, "manifests": [named]}).encode()))
        for blob in (config, manifest, *layers):
            _add(archive, f"blobs/sha256/{blob.digest}", blob)


def _add(archive, name, blob):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = blob.size, 0o644
    archive.addfile(entry, blob.stream)


def _layers_of(path, kept):
    archive = kept.enter_context(tarfile.open(path))
    _, manifest = _index_and_manifest(archive)
    layers = []
    for layer in manifest["layers"]:
        digest = layer["digest"].removeprefix("sha256:")
        stream = kept.enter_context(archive.extractfile(f"blobs/sha256/{digest}"))
        layers.append(_Blob(digest, layer["size"], stream))
    return layers


def _index_and_manifest(archive):
    index = json.load(archive.extractfile("index.json"))
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    return index, json.load(archive.extractfile(f"blobs/sha256/{digest}"))


def reference_in(path):
    """The name under which containerd will know the image of an OCI archive."""
    with tarfile.open(path) as archive:
        index, _ = _index_and_manifest(archive)
    annotations = index["manifests"][0].get("annotations", {})
    name = annotations.get("io.containerd.image.name")
    if not name:
        raise steps.Failure(f"{path}: its index.json has no annotation io.containerd.image.name")
    return name


PRODUCT_ARCHIVE = layout.REPOSITORY / "build/images/remora.tar"
