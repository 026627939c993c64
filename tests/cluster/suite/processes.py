"""The operator's own process in a pod, for tests that make it ill: found on its node by the pod's control
group, for a signal that no kubelet sends."""

import contextlib

FIND = """
for process in /proc/[0-9]*; do
  if grep -qs 'pod{uid}/' $process/cgroup && [ "$(cat $process/comm 2>/dev/null)" = remora ]; then
    basename $process
  fi
done
"""


class OperatorProcess:
    def __init__(self, own, pod):
        """own: the cluster; pod: the object."""
        self._node = own.machine(pod["spec"]["nodeName"])
        found = self._node.run(["sh", "-c", FIND.format(uid=pod["metadata"]["uid"])]).stdout.split()
        assert len(found) == 1, f"processes of {pod['metadata']['name']}: {found}"
        self.pid = found[0]

    def signal(self, name):
        self._node.run(["kill", f"-{name}", self.pid])

    def kill(self):
        self.signal("KILL")

    @contextlib.contextmanager
    def stopped(self):
        self.signal("STOP")
        try:
            yield
        finally:
            # It may have ended, and its number belong to nobody or somebody else.
            if self.name() == "remora":
                self.signal("CONT")

    def name(self):
        return self._node.run(["cat", f"/proc/{self.pid}/comm"], check=False).stdout.strip()

    def memory_kib(self, key="VmRSS"):
        """VmHWM: the most that it ever was."""
        for line in self._node.run(["cat", f"/proc/{self.pid}/status"]).stdout.splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
        raise AssertionError(f"no {key}")
