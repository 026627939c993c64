"""Runs in the container of the demo's agent: damage_state.py PID DIRECTORY [kill]. The database is
overwritten while the agent stands still, so that it can't answer from a damaged file; with "kill" it then
dies, else that is left to the caller. Process 1 of its namespace can neither be stopped nor killed from
inside. Prints when it was done."""

import os
import signal
import sys
import time

pid, path = int(sys.argv[1]), sys.argv[2] + "/conversations.sqlite"
if pid != 1:
    os.kill(pid, signal.SIGSTOP)
os.truncate(path + "-wal", 0)
with open(path, "r+b") as database:
    for offset in range(0, os.path.getsize(path), 8192):
        database.seek(offset)
        database.write(os.urandom(4096))
print(time.time(), flush=True)
if pid != 1 and "kill" in sys.argv[3:]:
    os.kill(pid, signal.SIGKILL)
