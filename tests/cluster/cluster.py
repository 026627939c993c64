"""The test cluster's command line, behind ./dev cluster, and the Cluster that the suite uses.

  up [--nodes N]     a cluster with N nodes (2): fetched and built when it's the first time
  down               ends it and gives back everything it took from this machine
  test [PYTEST…]     the suite, on the cluster that is up, or on one of its own
  shell [COMMAND…]   a shell (or one command) in the cluster's network, kubectl and KUBECONFIG set
  bench [--quick]    latency with and without a sidecar, beside Envoy (bench.py)
  cached             whether a cluster can be had at once; else it says what is missing (exit 1)
  load ARCHIVE…      container images (OCI or Docker archives) onto every node
  node NAME kill|up|cut|join|stop SERVICE|start SERVICE|run COMMAND…
  logs               where each program writes

With KUBECONFIG set, `test` runs on that cluster; REMORA_IMAGE then names the image in its registry.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import certs
import cgroups
import control
import images
import layout
import machine
import node
import programs
import steps

ETCD_WAIT_S, API_WAIT_S, CONTAINERD_WAIT_S, NODE_WAIT_S, ACCOUNT_WAIT_S = 30, 60, 30, 90, 30
IMPORT_S = 300
SERVICES = ("containerd", "kubelet", "proxy")


class Cluster:
    """A running cluster, or one about to run; found again by its layout alone."""

    def __init__(self, where, of):
        self.where, self.programs = where, of
        self.control = machine.Machine(where, "control")

    # --- what is there ------------------------------------------------------------------------

    @property
    def nodes(self):
        try:
            return layout.nodes(int((self.where.run / "nodes").read_text()))
        except FileNotFoundError:
            return []

    def is_up(self):
        return bool(self.control.pid())

    def machine(self, name):
        if name not in [one.name for one in self.nodes]:
            raise steps.Failure(f"no node {name}; there are: "
                                f"{' '.join(one.name for one in self.nodes) or 'none'}")
        return machine.Machine(self.where, name, inside=self.control)

    def environment(self):
        """For what a person or a test runs: kubectl first, then whatever they have."""
        return {**os.environ, "PATH": f"{self.programs.built}:{os.environ['PATH']}",
                "KUBECONFIG": str(self.where.kubeconfig())}

    def kubectl(self, *words, **more):
        argv = self.control.enter_argv([self.programs.kubectl(), *words], only_network=True)
        return steps.run(argv, env=self.environment(), **more)

    # --- up -----------------------------------------------------------------------------------

    def up(self, count, clock):
        if self.is_up():
            raise steps.Failure("a cluster is up already; ./dev cluster down ends it")
        self.down()  # Whatever a cluster that wasn't ended properly left.
        nodes = layout.nodes(count)
        self.where.run.mkdir(parents=True)
        (self.where.run / "nodes").write_text(str(count))
        certs.make_all(self.where, nodes)
        clock.say("certificates made")
        self._start_control(nodes, clock)
        with concurrent.futures.ThreadPoolExecutor(max_workers=count + 1) as pool:
            first = pool.submit(self._make_first_objects, nodes)
            list(pool.map(self.boot_node, nodes))
            clock.say(f"{count} nodes started")
            first.result()
        for each in nodes:
            self.wait_for_node(each.name)
        steps.wait_until("the default service account", ACCOUNT_WAIT_S, lambda: self.kubectl(
            "get", "serviceaccount", "default", check=False).returncode == 0)
        clock.say(f"{count} nodes Ready, pods can be made")

    def _start_control(self, nodes, clock):
        self.control.start(with_cgroups=False)
        self.control.script([*control.boot_script(self.where), *control.network_script(nodes)])
        path = self.programs.path

        def start(name, argv):
            self.control.start_service(name, argv, PATH=path)

        def answers(url):
            return self.control.run(["curl", "--silent", "--fail", "--max-time", "2", url],
                                    only_network=True, check=False).returncode == 0

        start("etcd", control.etcd(self.where))
        steps.wait_until("etcd is healthy", ETCD_WAIT_S,
                         lambda: answers(f"{layout.ETCD_URL}/health"))
        clock.say("etcd healthy")
        steps.whole_file(control.audit_policy_file(self.where), json.dumps(control.audit_policy()))
        self.start_api_server()
        clock.say("API server ready")
        steps.whole_file(self.where.machine("control") / "Corefile", control.corefile(self.where))
        start("controller-manager", control.controller_manager(self.where))
        start("scheduler", control.scheduler(self.where))
        start("dns", control.dns(self.where))

    def stop_api_server(self):
        """With SIGKILL: whoever is connected learns it from the kernel only."""
        self.control.stop_service("apiserver")

    def start_api_server(self):
        self.control.start_service("apiserver", control.api_server(self.where),
                                   PATH=self.programs.path)
        steps.wait_until(f"the API server is ready (see {self.where.logs})", API_WAIT_S, lambda:
                         self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0,
                         poll_s=0.3)

    def _make_first_objects(self, nodes):
        objects = control.objects(self.where, nodes)
        for item in objects["items"]:
            if item["kind"] == "PersistentVolume":
                (self.where.disks / item["metadata"]["name"]).mkdir(parents=True)
        self.kubectl("create", "--filename=-", input_text=json.dumps(objects))

    # --- nodes --------------------------------------------------------------------------------

    def boot_node(self, one):
        """Switches a node on, for the first time or after a power cut."""
        box = self.machine(one.name)
        self._unplug(one, box)
        box.start(with_cgroups=True)
        steps.run(["nsenter", f"--target={self.control.pid()}", "--net", "--", "ip", "link", "add",
                   one.cable, "type", "veth", "peer", "name", "eth0", "netns", box.pid()])
        self.control.script(node.cable_script(one), only_network=True)
        box.script([*node.boot_script(self.where, one, cgroups.of_this_machine()),
                    *node.network_script(one, self.nodes)])
        self._write_configurations(one, box)
        path = self.programs.path
        box.start_service("containerd", node.containerd(self.where, one), PATH=path)
        steps.wait_until(f"containerd of {one.name} answers", CONTAINERD_WAIT_S, lambda: self._ctr(
            box, "version", check=False).returncode == 0)
        for recipe in (images.PAUSE, images.TOOLS):
            self._import(box, images.ready(self.where, recipe, self.programs))
        box.start_service("kubelet", node.kubelet(self.where, one), PATH=path)
        box.start_service("proxy", node.proxy(self.where, one), PATH=path)

    def _unplug(self, one, box):
        """After a power cut: a dead node's link stays until the kernel gets round to it, and its
        control groups for ever."""
        self.control.run(["ip", "link", "delete", one.cable], only_network=True, check=False)
        box.forget()

    def _write_configurations(self, one, box):
        kubelet = node.kubelet_config(self.where, one, memory_bytes(), len(self.nodes))
        for name, text in (
            ("cni/10-pods.conflist", json.dumps(node.pod_network(one))),
            ("containerd.toml", node.containerd_config(
                self.where, one, programs.CNI_PLUGINS, programs.RUNC, images.PAUSE.reference)),
            ("kubelet.json", json.dumps(kubelet)),
            ("proxy.json", json.dumps(node.proxy_config(self.where, one))),
            ("resolv.conf", f"nameserver {layout.DNS_SERVICE}\n"),
        ):
            steps.whole_file(box.folder / name, text)

    def wait_for_node(self, name):
        steps.wait_until(
            f"node {name} is Ready (see {self.where.logs}/{name}-kubelet.log)", NODE_WAIT_S,
            lambda: self.kubectl("get", "node", name, "--output", "jsonpath={.status.conditions"
                                 "[?(@.type=='Ready')].status}", check=False).stdout == "True",
            poll_s=0.3)

    def kill_node(self, name):
        """Cuts the power: nothing on the node gets a chance to say or write anything."""
        self.machine(name).kill()

    def restart_node(self, name):
        self.boot_node(next(one for one in self.nodes if one.name == name))
        self.wait_for_node(name)

    def cut_node(self, name):
        self._set_cable(name, "down")

    def join_node(self, name):
        self._set_cable(name, "up")

    def _set_cable(self, name, state):
        cable = next(one for one in self.nodes if one.name == name).cable
        self.control.run(["ip", "link", "set", cable, state], only_network=True)

    def start_node_service(self, name, service):
        argv = {"containerd": node.containerd, "kubelet": node.kubelet, "proxy": node.proxy}[service]
        one = next(one for one in self.nodes if one.name == name)
        self.machine(name).start_service(service, argv(self.where, one), PATH=self.programs.path)

    # --- images -------------------------------------------------------------------------------

    def _ctr(self, box, *words, **more):
        return box.run([self.programs.debian / "usr/bin/ctr", "--namespace=k8s.io", *words],
                       env=self.environment(), **more)

    def tasks(self, name):
        """What runs on a node, one line each, as its runtime says."""
        return self._ctr(self.machine(name), "tasks", "list").stdout

    def _import(self, box, archive):
        self._ctr(box, "images", "import", archive, seconds=IMPORT_S)

    def load_image(self, archive):
        """Puts an OCI or Docker archive onto every node that is on."""
        boxes = [self.machine(one.name) for one in self.nodes]
        with concurrent.futures.ThreadPoolExecutor(max_workers=len(boxes)) as pool:
            list(pool.map(lambda box: self._import(box, archive), [b for b in boxes if b.pid()]))

    def load_recipe(self, recipe):
        """Makes an image if need be, loads it, and tells its name."""
        self.load_image(images.ready(self.where, recipe, self.programs))
        return recipe.reference

    # --- down ---------------------------------------------------------------------------------

    def down(self):
        """Safe at any time, also when `up` broke off in the middle."""
        boxes = [machine.Machine(self.where, one.name) for one in self.nodes]
        for box in (*boxes, self.control):
            box.kill()
        for box in boxes:
            box.forget()
        if self.where.run.exists():
            shutil.rmtree(self.where.run)


def memory_bytes():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# --- commands ------------------------------------------------------------------------------------

def need_root():
    if os.geteuid() != 0:
        raise steps.Failure("namespaces and control groups need root. As another user, run the suite "
                            "on a cluster you have: set KUBECONFIG and REMORA_IMAGE")


def opened(clock, must_be_up=True):
    need_root()
    where = layout.from_environment()
    cluster = Cluster(where, programs.ready(where, clock))
    if must_be_up and not cluster.is_up():
        raise steps.Failure("no cluster is up: ./dev cluster up")
    return cluster


def changing(where):
    """One command at a time makes or ends a cluster."""
    return steps.locked(where.cache / "locks" / f"cluster-{where.name}", wait=False)


def command_up(options, clock):
    cluster = opened(clock, must_be_up=False)
    with changing(cluster.where):
        bring_up(cluster, options.nodes, clock)
    steps.say("now: ./dev cluster shell [COMMAND…], ./dev cluster test, ./dev cluster down")


def bring_up(cluster, count, clock):
    for recipe in (images.PAUSE, images.TOOLS):
        images.ready(cluster.where, recipe, cluster.programs)
    clock.say("programs and images there")
    try:
        cluster.up(count, clock)
    except BaseException:
        # Kept for reading; the next up or down clears it away.
        steps.say(f"the logs are in {cluster.where.logs}")
        raise


def command_down(_, clock):
    need_root()
    where = layout.from_environment()
    with changing(where):
        Cluster(where, None).down()
    clock.say("everything ended and removed")


def command_shell(options, clock):
    cluster = opened(clock)
    argv = cluster.control.enter_argv(options.command or [os.environ.get("SHELL", "/bin/bash")],
                                      only_network=True)
    os.execvpe(argv[0], argv, cluster.environment())


def suite_recipes():
    return images.PYTHON, images.agent(), images.mcp_server(), images.locking_agent()


def missing(where):
    """What a cluster and the suite need and this machine hasn't, in words."""
    lacks = []
    if os.geteuid() != 0:
        lacks.append("root")
    try:
        cgroups.of_this_machine()
    except steps.Failure as failure:
        lacks.append(str(failure))
    at = programs.places(where)
    lacks += [str(path) for path in (
        at.built, at.debian, *(recipe.archive(where) for recipe in (
            images.PAUSE, images.TOOLS, *suite_recipes())))
        if not path.exists()]
    return lacks


def command_cached(*_):
    lacks = missing(layout.from_environment())
    print("\n".join(lacks))
    return 1 if lacks else 0


def command_load(options, clock):
    cluster = opened(clock)
    for archive in options.archives:
        cluster.load_image(os.path.abspath(archive))
        clock.say(f"loaded {archive}")


def command_logs(_, clock):
    for path in sorted(opened(clock).where.logs.iterdir()):
        print(path)


def command_node(options, clock):
    cluster = opened(clock)
    name, what, words = options.name, options.what, options.words
    if what == "run":
        argv = cluster.machine(name).enter_argv(words)
        os.execvpe(argv[0], argv, cluster.environment())
    if what in ("stop", "start"):
        if len(words) != 1 or words[0] not in SERVICES:
            raise steps.Failure(f"node NAME {what} SERVICE: one of {' '.join(SERVICES)}")
        (cluster.machine(name).stop_service(words[0]) if what == "stop" else
         cluster.start_node_service(name, words[0]))
        return
    {"kill": cluster.kill_node, "up": cluster.restart_node, "cut": cluster.cut_node,
     "join": cluster.join_node}[what](name)


def command_test(options, clock):
    argv = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-ra",
            "--durations=0", "--durations-min=1", *options.words]
    if not any(os.path.exists(word.partition("::")[0]) for word in options.words):
        argv.append(str(layout.HERE / "suite"))
    if given := os.environ.get("KUBECONFIG"):
        if given == str(layout.from_environment().kubeconfig()):
            raise steps.Failure("run ./dev cluster test outside of ./dev cluster shell")
        if not shutil.which("kubectl"):
            raise steps.Failure("the suite on a cluster of yours needs kubectl in PATH")
        return subprocess.run(argv, check=False).returncode
    cluster = opened(clock, must_be_up=False)
    # Here, since from inside the cluster's network no registry can be reached.
    for recipe in suite_recipes():
        images.ready(cluster.where, recipe, cluster.programs)
    with up_for_a_while(cluster, clock):
        return inside(cluster, argv, REMORA_TEST_CLUSTER=cluster.where.name,
                      REMORA_TEST_OUTSIDE_PID=str(os.getpid()))


@contextlib.contextmanager
def up_for_a_while(cluster, clock):
    """A cluster that is up is left up."""
    own = not cluster.is_up()
    if own:
        with changing(cluster.where):
            bring_up(cluster, layout.NODES_DEFAULT, clock)
    try:
        yield
    finally:
        if own:
            cluster.down()


def inside(cluster, argv, **environment):
    """Runs a program in the cluster's network; its exit code."""
    return subprocess.run(cluster.control.enter_argv(argv, only_network=True), check=False,
                          env={**cluster.environment(), **environment}).returncode


def command_bench(options, clock):
    import bench  # Needs what only a build of the product leaves.
    cluster = opened(clock, must_be_up=False)
    recipe = bench.image()
    images.ready(cluster.where, recipe, cluster.programs)
    with up_for_a_while(cluster, clock):
        cluster.load_recipe(recipe)
        cluster.load_image(images.PRODUCT_ARCHIVE)
        with cgroups.first_in_line([cluster.where.cgroup(one.name) for one in cluster.nodes]):
            return inside(cluster, [
                sys.executable, "-B", str(layout.HERE / "bench.py"), *options.words,
                f"--product={images.reference_in(images.PRODUCT_ARCHIVE)}"])


def parse(words):
    parser = argparse.ArgumentParser(prog="./dev cluster", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up")
    up.add_argument("--nodes", type=int, default=layout.NODES_DEFAULT)
    verbs.add_parser("down")
    verbs.add_parser("logs")
    verbs.add_parser("cached")
    for name in ("test", "bench"):
        verbs.add_parser(name)
    verbs.add_parser("shell").add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("load").add_argument("archives", nargs="+")
    one = verbs.add_parser("node")
    one.add_argument("name")
    one.add_argument("what", choices=("kill", "up", "cut", "join", "stop", "start", "run"))
    one.add_argument("words", nargs=argparse.REMAINDER)
    if words[:1] in (["test"], ["bench"]):
        # Everything after `test` is pytest's, and after `bench` the benchmark's.
        options = parser.parse_args(words[:1])
        options.words = words[1:]
        return options
    return parser.parse_args(words)


def main(words):
    options = parse(words)
    # What was begun is ended as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return globals()[f"command_{options.verb}"](options, steps.Stopwatch()) or 0
    except (steps.Failure, ValueError) as failure:
        steps.say(f"cluster: {failure}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
