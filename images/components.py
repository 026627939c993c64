"""Finds what the binary is made of: the Debian packages whose archives were linked in and whose
headers and sources were compiled in.

Nothing is listed by hand: the linker's map names the archives, ninja's log the files that each
object was compiled from, dpkg the packages. Licences are checked against licences.json.
"""

import dataclasses
import json
import os
import re
import subprocess

# An archive's member or a start-up object, in the map of ld, gold or lld.
LINKED = re.compile(r"(/[^\s():]+?\.(?:a\(|o\b))")
SYSTEM = "/usr/"
LICENCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "licences.json")
DEP5 = "Format:"


class ComponentError(Exception):
    """Where the text says what is missing and what to do."""


@dataclasses.dataclass(frozen=True)
class Component:
    """One Debian source package of which something is in the image."""

    source: str
    version: str
    packages: tuple  # binary packages that the files came from
    spdx: str
    note: str
    linked: bool  # True: code from an archive; False: headers, sources or data only


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def linked_files(map_text):
    """The system's archives and objects that gave something to the binary."""
    found = {os.path.normpath(each.rstrip("(")) for each in LINKED.findall(map_text)}
    return {path for path in found if path.startswith(SYSTEM)}


def compiled_files(build_dir):
    """The system's headers and sources that the binary's objects were made from."""
    status, inputs, error = _run("ninja", "-C", build_dir, "-t", "inputs", "remora")
    if status != 0:
        raise ComponentError(f"ninja -t inputs failed in {build_dir}: {error.strip()}")
    objects = {line for line in inputs.splitlines() if line.endswith(".o")}
    _, text, _ = _run("ninja", "-C", build_dir, "-t", "deps")
    found, seen, wanted = set(), set(), False
    for line in text.splitlines():
        if line.startswith(" "):
            path = os.path.normpath(line.strip())
            if wanted and path.startswith(SYSTEM):
                found.add(path)
        elif line:
            name = line.split(":", 1)[0]
            wanted = name in objects
            seen |= {name} & objects
    missing = sorted(objects - seen)
    if missing:
        raise ComponentError(f"ninja has no dependencies of {missing[0]}: build again in {build_dir}")
    return found


def owners(paths):
    """{path: binary package}. The search is for the exact path, not for a pattern."""
    status, listing, error = _run("dpkg-query", "--search", *sorted(paths))
    owner = {}
    for line in listing.splitlines():
        packages, _, path = line.rpartition(": ")
        owner[path] = packages.split(",")[0].split(":")[0]
    missing = sorted(set(paths) - set(owner))
    if missing:
        raise ComponentError(f"no Debian package owns {missing[0]} (exit code {status}): "
                             f"{error.strip()[:200]}")
    return owner


def declared_licence(copyright_text):
    """The licence that a machine-readable copyright file gives for 'Files: *', or None."""
    if not copyright_text.startswith(DEP5):
        return None
    for paragraph in re.split(r"\n\s*\n", copyright_text):
        files = re.search(r"^Files:(.*?)(?=^\S|\Z)", paragraph, re.MULTILINE | re.DOTALL)
        if files and "*" in files.group(1).split():
            found = re.search(r"^License:\s*(.*)$", paragraph, re.MULTILINE)
            return found.group(1).strip() if found else None
    return None


def licence_of(source, package, table, documents="/usr/share/doc"):
    """(SPDX expression, note) of a source package; checks what Debian says of it."""
    entry = table.get(source)
    copyright_file = f"{documents}/{package}/copyright"
    if entry is None:
        raise ComponentError(f"{source} is new in the binary: read {copyright_file} and enter its "
                             "licence in images/licences.json")
    with open(copyright_file, encoding="utf-8") as file:
        declared = declared_licence(file.read())
    if declared != entry["debian"]:
        raise ComponentError(f"{copyright_file} says {declared!r}, images/licences.json "
                             f"{entry['debian']!r}: read it and correct the entry")
    return entry["spdx"], entry.get("note", "")


def components(linked, compiled):
    """linked, compiled: paths. The source packages, sorted by name."""
    owner = owners(linked | compiled)
    with open(LICENCES, encoding="utf-8") as file:
        table = json.load(file)
    sources = {}
    for package in sorted(set(owner.values())):
        status, text, error = _run(
            "dpkg-query", "--show", "--showformat", "${source:Package} ${source:Version}\n", package)
        if status != 0:
            raise ComponentError(error.strip())
        source, version = text.splitlines()[0].split()
        sources.setdefault((source, version), []).append(package)
    linked_packages = {owner[path] for path in linked}
    found = []
    for (source, version), packages in sorted(sources.items()):
        spdx, note = licence_of(source, packages[0], table)
        found.append(Component(source, version, tuple(packages), spdx, note,
                               not linked_packages.isdisjoint(packages)))
    return found
