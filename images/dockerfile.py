"""Reads the few Dockerfile instructions that images/Dockerfile uses. Pure; refuses the rest.

Only what leaves one layer and a configuration is understood: FROM scratch, ARG with a default,
LABEL, ENV, USER, WORKDIR, ENTRYPOINT and CMD in JSON form, and one `COPY rootfs/ /`.
"""

import json
import re
import shlex

VARIABLE = re.compile(r"\$\{(\w+)\}")
LAYER_COPY = "rootfs/ /"


class DockerfileError(ValueError):
    """The Dockerfile says something that build.py can't do; the text names line and mend."""


def instructions(text):
    """(line number, instruction, rest), with continued lines joined and comments left out."""
    pending, started = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        if not pending:
            started = number
        if line.rstrip().endswith("\\"):
            pending += line.rstrip()[:-1] + " "
            continue
        whole = (pending + line).strip()
        pending = ""
        if whole:
            word, _, rest = whole.partition(" ")
            yield started, word.upper(), rest.strip()
    if pending:
        raise DockerfileError(f"line {started}: the last line ends in a backslash")


def pairs(rest):
    """KEY=VALUE … with shell quoting, as a mapping."""
    found = {}
    for word in shlex.split(rest):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise DockerfileError(f"wanted KEY=VALUE: {word}")
        found[key] = value
    return found


def command(rest):
    """The JSON form of ENTRYPOINT and CMD; the other one needs a shell, which isn't there."""
    try:
        words = json.loads(rest)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DockerfileError(f'wanted the form ["program", "argument"]: {rest}')
    return words


def expand(rest, arguments):
    def value(found):
        if found.group(1) not in arguments:
            raise DockerfileError(f"no ARG named {found.group(1)}")
        return arguments[found.group(1)]

    return VARIABLE.sub(value, rest)


def image_config(text, given):
    """The `config` object of an OCI image. given: values of ARGs, as docker build --build-arg."""
    state = {"from": None, "copies": 0, "arguments": {}}
    config = {}
    for number, word, rest in instructions(text):
        try:
            _apply(word, rest, state, config, given)
        except DockerfileError as error:
            raise DockerfileError(f"line {number}: {error}") from None
    if state["from"] != "scratch" or state["copies"] != 1:
        raise DockerfileError(f"wanted FROM scratch and one COPY {LAYER_COPY}")
    unknown = sorted(set(given) - set(state["arguments"]))
    if unknown:
        raise DockerfileError(f"no ARG named {', '.join(unknown)}")
    return config


def _apply(word, rest, state, config, given):
    if word == "ARG":
        name, _, default = rest.partition("=")
        state["arguments"][name] = given.get(name, default)
        return
    rest = expand(rest, state["arguments"])
    if word == "FROM":
        if state["from"] is not None:
            raise DockerfileError("one stage only")
        state["from"] = rest
    elif word == "COPY":
        if rest != LAYER_COPY:
            raise DockerfileError(f"wanted COPY {LAYER_COPY}")
        state["copies"] += 1
    elif word == "LABEL":
        config.setdefault("Labels", {}).update(pairs(rest))
    elif word == "ENV":
        config.setdefault("Env", []).extend(f"{k}={v}" for k, v in pairs(rest).items())
    elif word == "USER":
        config["User"] = rest
    elif word == "WORKDIR":
        config["WorkingDir"] = rest
    elif word == "ENTRYPOINT":
        config["Entrypoint"] = command(rest)
    elif word == "CMD":
        config["Cmd"] = command(rest)
    else:
        raise DockerfileError(f"{word} is not understood by images/build.py")
