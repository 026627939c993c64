"""The rights of k8s/manifests/install/install.yaml, asked as an API server asks them: what they don't
name is refused, and what they name is counted once it is used."""

import os
import re

import yaml

INSTALL = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                       "../../k8s/manifests/install/install.yaml")
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def documents():
    with open(INSTALL, encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))


def attributes(method, path):
    """Verb, API group, namespace, resource and name of a request; None for what is no resource."""
    found = re.fullmatch(r"/(?:api|apis/([^/]+))/v1(?:/namespaces/([^/]+)(?=/))?/([^/]+)(?:/([^/]+))?",
                         path)
    if not found:
        return None
    group, namespace, resource, name = found.groups()
    verb = VERBS.get(method) or ("get" if name else "list")
    return verb, group or "", namespace, resource, name


class Rights:
    def __init__(self):
        self.used = set()
        self.granted = set()  # (kind, API group, resource, names, verb)
        for each in documents():
            if each["kind"] in ("Role", "ClusterRole"):
                namespace = each["metadata"].get("namespace")
                for rule in each["rules"]:
                    self._grant(namespace, rule)

    def _grant(self, namespace, rule):
        names = tuple(rule.get("resourceNames", ()))
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                self.granted |= {(namespace, group, resource, names, verb)
                                 for verb in rule["verbs"]}

    def allow(self, method, path):
        wanted = attributes(method, path)
        if wanted is None:
            return path == "/version"
        verb, group, namespace, resource, name = wanted
        for right in self.granted:
            where, right_group, right_resource, names, right_verb = right
            if ((right_group, right_resource, right_verb) == (group, resource, verb)
                    and where in (None, namespace) and (not names or name in names)):
                self.used.add(right)
                return True
        return False
