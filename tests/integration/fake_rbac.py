"""The rights of the operator's manifests, asked as an API server asks them: what they don't
name is refused, and what they name is counted once it is used."""

import os
import re

import yaml

MANIFESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../k8s/manifests")
INSTALL = "install/install.yaml"
HEALING = "healing/rbac.yaml"
LINK = "healing/link.yaml"
EVICTIONS = "eviction-requests/rbac.yaml"
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "WATCH": "watch"}
PATH = re.compile(r"/(?:api|apis/([^/]+))/v[^/]+(?:/namespaces/([^/]+)(?=/))?"
                  r"/([^/]+)(?:/([^/]+))?(?:/([^/]+))?")


def documents(manifest=INSTALL):
    with open(os.path.join(MANIFESTS, manifest), encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))


def attributes(method, path):
    """Verb, API group, namespace, resource and name of a request; None for what is no resource."""
    found = PATH.fullmatch(path)
    if not found:
        return None
    group, namespace, resource, name, sub = found.groups()
    verb = VERBS.get(method) or ("get" if name else "list")
    return verb, group or "", namespace, f"{resource}/{sub}" if sub else resource, name


class Rights:
    def __init__(self, *manifests):
        self.used = set()
        self.granted = set()  # (kind, API group, resource, names, verb)
        for manifest in manifests or (INSTALL,):
            for each in documents(manifest):
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
        fitting = []
        for right in self.granted:
            where, right_group, right_resource, names, right_verb = right
            if ((right_group, right_resource, right_verb) == (group, resource, verb)
                    and where in (None, namespace) and (not names or name in names)):
                fitting.append(right)
        # What one names is its business, though another allows all.
        is_named = any(right[3] for right in fitting)
        self.used |= {right for right in fitting if bool(right[3]) == is_named}
        return bool(fitting)
