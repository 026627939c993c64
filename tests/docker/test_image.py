"""The image itself: it loads, runs as nobody with a read-only root, and is what the Dockerfile says."""

import json
import tarfile

import images
from conftest import image_tar

HARD = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")


def test_it_loads_and_runs_with_nothing_allowed(engine, remora_image):
    version = engine.run("run", "--rm", *HARD, remora_image, "--version")
    assert version == "remora " + remora_image.rpartition(":")[2]


def test_it_runs_as_nobody(engine, remora_image):
    assert engine.inspect(remora_image)["Config"]["User"] == "65532:65532"


def test_it_has_no_shell(engine, remora_image):
    done = engine.try_run("run", "--rm", "--entrypoint", "/bin/sh", remora_image, "-c", "true")
    assert done.returncode == 127
    assert "no such file" in done.stderr


def test_any_user_can_keep_a_store_in_a_new_volume(engine, remora_image):
    for user in ("65532:65532", "1000:1000"):
        done = engine.try_run("run", "--rm", *HARD, "--user", user, "--volume", "/var/lib/remora",
                              remora_image, "snapshot", "list", "--store", "/var/lib/remora/store")
        assert "ermission" not in done.stderr, done.stderr


def test_loading_it_twice_changes_nothing(engine, remora_image):
    before = engine.inspect(remora_image)["Id"]
    assert images.load_remora(engine, image_tar()) == remora_image
    assert engine.inspect(remora_image)["Id"] == before


def exported(engine, image, path):
    """{name: (mode, owner, size)} of everything in an image."""
    container = engine.run("create", image)
    try:
        engine.run("export", "--output", path, container)
    finally:
        engine.remove(container)
    with tarfile.open(path) as tar:
        return {entry.name.rstrip("/"): (entry.mode, entry.uid, entry.size, entry.type)
                for entry in tar}


def test_the_dockerfile_makes_the_same_image(engine, remora_image, tmp_path):
    version = remora_image.rpartition(":")[2]
    engine.run("build", "--tag", "from-dockerfile", "--build-arg", f"VERSION={version}",
               "--file", images.SOURCE / "images/Dockerfile", image_tar().parent / "context")
    ours, theirs = (exported(engine, image, tmp_path / image.partition(":")[0])
                    for image in (remora_image, "from-dockerfile"))
    assert ours == theirs
    configs = [engine.inspect(image)["Config"] for image in (remora_image, "from-dockerfile")]
    for key in ("User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Labels"):
        assert configs[0][key] == configs[1][key], json.dumps(configs, indent=1)
