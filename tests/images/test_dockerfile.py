"""The Dockerfile is the one description of the image, so what it says is checked here."""

import pytest

import dockerfile


def read(source):
    text = (source / "images/Dockerfile").read_text(encoding="utf-8")
    return dockerfile.image_config(text, {"VERSION": "1.2.3"})


def test_the_image_runs_as_nobody_in_particular(source):
    user, _, group = read(source)["User"].partition(":")
    assert int(user) > 0 and int(group) > 0  # numbers: the kubelet can't look names up


def test_the_image_starts_remora_without_a_shell(source):
    config = read(source)
    assert config["Entrypoint"] == ["/usr/local/bin/remora"]
    assert config["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" in config["Env"]


def test_the_default_of_an_argument_is_used():
    text = "FROM scratch\nARG A=1\nLABEL x=${A}\nCOPY rootfs/ /\n"
    assert dockerfile.image_config(text, {})["Labels"] == {"x": "1"}
    assert dockerfile.image_config(text, {"A": "2"})["Labels"] == {"x": "2"}


@pytest.mark.parametrize(("text", "complaint"), [
    ("FROM debian\nCOPY rootfs/ /\n", "FROM scratch"),
    ("FROM scratch\n", "one COPY"),
    ("FROM scratch\nCOPY rootfs/ /\nRUN rm -rf /\n", "line 3: RUN"),
    ("FROM scratch\nCOPY . /\n", "line 2: wanted COPY"),
    ("FROM scratch\nCOPY rootfs/ /\nENTRYPOINT remora\n", "line 3: wanted the form"),
    ("FROM scratch\nCOPY rootfs/ /\nENV A\n", "line 3: wanted KEY=VALUE"),
    ("FROM scratch\nCOPY rootfs/ /\nLABEL a=${B}\n", "line 3: no ARG named B"),
    ("FROM scratch\nFROM scratch\nCOPY rootfs/ /\n", "line 2: one stage"),
    ("FROM scratch\nCOPY rootfs/ /\nUSER 1 \\", "backslash"),
])
def test_what_is_not_understood_is_refused(text, complaint):
    with pytest.raises(dockerfile.DockerfileError, match=complaint):
        dockerfile.image_config(text, {})


def test_an_unknown_argument_is_refused():
    with pytest.raises(dockerfile.DockerfileError, match="no ARG named VERSIN"):
        dockerfile.image_config("FROM scratch\nCOPY rootfs/ /\n", {"VERSIN": "1"})
