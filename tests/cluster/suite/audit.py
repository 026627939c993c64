"""What the operator asked of the API server, as that one has written it down itself (its audit log): which
replica, what, when, and what the answer was. Only on the cluster of ./dev cluster."""

import dataclasses
import datetime
import json

WRITES = {"create", "update", "patch", "delete", "deletecollection"}
# What only the replica that leads may write.
LEADERS = {"incidents", "healingpolicies", "agentsnapshots", "leases", "pods", "deployments",
           "statefulsets", "poddisruptionbudgets"}
POD = "authentication.kubernetes.io/pod-name"


@dataclasses.dataclass(frozen=True)
class Request:
    replica: str
    verb: str
    resource: str  # "pods/eviction"
    namespace: str
    name: str
    code: int
    at: datetime.datetime  # received

    @property
    def is_leaders_write(self):
        return self.verb in WRITES and self.resource.partition("/")[0] in LEADERS


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def moment(text):
    """Of Kubernetes' times."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


class Audit:
    def __init__(self, path):
        self._path = path

    def requests(self, since=None):
        """Those that were answered, in the order of their answers; since: received from then on."""
        found = []
        with open(self._path, encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # Being written.
                request = _request(json.loads(line))
                if since is None or request.at >= since:
                    found.append(request)
        return found

    def evictions(self, namespace, since=None):
        """Pods that were taken away, by the Eviction API or, where a budget forbade that, by deletion."""
        return [each for each in self.requests(since) if each.namespace == namespace and (
            each.resource == "pods/eviction" or (each.verb, each.resource) == ("delete", "pods"))
            and each.code in (200, 201, 202)]


def _request(event):
    what = event.get("objectRef", {})
    sub = what.get("subresource")
    return Request(
        replica=event["user"].get("extra", {}).get(POD, [""])[0], verb=event["verb"],
        resource=what.get("resource", "") + (f"/{sub}" if sub else ""),
        namespace=what.get("namespace", ""), name=what.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        at=moment(event["requestReceivedTimestamp"]))
