"""Image archives: layers in order, digests that match, the name where containerd looks for it."""

import hashlib
import json
import tarfile

import images
import layout
import pytest
import steps


def recipe(name, files, base=None, **config):
    def make(folder, _):
        for path, text in files.items():
            (folder / path).write_text(text)
    return images.Recipe(name, make, tuple(sorted(files.items())), config, base)


@pytest.fixture
def where(tmp_path):
    return layout.Layout(tmp_path)


BASE = recipe("base", {"below": "1", "both": "old"})
TOP = recipe("top", {"above": "2", "both": "new"}, BASE, Cmd=["run"])


def test_every_blob_has_the_digest_of_its_name(where):
    with tarfile.open(images.ready(where, TOP, None)) as archive:
        blobs = [name for name in archive.getnames() if name.startswith("blobs/")]
        assert len(blobs) == 4
        for name in blobs:
            data = archive.extractfile(name).read()
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]


def test_layers_lie_in_order_and_the_config_knows_them(where, tmp_path):
    with tarfile.open(images.ready(where, TOP, None)) as archive:
        def blob(descriptor):
            return archive.extractfile("blobs/sha256/" + descriptor["digest"].partition(":")[2])

        index = json.load(archive.extractfile("index.json"))
        manifest = json.load(blob(index["manifests"][0]))
        config = json.load(blob(manifest["config"]))
        assert config["rootfs"]["diff_ids"] == [one["digest"] for one in manifest["layers"]]
        assert config["config"]["Cmd"] == ["run"]
        assert f"PATH={images.PATH}" in config["config"]["Env"]
        files = []
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=blob(layer)) as tar:
                files.append({name.removeprefix("./") for name in tar.getnames()} - {"."})
        assert files == [{"below", "both"}, {"above", "both"}]


def test_the_name_is_found_again(where):
    assert images.reference_in(images.ready(where, TOP, None)) == TOP.reference


def test_an_archive_is_made_once_and_anew_when_anything_below_changes(where):
    first = images.ready(where, TOP, None)
    made = first.stat().st_mtime_ns
    assert images.ready(where, TOP, None).stat().st_mtime_ns == made
    other_base = recipe("base", {"below": "changed"})
    changed = recipe("top", {"above": "2", "both": "new"}, other_base, Cmd=["run"])
    assert changed.archive(where) != first


def test_a_failed_recipe_leaves_nothing(where):
    def fail(folder, _):
        raise steps.Failure("no compiler")

    with pytest.raises(steps.Failure):
        images.ready(where, images.Recipe("bad", fail), None)
    assert [path.name for path in where.images.iterdir()] == ["locks"]
