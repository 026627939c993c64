"""The programs that read what is packaged: helm and kubectl. Run as a program it builds helm from
its Go module into the cache, with the Go and the environment that the test cluster is built with."""

import os
import pathlib
import shutil
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
HELM_MODULE, HELM_VERSION = "helm.sh/helm/v3/cmd/helm", "v3.17.3"
# Which Kubernetes it takes for its own when it asks none; its releases are linked so.
KUBERNETES_MAJOR, KUBERNETES_MINOR = 1, 32
LINKER_FLAGS = " ".join(["-s", "-w", *(
    f"-X helm.sh/helm/v3/pkg/{package}.k8sVersion{part}={value}"
    for package in ("chartutil", "lint/rules")
    for part, value in (("Major", KUBERNETES_MAJOR), ("Minor", KUBERNETES_MINOR)))])
BUILD_S = 3600

sys.path.insert(0, str(REPOSITORY / "tests/cluster"))
import layout  # noqa: E402
import programs  # noqa: E402
import steps  # noqa: E402


def where():
    return layout.Layout(layout.cache_dir())


def helm_folder():
    return where().cache / f"helm-{HELM_VERSION}-{programs.key(LINKER_FLAGS)}"


def helm():
    """Its path; None where there is none."""
    return os.environ.get("HELM") or executable(helm_folder() / "helm") or shutil.which("helm")


def kubectl():
    built = programs.places(where()).built / "kubectl"
    return executable(built) or shutil.which("kubectl")


def executable(path):
    return str(path) if os.access(path, os.X_OK) else None


def build_helm():
    go = programs.find_go(where())

    def build(folder):
        steps.say(f"building helm {HELM_VERSION}: a few minutes on two cores, once")
        steps.run([go, "install", "-trimpath", f"-ldflags={LINKER_FLAGS}",
                   f"{HELM_MODULE}@{HELM_VERSION}"], seconds=BUILD_S,
                  env=programs.go_environment(where(), go) | {"GOBIN": str(folder)})
    (where().cache / "locks").mkdir(parents=True, exist_ok=True)
    return programs.cached(helm_folder(), build) / "helm"


if __name__ == "__main__":
    print(helm() or build_helm())
