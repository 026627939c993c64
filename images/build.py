"""Makes the image from a built binary: an archive for containerd and Docker, and its SBOM.

    ./dev image [NAME:TAG]         builds the release binary first
    build.py --build DIRECTORY     takes what is there

Writes under --out: remora.tar (OCI layout and `docker load` archive in one), remora.spdx.json, and
context/, from which images/Dockerfile makes the same image. Needs no Docker, no root and no
network. Equal sources give equal bytes: the only date is that of the last commit
(SOURCE_DATE_EPOCH overrides it).
"""

import argparse
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

import archive
import components
import dockerfile
import sbom

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(HERE)
# The package's own files. The bundle under /etc/ssl/certs may hold certificates that somebody added
# to this machine.
CERTIFICATES = "/usr/share/ca-certificates/mozilla"
BINARY = "usr/local/bin/remora"
# What a node pulls and a registry keeps. Unpacked, OpenSSL, protobuf, SQLite and glibc alone are
# 8 MB, which Debian's archives don't let one take apart.
PULLED_BYTES_MAX = 10_000_000
UNPACKED_BYTES_MAX = 14_500_000
USER = 65532
PASSWD = f"root:x:0:0:root:/:/nonexistent\nremora:x:{USER}:{USER}:remora:/:/nonexistent\n"
GROUP = f"root:x:0:\nremora:x:{USER}:\n"


class BuildError(Exception):
    """Something that the user of this script has to mend."""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def product_version():
    with open(os.path.join(SOURCE, "CMakeLists.txt"), encoding="utf-8") as file:
        return re.search(r"^project\(remora VERSION (\S+)", file.read(), re.MULTILINE).group(1)


def created_at():
    """When the sources were last changed, in the form of RFC 3339."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if seconds is None:
        asked = subprocess.run(["git", "-C", SOURCE, "log", "-1", "--format=%ct"],
                               capture_output=True, text=True, check=False)
        seconds = asked.stdout.strip() or "0"
    if not seconds.isdecimal():
        raise BuildError(f"SOURCE_DATE_EPOCH must be seconds since 1970: {seconds}")
    moment = datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def stripped(binary):
    """The binary's content without symbols; refuses one that wouldn't run in an empty image."""
    headers = run("readelf", "--program-headers", "--wide", binary)
    if re.search(r"^\s*INTERP\b", headers, re.MULTILINE):
        raise BuildError(f"{binary} is linked dynamically; the image has no libraries: "
                         "take the release preset")
    with tempfile.TemporaryDirectory() as directory:
        out = os.path.join(directory, "remora")
        run("strip", "--strip-all", "--remove-section=.comment", "-o", out, binary)
        return read(out)


def certificates(directory=CERTIFICATES):
    names = sorted(name for name in os.listdir(directory) if name.endswith(".crt"))
    if not names:
        raise BuildError(f"no certificates in {directory}: install ca-certificates")
    texts = [read(os.path.join(directory, name)).strip() + b"\n" for name in names]
    return b"".join(texts), {os.path.join(directory, name) for name in names}


def root_files(binary, bundle):
    return {
        BINARY: (0o755, binary),
        "etc/ssl/certs/ca-certificates.crt": (0o644, bundle),
        "etc/passwd": (0o644, PASSWD.encode()),
        "etc/group": (0o644, GROUP.encode()),
        "tmp": (0o1777, None),
        "var/lib/agent": (0o1777, None),
        "var/lib/remora": (0o1777, None),
    }


def write_context(out, rootfs):
    """The same files for `docker build`."""
    context = os.path.join(out, "context")
    shutil.rmtree(context, ignore_errors=True)
    for path, (mode, content) in rootfs.items():
        target = os.path.join(context, "rootfs", path)
        if content is None:
            os.makedirs(target)
            os.chmod(target, mode)
        else:
            write(target, content, mode)


def build(arguments):
    version = product_version()
    name = arguments.name or f"remora:{version}"
    binary_path = os.path.join(arguments.build, "remora")
    created, machine = created_at(), platform.machine()
    binary = stripped(binary_path)
    bundle, certificate_files = certificates()
    rootfs = root_files(binary, bundle)
    with open(os.path.join(HERE, "Dockerfile"), encoding="utf-8") as file:
        config = dockerfile.image_config(file.read(), {"VERSION": version})
    size = sum(len(content or b"") for _, content in rootfs.values())
    map_text = read(binary_path + ".map").decode(errors="replace")
    parts = components.components(components.linked_files(map_text),
                                  components.compiled_files(arguments.build))
    data = components.components(set(), certificate_files)
    tar = archive.image_archive(rootfs, config, name, machine, created)
    for what, has, most in (("unpacked", size, UNPACKED_BYTES_MAX), ("packed", len(tar), PULLED_BYTES_MAX)):
        if has > most:
            raise BuildError(f"the image has {has:,} bytes {what}, {most:,} are allowed: "
                             "see what grew (nm --size-sort)")
    write(os.path.join(arguments.out, "remora.tar"), tar)
    write(os.path.join(arguments.out, "remora.spdx.json"),
          sbom.document(version, machine, created, (BINARY, binary), parts, data))
    write_context(arguments.out, rootfs)
    return (f"{name}: {len(tar):,} bytes in {arguments.out}/remora.tar, {size:,} unpacked, "
            f"{len(parts) + len(data)} components in remora.spdx.json")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(SOURCE, "build/release"),
                        help="the directory in which CMake built remora")
    parser.add_argument("--out", default=os.path.join(SOURCE, "build/images"))
    parser.add_argument("name", nargs="?", help="NAME:TAG; default remora:VERSION")
    arguments = parser.parse_args()
    if arguments.name is not None and not re.fullmatch(r"[a-z0-9./_-]+(:[0-9]+/[a-z0-9./_-]+)?:[\w.-]+",
                                                       arguments.name):
        parser.error(f"wanted NAME:TAG, as in registry.example/remora:1.0: {arguments.name}")
    try:
        print(build(arguments))
    except (BuildError, components.ComponentError, dockerfile.DockerfileError, OSError) as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
