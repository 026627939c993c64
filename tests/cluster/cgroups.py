"""Control groups of a machine: one group in every version 1 hierarchy, the root of all groups that
the machine sees. They outlive the processes in them, so taking them away is a step of its own."""

import contextlib
import dataclasses
import os
import pathlib
import time

import steps

ROOT = pathlib.Path("/sys/fs/cgroup")
# A group can't be removed until the kernel has buried the last process in it.
REMOVE_TRIES_MAX = 100
REMOVE_PAUSE_S = 0.1
# What the kernel gives a new group, and the most it takes (cgroup v1, cpu.shares).
CPU_SHARES_DEFAULT, CPU_SHARES_MAX = 1024, 262144


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """One mount of cgroup version 1. options: what mounts the same hierarchy again."""

    folder: str
    options: str


def hierarchies(mountinfo):
    """From the text of /proc/self/mountinfo (proc(5)), by folder."""
    found = {}
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        place = before.split()[4] if separator else ""
        kind, _, options = (after.split() + ["", "", ""])[:3]
        if kind != "cgroup" or not place.startswith(f"{ROOT}/"):
            continue
        folder = place.removeprefix(f"{ROOT}/")
        words = [word for word in options.split(",") if word not in ("rw", "ro", "xattr", "noprefix")
                 and not word.startswith("release_agent=")]
        if any(word.startswith("name=") for word in words):
            words.insert(0, "none")
        found[folder] = Hierarchy(folder, ",".join(words))
    return [found[folder] for folder in sorted(found)]


def of_this_machine():
    found = hierarchies(pathlib.Path("/proc/self/mountinfo").read_text())
    if "memory" not in {hierarchy.folder for hierarchy in found}:
        raise steps.Failure(
            "this machine has no memory hierarchy of cgroup version 1 under /sys/fs/cgroup, which the "
            "nodes need. Run the suite on another cluster instead: set KUBECONFIG and REMORA_IMAGE")
    return found


def make(name):
    """Makes the group in every hierarchy; the folders whose cgroup.procs a process joins by."""
    folders = []
    for hierarchy in of_this_machine():
        folder = ROOT / hierarchy.folder / name
        folder.mkdir(exist_ok=True)
        # A new cpuset is empty, and nothing may run in an empty one.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (folder / setting).exists():
                (folder / setting).write_text((folder.parent / setting).read_text())
        folders.append(str(folder))
    return folders


@contextlib.contextmanager
def first_in_line(names):
    """What runs in these groups gets the cores before whatever else the machine does."""
    places = [ROOT / one.folder / name / "cpu.shares" for one in of_this_machine() for name in names]
    places = [place for place in places if place.exists()]
    try:
        for place in places:
            place.write_text(str(CPU_SHARES_MAX))
        yield
    finally:
        for place in places:
            place.write_text(str(CPU_SHARES_DEFAULT))


def remaining(name):
    return [folder for folder in ROOT.glob(f"*/{name}") if folder.is_dir()]


def remove(name):
    for _ in range(REMOVE_TRIES_MAX):
        for folder in remaining(name):
            for place, _, _ in os.walk(folder, topdown=False):
                try:
                    os.rmdir(place)
                except OSError:
                    pass  # Busy or gone: the next try tells.
        if not remaining(name):
            return
        time.sleep(REMOVE_PAUSE_S)
    raise steps.Failure(f"control groups remain: {' '.join(map(str, remaining(name)))}")
