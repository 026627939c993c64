"""The webhook's roles, right by right: without any single one the operator meets a 403, and its log has the
rule that is missing. What it never misses has no place in a manifest."""

import pytest
from fake_kubernetes import SECRET_PATH, FakeKubernetes
from fake_rbac import INSTALL, Rights
from operator_program import Operator, pod
from remora import wait_for

COMPLAINT_WAIT_S = 30


def rights_of(manifest):
    """Each as a parameter with its words."""
    return [pytest.param(right, id=f"{right[4]} {right[2]}" + (" named" if right[3] else ""))
            for right in sorted(Rights(manifest).granted, key=str)]


def is_named(log, right):
    """A line that has the missing rule as a person would write it into the role."""
    _, group, resource, _, verb = right
    words = f'apiGroups ["{group}"]', f"resources [{resource}]", f"verbs [{verb}]"
    # The log is JSON, which quotes the quotes.
    return any(all(word in line for word in words) for line in log.replace('\\"', '"').splitlines())


@pytest.fixture
def kubernetes():
    fake = FakeKubernetes().start()
    fake.pods = [pod("missed")]
    yield fake
    fake.stop()


@pytest.mark.parametrize("right", rights_of(INSTALL))
def test_without_this_right_the_operator_names_the_rule(tmp_path, kubernetes, right):
    if (right[2], right[4]) == ("secrets", "update"):
        # A Secret that can't be used is made anew.
        kubernetes.put(SECRET_PATH, {"kind": "Secret", "type": "Opaque",
                                     "metadata": {"name": SECRET_PATH.rsplit("/", 1)[1]},
                                     "data": {"tls.crt": "bm9uc2Vuc2U="}})
    kubernetes.rights.granted.discard(right)
    operator = Operator(tmp_path, kubernetes)
    try:
        operator.launch()
        if (right[2], right[4]) == ("namespaces", "get"):
            ask_of_a_new_namespace(operator)
        wait_for(lambda: is_named(operator.log_text(), right), "the rule's name", COMPLAINT_WAIT_S)
        assert any(request[2] == 403 for request in kubernetes.requests)
    finally:
        operator.clean_up()


def ask_of_a_new_namespace(operator):
    """It is not among those that were listed."""
    wait_for(lambda: operator.plain("/readyz")[0] == 200, "readiness")
    line = operator.wait_log("listening", listener="webhook")
    operator.port = int(line["address"].rsplit(":", 1)[1])
    with operator.caller() as caller:
        caller.admit(pod(namespace="new"), namespace="new")
