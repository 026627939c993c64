"""The archive: the same bytes each time, and readable as an OCI layout and as `docker save`'s form."""

import gzip
import hashlib
import io
import json
import tarfile

import archive

CREATED = "2026-01-02T03:04:05Z"
CONFIG = {"User": "65532:65532", "Entrypoint": ["/usr/local/bin/remora"]}
ROOTFS = {
    "usr/local/bin/remora": (0o755, b"\x7fELF not really"),
    "etc/ssl/certs/ca-certificates.crt": (0o644, b"certificates\n"),
    "tmp": (0o1777, None),
    "empty": (0o644, b""),
}


def make(rootfs=None, name="remora:1.2.3", created=CREATED):
    return archive.image_archive(rootfs or ROOTFS, CONFIG, name, "x86_64", created)


def unpack(tar):
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {entry.name: opened.extractfile(entry).read() for entry in opened if entry.isfile()}


def blob(files, descriptor):
    """A descriptor's content, after its digest and size have been checked."""
    algorithm, _, value = descriptor["digest"].partition(":")
    content = files[f"blobs/{algorithm}/{value}"]
    assert hashlib.sha256(content).hexdigest() == value
    assert len(content) == descriptor["size"]
    return content


def the_image(tar):
    """(index entry, configuration, layer's tar) by the OCI image specification."""
    files = unpack(tar)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blob(files, entry))
    (layer,) = manifest["layers"]
    return entry, json.loads(blob(files, manifest["config"])), gzip.decompress(blob(files, layer))


def test_the_order_in_which_files_are_given_does_not_matter():
    assert make(dict(reversed(list(ROOTFS.items())))) == make()


def test_what_belongs_to_the_image_changes_its_bytes():
    other = ROOTFS | {"empty": (0o600, b"")}
    assert len({make(), make(other), make(name="remora:2"), make(created="2026-01-02T03:04:06Z")}) == 4


def test_no_name_number_or_clock_of_the_machine_goes_in():
    for tar in (make(), the_image(make())[2]):
        with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
            for entry in opened:
                assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)
                assert entry.pax_headers == {}


def test_the_oci_layout_leads_from_the_index_to_each_file():
    entry, config, layer = the_image(make())
    assert entry["platform"] == {"architecture": "amd64", "os": "linux"}
    assert config["config"] == CONFIG
    assert config["created"] == CREATED
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
    with tarfile.open(fileobj=io.BytesIO(layer)) as opened:
        found = {e.name: (e.mode, opened.extractfile(e).read() if e.isfile() else None) for e in opened}
    assert ROOTFS.items() <= found.items()
    assert found["usr/local"] == (0o755, None)  # parents are there, for unpackers that want them


def test_docker_finds_the_same_image():
    files = unpack(make())
    (listed,) = json.loads(files["manifest.json"])
    entry, config, layer = the_image(make())
    assert listed["RepoTags"] == ["remora:1.2.3"]
    assert json.loads(files[listed["Config"]]) == config
    assert [gzip.decompress(files[path]) for path in listed["Layers"]] == [layer]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/remora:1.2.3"


def test_names_are_spelled_out_as_the_kubelet_does():
    assert archive.full_name("remora:1") == "docker.io/library/remora:1"
    assert archive.full_name("team/remora:1") == "docker.io/team/remora:1"
    assert archive.full_name("registry.example/remora:1") == "registry.example/remora:1"
    assert archive.full_name("registry:5000/a/b:1") == "registry:5000/a/b:1"
    assert archive.full_name("localhost/remora:1") == "localhost/remora:1"
