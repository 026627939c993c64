"""Writing the rules is all or nothing, whatever happens meanwhile: run again, killed halfway, beside
others, with the tables busy, under traffic."""

import random
import socket
import struct
import subprocess
import threading
import time

import pytest
from netns import Pod, remora

# Two sets of options whose rules differ in both chains.
OPTIONS = (("--exclude-inbound-port", "7001", "--exclude-outbound-port", "7001"),
           ("--exclude-inbound-port", "7002,7003", "--exclude-outbound-address", "203.0.113.0/24"))
KILLS = 80
KILL_WITHIN_S = 0.012
STREAM_S = 6
STREAM_CONNECTIONS_MIN = 500
REWRITTEN_MIN = 20
BUSY_S = 3


def expected_rules(namespace):
    """What nft shows for each of OPTIONS."""
    shown = []
    for options in OPTIONS:
        namespace.intercept(*options)
        shown.append(namespace.remora_rules())
    namespace.intercept("--remove")
    assert shown[0] != shown[1] and None not in shown
    return shown


def test_rule_set_up_twice_gives_the_same_rules_and_success(namespace):
    first = namespace.intercept(*OPTIONS[0])
    rules, handles = namespace.ruleset(), namespace.rule_handles("inbound")
    assert first.stdout.startswith("set: ")
    second = namespace.intercept(*OPTIONS[0])
    assert second.stdout.startswith("already in force: ")
    assert namespace.ruleset() == rules
    assert namespace.rule_handles("inbound") == handles, "the rules were written again"


def test_other_options_replace_the_rules(namespace):
    expected = expected_rules(namespace)
    for turn in (0, 1, 0):
        namespace.intercept(*OPTIONS[turn])
        assert namespace.remora_rules() == expected[turn]


def test_the_dry_run_loads_as_the_same_rules(namespace):
    """nft's own compiler is the independent witness of ours."""
    options = (*OPTIONS[1], "--exclude-uid", "1000", "--exclude-gid", "2000",
               "--exclude-outbound-port", "8000-8080", "--exclude-outbound-address",
               "10.0.0.0/8,10.16.0.0/12,192.0.2.1,fd00::/8,2001:db8::/33,2001:db8::1")
    printed = namespace.intercept(*options, "--dry-run").stdout
    assert namespace.remora_rules() is None, "a dry run wrote rules"
    namespace.intercept(*options)
    ours = namespace.ruleset()
    namespace.nft("flush", "ruleset")
    namespace.nft("-f", "-", stdin=printed)
    assert namespace.ruleset() == ours
    namespace.intercept(*options, "--check")


@pytest.mark.slow
def test_rule_set_up_killed_halfway_leaves_the_old_or_the_new_rules(namespace):
    expected = expected_rules(namespace)
    possible = {None, expected[0]}
    seen = set()
    chance = random.Random(1)
    for turn in range(KILLS):
        options = OPTIONS[turn % 2]
        process = namespace.popen(remora(), "intercept", *options, stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0, KILL_WITHIN_S))  # the moment of the kill, not a wait
        process.kill()
        process.wait()
        shown = namespace.remora_rules()
        assert shown in possible, f"kill {turn} left a part: {shown}"
        seen.add("old" if shown != expected[turn % 2] else "new")
        # And the next one mends or changes it.
        namespace.intercept(*options)
        assert namespace.remora_rules() == expected[turn % 2]
        possible = {expected[turn % 2], expected[(turn + 1) % 2]}
    assert seen == {"old", "new"}, "the kills did not meet both moments"


def test_concurrent_set_ups_agree(namespace):
    namespace.intercept(*OPTIONS[0])
    expected = namespace.ruleset()
    namespace.intercept("--remove")
    processes = [namespace.popen(remora(), "intercept", *OPTIONS[0], stdout=subprocess.PIPE)
                 for _ in range(8)]
    words = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, words
    assert namespace.ruleset() == expected


def test_concurrent_set_ups_with_different_options_end_with_one_of_them(namespace):
    expected = expected_rules(namespace)
    processes = [namespace.popen(remora(), "intercept", *OPTIONS[turn % 2],
                                 stdout=subprocess.DEVNULL) for turn in range(8)]
    assert [process.wait(60) for process in processes] == [0] * 8
    assert namespace.remora_rules() in expected


def test_an_agent_that_holds_the_turn_delays_the_set_up_but_cannot_stop_it(namespace):
    with namespace.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        held.bind("\0remora intercept")
        assert namespace.intercept(*OPTIONS[0]).stdout.startswith("set: ")
    namespace.intercept(*OPTIONS[0], "--check")


def other_transactions(namespace, ended, count):
    """Keeps the kernel's lock on the tables busy: each transaction makes and removes a large set."""
    elements = ",".join(str(i) for i in range(20_000))
    text = (f"add table ip busy\nadd set ip busy s {{ type mark; }}\n"
            f"add element ip busy s {{ {elements} }}\ndelete table ip busy\n")
    while not ended.is_set():
        namespace.nft("-f", "-", stdin=text)
        count.append(1)


def test_rule_set_up_under_lock_contention_of_3_s_succeeds(namespace):
    expected = expected_rules(namespace)
    ended, count = threading.Event(), []
    writers = [threading.Thread(target=other_transactions, args=(namespace, ended, count))
               for _ in range(2)]
    for writer in writers:
        writer.start()
    slowest, turns = 0, 0
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < BUSY_S:
            started = time.monotonic()
            namespace.intercept(*OPTIONS[turns % 2])
            slowest = max(slowest, time.monotonic() - started)
            assert namespace.remora_rules() == expected[turns % 2]
            turns += 1
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    assert len(count) > 3 and turns > 3
    assert slowest < 5, f"one set-up took {slowest:.1f} s"


def test_rule_set_up_does_not_wait_for_the_lock_of_iptables(namespace):
    """Which another may hold for long. /run is the test's own, so that nobody else waits."""
    script = ("mount -t tmpfs none /run && exec 9>/run/xtables.lock && flock 9 && "
              f"timeout 3 {remora()} intercept")
    assert namespace.run("unshare", "--mount", "sh", "-c", script).stdout.startswith("set: ")


def test_foreign_tables_are_untouched(namespace):
    """One of them as Docker writes it for its resolver."""
    namespace.nft("-f", "-", stdin="""
table ip docker {
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:39999
  }
}
table inet filter {
  set blocked { type ipv4_addr; elements = { 203.0.113.9 } }
  chain input {
    type filter hook input priority 0; policy accept;
    ip saddr @blocked counter drop
  }
}
add table ip remora
add chain ip remora other
""")
    before = namespace.ruleset()
    done = namespace.intercept()
    assert "table ip docker, chain output" in done.stderr, "names whoever may come first"
    namespace.intercept(*OPTIONS[1])
    ours = namespace.ruleset("table", "inet", "remora")
    assert [entry for entry in namespace.ruleset() if entry not in ours] == before
    namespace.intercept("--remove")
    assert namespace.ruleset() == before


def test_removing_is_idempotent(namespace):
    namespace.intercept()
    assert namespace.intercept("--remove").stdout == "removed table inet remora\n"
    assert namespace.ruleset() == []
    assert "nothing to remove" in namespace.intercept("--remove").stdout


class Stream:
    """Connections one after the other from a few threads, and who answered them."""

    def __init__(self, space, host, port):
        self.answers = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._to = (host, port)
        self._threads = [threading.Thread(target=space.inside, args=(self._body,))
                         for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _body(self):
        linger = struct.pack("ii", 1, 0)  # a reset at the end, so that no port is kept
        while not self._ended.is_set():
            with socket.create_connection(self._to, timeout=10) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                port = client.recv(200).split(b" ")[0].decode()
            with self._lock:
                self.answers[port] = self.answers.get(port, 0) + 1

    def end(self):
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return self.answers


def rewriting(namespace, for_s):
    """Changes the rules to and fro as fast as it goes; what was said meanwhile."""
    first, second = (" ".join((remora(), "intercept", *options)) for options in OPTIONS)
    script = f"timeout {for_s} sh -c 'while {second} && {first}; do :; done'"
    return namespace.run("sh", "-c", f"{script}; [ $? = 124 ]").stdout


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_no_connection_slips_through_while_the_rules_are_rewritten(world, direction):
    space, host, port, sidecar = ((world.outside, Pod.POD4, 8080, 15006) if direction == "inbound"
                                  else (world.pod, Pod.FAR4, 80, 15001))
    world.pod.intercept(*OPTIONS[0])
    stream = Stream(space, host, port)
    try:
        said = rewriting(world.pod, STREAM_S)
    finally:
        answers = stream.end()
    rewritten = sum(line.startswith("set: ") for line in said.splitlines())
    print(f"{direction}: {answers}, rules rewritten {rewritten} times")
    assert answers.pop(f"port={sidecar}") > STREAM_CONNECTIONS_MIN
    assert answers == {}, "connections that passed by the sidecar"
    assert rewritten > REWRITTEN_MIN
