"""--check tells whether the rules in force are ours and complete; what it finds is then mended."""

import os
import subprocess

import pytest
from netns import Namespace, remora

OPTIONS = ("--exclude-inbound-port", "7001", "--exclude-outbound-port", "7002")


def delete_rule(namespace, chain, index):
    handle = namespace.rule_handles(chain)[index]
    namespace.nft("delete", "rule", "inet", "remora", chain, "handle", handle)


def change_order(namespace):
    handle = namespace.rule_handles("inbound")[-1]
    namespace.nft("-f", "-", stdin=f"""
delete rule inet remora inbound handle {handle}
insert rule inet remora inbound meta l4proto tcp redirect to :15006
""")


def nft(*words):
    return lambda namespace: namespace.nft(*words)


CHANGES = {
    "table removed": (nft("delete", "table", "inet", "remora"), "missing: table inet remora"),
    "everything flushed": (nft("flush", "ruleset"), "missing: table inet remora"),
    "rules flushed": (nft("flush", "table", "inet", "remora"), "missing: inbound: "),
    "redirect removed": (lambda n: delete_rule(n, "outbound", -1),
                         "missing: outbound: meta l4proto tcp redirect to :15001"),
    "exclusion removed": (lambda n: delete_rule(n, "inbound", 4),
                          "missing: inbound: tcp dport 7001 return"),
    "rule added": (nft("insert", "rule", "inet", "remora", "outbound", "tcp", "dport", "443",
                       "return", "comment", '"mine"'),
                   "foreign: outbound: rule"),
    "unknown kind of rule": (nft("add", "rule", "inet", "remora", "inbound", "counter"),
                             "foreign: inbound: rule"),
    "order": (change_order, "changed: inbound: order of rules"),
    "extra chain": (nft("add", "chain", "inet", "remora", "mine"), "foreign: chain mine"),
    "extra base chain": (nft("add", "chain", "inet", "remora", "mine",
                             "{ type filter hook input priority 0; policy drop; }"),
                         "foreign: chain mine"),
    "extra set": (nft("add", "set", "inet", "remora", "mine", "{ type ipv4_addr; }"),
                  "foreign: 1 sets"),
    "dormant": (nft("add", "table", "inet", "remora", "{ flags dormant; }"), "dormant"),
    "chain elsewhere": (lambda n: n.nft("-f", "-", stdin="""
delete table inet remora
add table inet remora
add chain inet remora inbound { type nat hook prerouting priority 50; }
"""), "changed: chain inbound has another type, hook, priority or policy"),
    "chain removed": (lambda n: n.nft("-f", "-", stdin="""
flush chain inet remora outbound
delete chain inet remora outbound
"""), "missing: chain outbound with its"),
    "chain without its hook": (lambda n: n.nft("-f", "-", stdin="""
delete table inet remora
add table inet remora
add chain inet remora inbound
add chain inet remora outbound
"""), "changed: chain inbound"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found_named_and_mended(namespace, change):
    apply, words = CHANGES[change]
    namespace.intercept(*OPTIONS)
    right = namespace.ruleset()
    namespace.intercept(*OPTIONS, "--check")
    apply(namespace)
    changed = namespace.ruleset()
    found = namespace.intercept(*OPTIONS, "--check", check=False)
    assert found.returncode == 1
    assert words in found.stderr, found.stderr
    assert namespace.ruleset() == changed, "--check changed something"
    assert namespace.intercept(*OPTIONS).stdout.startswith("set: ")
    assert namespace.ruleset() == right
    namespace.intercept(*OPTIONS, "--check")


def test_nothing_in_force(namespace):
    found = namespace.intercept("--check", check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert "missing: table inet remora" in found.stderr


def test_rules_for_other_options_are_not_these(namespace):
    namespace.intercept("--inbound-port", 16000)
    found = namespace.intercept("--check", check=False)
    assert found.returncode == 1
    assert "missing: inbound: meta l4proto tcp redirect to :15006" in found.stderr
    assert "foreign: inbound: rule" in found.stderr


def test_a_comment_does_not_make_a_rule_ours(namespace):
    namespace.intercept()
    namespace.nft("insert", "rule", "inet", "remora", "outbound", "tcp", "dport", "80", "return",
                  "comment", '"calls go through the sidecar"')
    assert namespace.intercept("--check", check=False).returncode == 1


def without_net_admin(namespace, *options):
    return namespace.run("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", remora(),
                         "intercept", *options, check=False)


@pytest.mark.parametrize("what", [(), ("--check",), ("--remove",)])
def test_without_net_admin_says_what_to_do(namespace, what):
    namespace.intercept()
    before = namespace.ruleset()
    done = without_net_admin(namespace, *what)
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stderr and "explicit modes" in done.stderr
    assert namespace.ruleset() == before


def test_a_dry_run_needs_no_right(namespace):
    done = without_net_admin(namespace, "--dry-run")
    assert done.returncode == 0 and "redirect to :15006" in done.stdout


@pytest.mark.parametrize("words,reason", [
    (("--inbound-port", "80"), "from 1024 up"),
    (("--inbound-port", "15001"), "must differ"),
    (("--exclude-inbound-port", "0"), "from 1 to 65535"),
    (("--exclude-inbound-port", "90-80"), "must not be below"),
    (("--exclude-outbound-address", "10.1.2.3/8"), "write 10.0.0.0/8"),
    (("--exclude-outbound-address", "example.org"), "write an IP address"),
    (("--exclude-outbound-address", "10.0.0.0/33"), "from 0 to 32"),
    (("--no-inbound", "--no-outbound"), "leave one of them on"),
    (("--exclude-inbound-port", ",".join(map(str, range(2000, 2065)))), "at most 64"),
    (("--exclude-uid", "root"), "exclude-uid"),
    (("--check", "--remove"), "excludes"),
])
def test_options_that_make_no_sense(namespace, words, reason):
    done = namespace.intercept(*words, check=False)
    assert done.returncode == 2
    assert reason in done.stderr + done.stdout
    assert namespace.ruleset() == []


def test_refuses_the_machines_own_network_namespace():
    """Rules there would catch a whole node."""
    if not os.path.exists("/proc/sys/net/core/netdev_budget"):
        pytest.skip("runs in a container: needs the machine's own network namespace")
    # Without the right, so that a refusal that fails does no harm either.
    done = subprocess.run(["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin",
                           remora(), "intercept"], capture_output=True, text=True, timeout=30,
                          check=False)
    assert done.returncode == 1
    assert "hostNetwork" in done.stderr
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, timeout=30,
                            check=True)
    assert "inet remora" not in listed.stdout


def test_two_namespaces_know_nothing_of_each_other(namespace):
    other = Namespace()
    try:
        namespace.intercept()
        assert other.ruleset() == []
        assert other.intercept("--check", check=False).returncode == 1
    finally:
        other.close()
