"""Ways to fall ill, for the demo and the tests only. Standard library."""

import ctypes
import os
import sys
import threading
import time

PR_SET_NAME = 15
# Twice pthread_mutex_t on x86_64 and aarch64; uint64 elements give it its alignment.
MUTEX_UINT64S = 10
EXIT_CODE = 70
MEMORY_PIECE_BYTES = 4 << 20


def hang():
    """Blocks the calling thread for good, without using the CPU."""
    while True:
        time.sleep(3600)


def leave():
    """Ends the process at once, as an uncaught error in native code would."""
    print("fatal: invariant broken in the planner, giving up", file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)


def exhaust_memory():
    """Takes memory and touches it until somebody ends this: the kernel, if a limit is set."""
    taken = []
    while True:
        taken.append(b"x" * MEMORY_PIECE_BYTES)


class MutexDeadlock:
    """Two threads that take two pthread mutexes in opposite order and wait for each other.

    The locks are C's, taken through ctypes with the interpreter's lock released, so this is the
    deadlock of any C or C++ extension: the kernel sees two futex waits without a timeout, and each
    mutex names the thread that owns it.
    """

    def __init__(self, names=("ledger-writer", "index-writer")):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._mutexes = [(ctypes.c_uint64 * MUTEX_UINT64S)() for _ in names]
        for mutex in self._mutexes:
            self._libc.pthread_mutex_init(mutex, None)
        self._both_hold_one = threading.Barrier(len(names))
        self.threads = [
            threading.Thread(target=self._lock_in_order, args=(name, turn), name=name, daemon=True)
            for turn, name in enumerate(names)
        ]

    def _lock_in_order(self, name, turn):
        # The kernel's name for the thread: Python 3.11 sets only its own.
        self._libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
        self._libc.pthread_mutex_lock(self._mutexes[turn])
        self._both_hold_one.wait()
        self._libc.pthread_mutex_lock(self._mutexes[1 - turn])

    def wait_for_ever(self):
        """Starts the threads and waits for their end, which never comes."""
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
