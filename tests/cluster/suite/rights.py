"""The rights of the operator's roles for healing, each of them once, as they stand in the manifests; and a
cluster without one of them."""

import contextlib
import json

import yaml
from operators import MANIFESTS

FILES = ("healing/rbac.yaml", "healing/link.yaml")


class Right:
    def __init__(self, role, rule, group, resource, verb):
        self.kind, self.name = role["kind"], role["metadata"]["name"]
        self.namespace = role["metadata"].get("namespace")
        self.group, self.resource, self.verb = group, resource, verb
        self._rule = rule

    @property
    def id(self):
        return f"{self.verb} {self.resource}"

    def is_of(self, rule):
        return (self.group in rule["apiGroups"] and self.resource in rule["resources"]
                and self.verb in rule["verbs"]
                and rule.get("resourceNames") == self._rule.get("resourceNames"))

    def named_in(self, text):
        """How often a line has the rule as a person would write it into the role."""
        words = (f'apiGroups ["{self.group}"]', f"resources [{self.resource}]", f"verbs [{self.verb}]")
        # The log is JSON, which quotes the quotes.
        return sum(all(word in line for word in words)
                   for line in text.replace('\\"', '"').splitlines())


def all_of_them():
    rights = []
    for file in FILES:
        for role in yaml.safe_load_all((MANIFESTS / file).read_text()):
            if role["kind"] in ("Role", "ClusterRole"):
                rights += [Right(role, rule, group, resource, verb) for rule in role["rules"]
                           for group in rule["apiGroups"] for resource in rule["resources"]
                           for verb in rule["verbs"]]
    return rights


@contextlib.contextmanager
def without(everywhere, right):
    """In the cluster's own role; everything else stays."""
    where = [f"--namespace={right.namespace}"] if right.namespace else []
    role = json.loads(everywhere.kubectl("get", right.kind, right.name, *where,
                                         "--output=json").stdout)
    rules = [narrower for rule in role["rules"] for narrower in _narrowed(rule, right)]
    assert rules != role["rules"], f"{right.id} is not in {right.name}"

    def write(these):
        everywhere.kubectl("patch", right.kind, right.name, *where, "--type=merge",
                           "--patch", json.dumps({"rules": these}))
    write(rules)
    try:
        yield
    finally:
        write(role["rules"])


def _narrowed(rule, right):
    """The rule as rules that have all but this right."""
    if not right.is_of(rule):
        return [rule]
    others = [each for each in rule["resources"] if each != right.resource]
    verbs = [each for each in rule["verbs"] if each != right.verb]
    return [*([{**rule, "resources": others}] if others else []),
            *([{**rule, "resources": [right.resource], "verbs": verbs}] if verbs else [])]
