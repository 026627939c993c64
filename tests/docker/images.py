"""The images that the tests run, made on this machine: a small Debian with Python, and on it the
demo's agent in the forms that the tests need. Kept under the cache; nothing is pulled."""

import os
import pathlib
import shutil
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "remora"
SUITE = "bookworm"
PACKAGES = "python3"
BASE = "remora-test-base"
AGENT = "remora-demo-agent"
SINGLE = "remora-demo-single"
BOOTSTRAP_WAIT_S = 900
# Nothing in them is needed to run Python, and they are a third of the whole.
LEFT_OUT = ("./var/cache", "./var/lib/apt/lists", "./usr/share/doc", "./usr/share/man",
            "./usr/share/locale")


def base_tar():
    """A Debian with Python as a tar, from Debian's own packages."""
    kept = CACHE / "docker" / f"base-{SUITE}-1.tar"
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    root = kept.with_suffix(f".{os.getpid()}")
    try:
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root],
                       check=True, timeout=BOOTSTRAP_WAIT_S, stdout=subprocess.DEVNULL)
        partial = kept.with_suffix(f".{os.getpid()}.tar")
        left_out = [f"--exclude={path}/*" for path in LEFT_OUT]
        subprocess.run(["tar", "--create", "--file", partial, "--numeric-owner", *left_out,
                        "--directory", root, "."], check=True)
        partial.rename(kept)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return kept


def load_remora(engine, tar):
    """Loads our archive; the image's name."""
    return engine.run("load", "--input", tar).rpartition("Loaded image: ")[2]


def make_all(engine, remora_image):
    """The base, the agent's image, and the agent with Remora in one image."""
    engine.run("import", base_tar(), BASE)
    build(engine, AGENT, "agent.Dockerfile", BASE=BASE)
    build(engine, SINGLE, "single.Dockerfile", AGENT=AGENT, REMORA=remora_image)


def build(engine, tag, dockerfile, **arguments):
    given = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    engine.run("build", "--tag", tag, "--file", SOURCE / "images/demo" / dockerfile, *given,
               SOURCE / "demo")
