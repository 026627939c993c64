"""Makes the image archive: one tar that is an OCI image layout (containerd, podman, skopeo) and a
`docker save` archive (docker load) at once. Pure: bytes in, bytes out.

The same content gives the same bytes on every machine: entries are sorted, belong to root, carry
time zero, and no name, number or clock of the machine goes in. Compression is zlib's at level 9,
so two machines with different zlibs agree on the layer's content (diff_id), not on its digest.
"""

import gzip
import hashlib
import io
import json
import tarfile

OCI = "application/vnd.oci.image"
COMPRESSION = 9
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def tar_of(entries):
    """entries: {path: (mode, content)}; content None is a directory. Parents are added, 0755."""
    whole = dict(entries)
    for path in entries:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            whole.setdefault("/".join(parts[:depth]), (0o755, None))
    out = io.BytesIO()
    # USTAR: no extended headers, which would carry times and process ids.
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(whole):
            mode, content = whole[path]
            info = tarfile.TarInfo(path)
            info.mode, info.mtime, info.uid, info.gid = mode, 0, 0, 0
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def full_name(name):
    """The name as containerd and the kubelet spell it out: remora:1 is docker.io/library/remora:1."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def _descriptor(kind, data, **more):
    return {"mediaType": f"{OCI}.{kind}", "digest": digest(data), "size": len(data), **more}


def image_archive(rootfs, config, name, machine, created):
    """rootfs: as tar_of takes it. created: RFC 3339, part of the image's identity."""
    platform = {"architecture": ARCHITECTURES[machine], "os": "linux"}
    layer_tar = tar_of(rootfs)
    layer = gzip.compress(layer_tar, COMPRESSION, mtime=0)
    image = canonical_json(platform | {
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer_tar)]},
        "history": [{"created": created, "created_by": "images/build.py"}],
    })
    manifest = canonical_json({
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": _descriptor("config.v1+json", image),
        "layers": [_descriptor("layer.v1.tar+gzip", layer)],
    })
    annotations = {
        "io.containerd.image.name": full_name(name),
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    index = canonical_json({
        "schemaVersion": 2,
        "mediaType": f"{OCI}.index.v1+json",
        "manifests": [_descriptor("manifest.v1+json", manifest, platform=platform,
                                  annotations=annotations)],
    })
    blobs = {_blob_path(data): (0o644, data) for data in (layer, image, manifest)}
    docker = [{"Config": _blob_path(image), "RepoTags": [name], "Layers": [_blob_path(layer)]}]
    return tar_of(blobs | {
        "oci-layout": (0o644, canonical_json({"imageLayoutVersion": "1.0.0"})),
        "index.json": (0o644, index),
        "manifest.json": (0o644, canonical_json(docker)),
    })


def _blob_path(data):
    return "blobs/sha256/" + hashlib.sha256(data).hexdigest()
