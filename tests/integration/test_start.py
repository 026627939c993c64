"""Starting, ending, and every input that can be wrong: one line that says what to do, a documented
exit code, and nothing lost."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from http1 import ask
from remora import binary, run_cli, wait_for

USAGE_EXIT_CODES = range(1, 126)


def tree_digest(directory):
    """One hash over names and contents of everything below directory."""
    digest = hashlib.sha256()
    for folder, names, files in sorted(os.walk(directory)):
        names.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            digest.update(os.path.relpath(path, directory).encode())
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    digest.update(file.read())
    return digest.hexdigest()


def assert_one_line(text, *words):
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    for word in words:
        assert word.lower() in lines[0].lower(), lines[0]


def refuse(remora, *arguments, **named):
    """Starts what must refuse to start: (exit code, what it said)."""
    words = remora.command(*arguments, **named)
    done = subprocess.run(words, capture_output=True, text=True, timeout=30,
                          stdin=subprocess.DEVNULL, cwd=remora.directory)
    assert remora.journal("start") == [], "the agent was started all the same"
    return done.returncode, done.stderr


# --- it runs ---------------------------------------------------------------------------------------
def test_zero_configuration_carries_requests(remora):
    remora.start(store=False, state=False)
    assert remora.get("/ok").status == 200
    echo = remora.post("/echo", body=b"hello").json()
    assert echo["body"] == "hello"
    assert remora.stop() == 0


def test_first_request_waits_for_an_agent_that_starts_slowly(remora):
    remora.start(["--start-delay", 2])
    assert remora.get("/ok").status == 200


def test_agent_is_told_its_state_directory_and_environment(remora):
    remora.start(config={"agent": {"env": {"TEST_COLOUR": "blue"}}})
    env = remora.get("/env").json()
    assert env["TEST_COLOUR"] == "blue"
    assert os.path.realpath(env["REMORA_STATE_DIR"]) == os.path.realpath(remora.state)


def test_command_may_come_from_the_configuration(remora):
    command = remora.agent_command()
    remora.write_config({"agent": {"command": command, "appPort": remora.app_port},
                         "inbound": {"listen": "127.0.0.1:0"}})
    words = [binary(), "run", "-c", remora.config_path]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)
    try:
        line = next(line for line in process.stderr if b'"listening"' in line)
        port = int(re.search(rb"127\.0\.0\.1:(\d+)", line).group(1))
        assert ask(port, "GET", "/ok").status == 200
    finally:
        process.terminate()
        process.wait(20)


def test_output_of_the_agent_is_logged_line_by_line(remora):
    remora.start_ready()
    line = remora.wait_log("agent_output", line="agent starts")
    assert line["stream"] == "stdout"
    assert line["generation"] == 1


def test_help_and_version_succeed():
    for words in (["--help"], ["--version"], ["run", "--help"], ["snapshot", "--help"]):
        done = run_cli(*words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


# --- exit codes ------------------------------------------------------------------------------------
GIVE_UP = {"healing": {"ladders": [{"fault": "crash", "steps": ["give_up"]}]}}


def test_agent_that_finishes_ends_remora_with_zero(remora):
    remora.start(["--exit-at-start", 0])
    assert remora.wait() == 0
    assert len(remora.journal("start")) == 1


def test_exit_code_is_passed_on_when_giving_up(remora):
    remora.launch(["--exit-at-start", 3], config=GIVE_UP)
    assert remora.wait() == 3


def test_death_by_signal_is_passed_on_when_giving_up(remora):
    remora.start_ready(config=GIVE_UP)
    remora.ask_later("GET", "/crash")
    assert remora.wait() == 128 + signal.SIGKILL


def test_sigterm_ends_with_zero_and_leaves_nothing_behind(remora):
    remora.start_ready()
    children = remora.get("/spawn").json()["children"]
    agent = remora.agent_pid()
    assert remora.stop() == 0
    for pid in (agent, *children):
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), f"the end of {pid}", 5)


# --- bad input -------------------------------------------------------------------------------------
def test_missing_command_is_127(remora):
    code, text = refuse(remora, command=["/no/such/agent"])
    assert code == 127
    assert "/no/such/agent" in text


def test_command_that_is_not_executable_is_126(remora):
    plain = os.path.join(remora.directory, "notes.txt")
    with open(plain, "w", encoding="utf-8") as file:
        file.write("not a program\n")
    code, text = refuse(remora, command=[plain])
    assert code == 126
    assert "notes.txt" in text


def test_no_command_at_all_is_a_usage_error():
    done = run_cli("run", "--app-port", 1234)
    assert done.returncode in USAGE_EXIT_CODES
    assert_one_line(done.stderr, "command")


@pytest.mark.parametrize("words", [["fly"], ["run", "--no-such-option", "--", "true"],
                                   ["snapshot", "list"], []])
def test_wrong_usage_is_refused(words):
    done = run_cli(*words)
    assert done.returncode in USAGE_EXIT_CODES
    assert done.stderr.strip()


def test_busy_port_is_one_line_and_starts_no_agent(remora):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = remora.command()
        words[words.index("127.0.0.1:0")] = address
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode in USAGE_EXIT_CODES
    assert_one_line(done.stderr, address, "in use")
    assert remora.journal("start") == []


def test_bad_configuration_reports_everything_at_once(remora):
    code, text = refuse(remora, config="agent:\n  appPort: 70000\n  colour: blue\n"
                        "detection:\n  hangWindow: soon\n")
    assert code in USAGE_EXIT_CODES
    for line, word in ((2, "appPort"), (3, "colour"), (5, "hangWindow")):
        assert re.search(rf"remora\.yaml:{line}:\d+.*{word}", text), text
    assert os.path.exists(remora.store) is False


def test_missing_configuration_file_is_one_line(remora):
    words = remora.command(options=["-c", os.path.join(remora.directory, "nowhere.yaml")])
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode in USAGE_EXIT_CODES
    assert_one_line(done.stderr, "nowhere.yaml")


def test_validate_agrees_with_run(remora):
    remora.write_config("inbound:\n  listen: nowhere\n")
    done = run_cli("validate", remora.config_path)
    assert done.returncode == 1
    assert "remora.yaml:2" in done.stdout + done.stderr
    remora.write_config("inbound:\n  listen: 127.0.0.1:0\n")
    assert run_cli("validate", remora.config_path).returncode == 0


def test_store_of_a_newer_format_is_refused_and_left_alone(remora):
    remora.start_ready()
    remora.post("/write?name=a", body=b"a")
    assert run_cli("snapshot", "take", "--store", remora.store).returncode == 0
    assert remora.stop() == 0
    format_file = next(os.path.join(folder, name) for folder, _, files in os.walk(remora.store)
                       for name in files if name in ("format", "version", "FORMAT", "remora-store"))
    with open(format_file, encoding="utf-8") as file:
        text = file.read()
    with open(format_file, "w", encoding="utf-8") as file:
        file.write(re.sub(r"\d+", lambda n: str(int(n.group()) + 1), text))
    before = tree_digest(remora.store)
    os.unlink(remora.journal_path)
    code, text = refuse(remora)
    assert code in USAGE_EXIT_CODES
    assert_one_line(text, "newer")
    for words in (["list"], ["verify"], ["prune"]):
        done = run_cli("snapshot", *words, "--store", remora.store)
        assert done.returncode != 0, words
        assert_one_line(done.stderr, "newer")
    assert tree_digest(remora.store) == before


@pytest.mark.parametrize("which", ["--store", "--state"])
def test_directory_that_is_a_file_is_one_line(remora, which):
    path = os.path.join(remora.directory, "plain")
    with open(path, "w", encoding="utf-8"):
        pass
    code, text = refuse(remora, state=False, store=False, options=[which, path])
    assert code in USAGE_EXIT_CODES
    assert_one_line(text, path)


@pytest.mark.root
@pytest.mark.parametrize("which", ["--store", "--state"])
def test_unwritable_directory_is_one_line(remora, which, tmp_path):
    """As nobody, in a directory of root's."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith("/tmp/") and folder.owner() == "root":
            folder.chmod(0o755)
    words = [binary(), "run", "--listen", "127.0.0.1:0", "--app-port", "1234",
             which, str(closed / "inside"), "--", sys.executable, "-c", "print('started')"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, user=65534, cwd="/")
    assert done.returncode in USAGE_EXIT_CODES
    assert_one_line(done.stderr, str(closed), "permission")


@pytest.mark.parametrize("words", [
    ["incident", "list"], ["incident", "show"], ["snapshot", "list"], ["snapshot", "verify"],
    ["snapshot", "restore", "--state", "/tmp/remora-none"], ["snapshot", "prune"],
    ["snapshot", "show", "latest"],
])
def test_store_that_is_not_there_is_one_line(words, tmp_path):
    done = run_cli(*words, "--store", tmp_path / "nowhere")
    assert done.returncode in USAGE_EXIT_CODES
    assert_one_line(done.stderr, "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_status_without_a_running_remora_is_one_line(tmp_path):
    done = run_cli("status", "--admin", tmp_path / "admin.sock")
    assert done.returncode in USAGE_EXIT_CODES
    assert_one_line(done.stderr, "admin.sock")


@pytest.mark.root
def test_restore_into_a_state_directory_without_space_is_one_line_and_loses_nothing(remora):
    remora.start_ready()
    remora.post("/write?name=large", body=os.urandom(4 << 20))
    assert run_cli("snapshot", "take", "--store", remora.store).returncode == 0
    assert remora.stop() == 0
    full = os.path.join(remora.directory, "full")
    os.mkdir(full)
    # The file system is the command's own and gone with it.
    script = """
        mount -t tmpfs -o size=2m none "$1" && mkdir "$1/state" && echo kept > "$1/state/old"
        "$2" snapshot restore --store "$3" --state "$1/state"
        code=$?
        cat "$1/state/old" && ls -A "$1" "$1/state"
        exit $code
    """
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", full, binary(),
                           remora.store], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in USAGE_EXIT_CODES, done
    assert_one_line(done.stderr, "space", full)
    assert done.stdout.split() == ["kept", f"{full}:", "state", f"{full}/state:", "old"]
    assert run_cli("snapshot", "verify", "--store", remora.store).returncode == 0
