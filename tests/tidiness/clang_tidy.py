#!/usr/bin/env python3
"""Runs clang-tidy over source files, several at once, and remembers which were clean.

A file is looked at again when anything changes that its result may depend on: itself, a header of
ours that it includes over any number of steps, its compile command, .clang-tidy, clang-tidy itself.
Paths count relative to the checkout, so clones share what is remembered.

Exit codes: 0 clean, 1 findings, 2 a file could not be looked at.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = "clang-tidy-19"
FILE_S_MAX = 600
INCLUDE = re.compile(rb'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def closure(source, root=ROOT):
    """The source and all headers of ours that it includes, and the schemas of generated ones."""
    seen, waiting = set(), [source]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        if path.endswith(".pb.h") and not (root / path).exists():
            path = path.removesuffix(".pb.h") + ".proto"
        if not (root / path).is_file():
            continue
        seen.add(path)
        waiting += [name.decode() for name in INCLUDE.findall((root / path).read_bytes())]
    return sorted(seen)


def digest(source, command, tool, root=ROOT):
    """What the result of a file depends on, as one name."""
    whole = hashlib.sha256()
    for part in (tool, command.replace(str(root), ""), (root / ".clang-tidy").read_text()):
        whole.update(part.encode() + b"\0")
    for folder in pathlib.PurePath(source).parents:
        nested = root / folder / ".clang-tidy"
        if folder.name and nested.is_file():
            whole.update(nested.read_bytes() + b"\0")
    for path in closure(source, root):
        whole.update(path.encode() + b"\0" + (root / path).read_bytes() + b"\0")
    return whole.hexdigest()


def commands_of(build):
    """{path relative to the checkout: compile command}."""
    entries = json.loads((build / "compile_commands.json").read_text())
    return {os.path.relpath(entry["file"], ROOT): entry["command"] for entry in entries}


def look_at(how, source, remembered):
    """(exit code, what it found). A clean result is remembered."""
    if remembered.exists():
        return 0, ""
    done = subprocess.run([PROGRAM, "--quiet", *how, str(ROOT / source),
                           *([] if how else ["--", "-std=c++23"])],
                          capture_output=True, text=True, timeout=FILE_S_MAX, check=False)
    if done.returncode == 0:
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.touch()
        return 0, ""
    # Without output it did not fail over the source.
    return (1, done.stdout) if done.stdout.strip() else (2, done.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="+", help="relative to the checkout")
    options = parser.parse_args()

    tool = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    commands = commands_of(options.build)
    worst = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        running = {}
        for source in options.files:
            if not (ROOT / source).is_file():
                print(f"{source}: no such source file", file=sys.stderr)
                return 2
            command = commands.get(source, "")
            name = options.cache / digest(source, command, tool)
            # Without a command: an agent that a suite compiles by itself.
            how = ["-p", str(options.build.resolve())] if command else []
            running[pool.submit(look_at, how, source, name)] = source
        for done in concurrent.futures.as_completed(running):
            code, text = done.result()
            if code:
                print(f"{running[done]}:\n{text}", flush=True)
            worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
