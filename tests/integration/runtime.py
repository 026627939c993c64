"""A container runtime as far as the sidecar can tell: it starts the agent, and starts it again when
it has ended, after a back-off. Nobody else may."""

import os
import subprocess
import threading


class Runtime:
    def __init__(self, command, agent, backoff_s=0.0, env=None):
        self.command = command
        self.backoff_s = backoff_s
        self.codes = []  # as subprocess gives them: negative is a signal
        self._env = os.environ | {"REMORA_AGENT": agent} | (env or {})
        self._ending = threading.Event()
        self._changed = threading.Condition()
        self.process = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._ending.is_set():
            process = subprocess.Popen(self.command, env=self._env, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True)
            with self._changed:
                self.process = process
                self._changed.notify_all()
            code = process.wait()
            self.codes.append(code)
            self._ending.wait(self.backoff_s)

    def wait_started(self, count=1, wait_s=20):
        with self._changed:
            assert self._changed.wait_for(
                lambda: self.process is not None and len(self.codes) >= count - 1, wait_s)
        return self.process.pid

    def stop(self):
        """As a runtime ends a container: SIGTERM, no new start."""
        self._ending.set()
        if self.process:
            self.process.terminate()

    def clean_up(self):
        self._ending.set()
        if self.process and self.process.poll() is None:
            self.process.kill()
        self._thread.join(10)
