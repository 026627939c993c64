"""Running programs and waiting for conditions. Every wait has a limit, and says what it waited for."""

import contextlib
import fcntl
import os
import subprocess
import sys
import time

POLL_S = 0.1
OUTPUT_SHOWN_BYTES_MAX = 4000


class Failure(Exception):
    """Something the reader can mend; the message says what and how."""


def run(argv, *, input_text=None, check=True, seconds=120, **more):
    """Runs a program to its end; its output as text. A failure names the program and shows what it
    said."""
    argv = [str(word) for word in argv]
    try:
        done = subprocess.run(argv, input=input_text, text=True, capture_output=True,
                              timeout=seconds, check=False, **more)
    except FileNotFoundError as error:
        raise Failure(f"no program {argv[0]}: ./dev cluster installs what it needs") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"not done after {seconds} s: {' '.join(argv)[:400]}") from error
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout)[-OUTPUT_SHOWN_BYTES_MAX:].strip()
        raise Failure(f"exit code {done.returncode}: {' '.join(argv)[:400]}\n{said}")
    return done


def wait_until(what, seconds, probe, poll_s=POLL_S):
    """Calls probe until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise Failure(f"waited {seconds} s in vain: {what}")
        time.sleep(poll_s)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Stopwatch:
    """Tells how long each step took."""

    def __init__(self):
        self.begin = time.monotonic()

    def say(self, text):
        say(f"{time.monotonic() - self.begin:6.1f} s  {text}")


@contextlib.contextmanager
def locked(path, wait=True):
    """Held by one process at a time; the kernel gives it back when that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise Failure(f"another ./dev cluster is at work here ({path})") from error
        yield


def whole_file(path, text, mode=0o644):
    """Readers see the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    os.replace(temporary, path)
