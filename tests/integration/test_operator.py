"""`remora operator` against an API server that behaves like one: its certificate and caBundle through
everything that happens to them, admissions, missed pods, and its end."""

import signal
import ssl
import threading
import time

import pytest
from fake_kubernetes import SECRET_PATH, FakeKubernetes
from operator_program import Operator, pod, tls_directory
from remora import Later, free_port, run_cli, wait_for

# One look of the keeper is 10 s, and a new issuer is believed for 5 s before its certificate is shown.
ROTATION_WAIT_S = 60


@pytest.fixture
def api():
    fake = FakeKubernetes().start()
    yield fake
    fake.stop()


@pytest.fixture
def make_operator(tmp_path, api):
    made = []

    def make(name="operator", of=None):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        made.append(Operator(directory, of or api))
        return made[-1]

    yield make
    for each in made:
        each.clean_up()


@pytest.fixture
def remora(make_operator):
    """Under this name, so that a failed test shows its log."""
    return make_operator()


@pytest.fixture
def foreign_identity(make_operator):
    """Another installation's Secret, of the same names."""
    other = FakeKubernetes().start()
    stranger = make_operator("stranger", of=other)
    stranger.start()
    stranger.clean_up()
    identity = other.secret()
    other.stop()
    return identity


class Load:
    """Admissions without a pause, each on a connection of its own that believes the caBundle of that
    moment, and beside it one connection that stays."""

    def __init__(self, operator):
        self.operator = operator
        self.answered = 0
        self.failures = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._fresh, daemon=True),
                         threading.Thread(target=self._kept, daemon=True)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(20)

    def _admit(self, caller):
        assert caller.admit(pod())["allowed"]
        self.answered += 1

    def _fresh(self):
        while not self._end.wait(0.005):
            try:
                with self.operator.caller() as caller:
                    self._admit(caller)
            except Exception as error:
                self.failures.append(repr(error))

    def _kept(self):
        try:
            with self.operator.caller() as caller:
                while not self._end.wait(0.005):
                    self._admit(caller)
        except Exception as error:
            self.failures.append(repr(error))


def admit(operator, thing, **named):
    with operator.caller() as caller:
        return caller.admit(thing, **named)


def served_by(operator):
    """The certificate that it shows now, believed by the caBundle as it is now."""
    with operator.caller() as caller:
        return caller.certificate()


def added_container(response):
    """The sidecar, as the patch adds it."""
    values = [operation.get("value") for operation in response["patch"]]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return next(item for item in flat if isinstance(item, dict) and item.get("name") == "remora")


# --- certificate and caBundle --------------------------------------------------------------------
def test_certificate_is_made_stored_and_believed_through_every_bundle(remora, api):
    remora.start()
    stored = api.secret()
    assert sorted(stored) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]
    assert api.get(SECRET_PATH)["type"] == "Opaque"
    assert api.bundles() == [stored["ca.crt"]] * 2
    for index in range(2):
        with remora.caller(index) as caller:
            assert caller.certificate() == ssl.PEM_cert_to_DER_cert(stored["tls.crt"])
            assert caller.ask("GET", "/readyz")[0] == 200
    assert remora.metric("remora_operator_ready") == 1
    left_s = remora.metric("remora_operator_certificate_expiry_timestamp_seconds") - time.time()
    assert 89 * 86400 < left_s <= 90 * 86400
    for secret in (stored["ca.key"], stored["tls.key"]):
        assert secret.splitlines()[1] not in remora.log_text()


def test_certificate_is_for_the_service_only(remora):
    remora.start()
    with pytest.raises(ssl.SSLCertVerificationError):
        remora.caller(server_name="other.remora-system.svc")


def test_restart_keeps_the_stored_certificate(remora, make_operator, api):
    remora.start()
    before = api.secret()
    assert remora.stop() == 0
    make_operator("next").start()
    assert api.secret() == before
    assert api.asked("PUT", SECRET_PATH) == []


def test_wiped_or_foreign_bundle_is_written_again(remora, api, foreign_identity):
    remora.start()
    ours = api.secret()["ca.crt"]
    api.set_bundle(1, "")
    wait_for(lambda: api.bundles() == [ours, ours], "the wiped caBundle", ROTATION_WAIT_S)
    api.set_bundle(0, foreign_identity["ca.crt"])
    wait_for(lambda: api.bundles() == [ours, ours], "the foreign caBundle", ROTATION_WAIT_S)
    assert admit(remora, pod())["allowed"]
    wait_for(lambda: remora.metric("remora_operator_ca_bundle_patches_total") == 3, "three patches")


def test_replaced_secret_is_served_without_a_failed_admission(remora, api, foreign_identity):
    remora.start()
    fresh = ssl.PEM_cert_to_DER_cert(foreign_identity["tls.crt"])
    with Load(remora) as load:
        wait_for(lambda: load.answered > 50, "admissions before")
        assert served_by(remora) != fresh
        api.set_secret(foreign_identity)
        wait_for(lambda: served_by(remora) == fresh, "the new certificate", ROTATION_WAIT_S)
        so_far = load.answered
        wait_for(lambda: load.answered > so_far + 50, "admissions after")
    assert load.failures == []
    assert api.secret() == foreign_identity
    # Other replicas may show the old one a little longer.
    assert foreign_identity["ca.crt"] in api.bundles()[0] != foreign_identity["ca.crt"]


def test_deleted_secret_is_made_anew_without_a_failed_admission(remora, api):
    remora.start()
    old = api.secret()
    with Load(remora) as load:
        wait_for(lambda: load.answered > 50, "admissions before")
        with api.lock:
            del api.objects[SECRET_PATH]
        new = wait_for(api.secret, "another Secret", ROTATION_WAIT_S)
        assert new["ca.crt"] != old["ca.crt"]
        wait_for(lambda: served_by(remora) == ssl.PEM_cert_to_DER_cert(new["tls.crt"]),
                 "the new certificate", ROTATION_WAIT_S)
        so_far = load.answered
        wait_for(lambda: load.answered > so_far + 50, "admissions after")
    assert load.failures == []


def test_broken_secret_is_mended(remora, api):
    remora.start()
    broken = api.secret() | {"tls.key": "nonsense"}
    api.set_secret(broken)
    wait_for(lambda: api.secret()["tls.key"] != "nonsense", "the mended Secret", ROTATION_WAIT_S)
    assert api.secret()["ca.crt"] == broken["ca.crt"]
    assert admit(remora, pod())["allowed"]


def test_new_name_makes_a_new_certificate_of_the_same_authority(remora, make_operator, api):
    remora.start()
    before = api.secret()
    other = make_operator("by-url").start("--url-host", "127.0.0.1")
    after = api.secret()
    assert after["ca.crt"] == before["ca.crt"] and after["tls.crt"] != before["tls.crt"]
    with other.caller(server_name="127.0.0.1") as caller:
        assert caller.admit(pod())["allowed"]


def test_two_operators_agree_on_one_secret(make_operator, api):
    both_have_read = threading.Barrier(2)

    def hold_the_first_look(method, path, status):
        if method == "GET" and path == SECRET_PATH and status == 404:
            both_have_read.wait(20)

    api.before_answer = hold_the_first_look
    first, second = make_operator("first"), make_operator("second")
    starts = [Later(each.start) for each in (first, second)]
    for start in starts:
        start.result()
    assert sorted(api.asked("POST", SECRET_PATH.rsplit("/", 1)[0])) == [201, 409]
    shown = set()
    for each in (first, second):
        with each.caller() as caller:
            assert caller.admit(pod())["allowed"]
            shown.add(caller.certificate())
    assert shown == {ssl.PEM_cert_to_DER_cert(api.secret()["tls.crt"])}
    assert set(api.bundles()) == {api.secret()["ca.crt"]}


def test_certificate_of_a_directory_is_followed(remora, make_operator, api, tmp_path,
                                                foreign_identity):
    directory = tls_directory(tmp_path / "tls", foreign_identity)
    for index in range(2):
        api.set_bundle(index, foreign_identity["ca.crt"])
    remora.start("--tls-dir", directory)
    assert admit(remora, pod())["allowed"]
    donor = make_operator("donor", of=FakeKubernetes().start())
    donor.start()
    renewed = donor.api.secret()
    donor.api.stop()
    tls_directory(directory, renewed)
    for index in range(2):
        api.set_bundle(index, foreign_identity["ca.crt"] + renewed["ca.crt"])
    wait_for(lambda: served_by(remora) == ssl.PEM_cert_to_DER_cert(renewed["tls.crt"]),
             "the new file's certificate", ROTATION_WAIT_S)
    tls_directory(directory, renewed | {"tls.key": "nonsense"})
    remora.wait_log("certificate_unreadable", last_good_kept=True, wait_s=ROTATION_WAIT_S)
    assert served_by(remora) == ssl.PEM_cert_to_DER_cert(renewed["tls.crt"])
    assert api.secret() is None


def test_rights_of_the_manifest_are_exactly_those_used(remora, api):
    api.pods = [pod("missed")]
    remora.start()
    api.add_namespace("fresh")
    admit(remora, pod(namespace="fresh"), namespace="fresh")
    wait_for(lambda: api.events, "an event")
    api.set_secret(api.secret() | {"tls.key": "nonsense"})
    wait_for(lambda: 200 in api.asked("PUT", SECRET_PATH), "the mended Secret", ROTATION_WAIT_S)
    assert api.rights.granted - api.rights.used == set()
    assert [request for request in api.requests if request[2] == 403] == []


# --- the API server ------------------------------------------------------------------------------
def test_ready_only_once_the_api_server_has_answered(remora, api):
    port = api.port
    api.stop()
    remora.launch()
    status, text = remora.plain("/readyz")
    assert status == 503 and text.strip()
    assert remora.plain("/healthz")[0] == 200
    assert remora.metric("remora_operator_ready") == 0
    api.port = port
    api.start()
    wait_for(lambda: remora.plain("/readyz")[0] == 200, "readiness", ROTATION_WAIT_S)
    assert remora.metric("remora_operator_api_failures_total") > 0


def test_admissions_go_on_while_the_api_server_refuses(remora, api):
    remora.start()
    api.refusals = {"GET /": 503}
    wait_for(lambda: 503 in api.asked("GET", SECRET_PATH), "a refused look", ROTATION_WAIT_S)
    assert remora.plain("/readyz")[0] == 200
    assert admit(remora, pod())["allowed"]


def test_missing_configuration_is_named(remora, api):
    api.refusals = {"GET /apis/admissionregistration.k8s.io": 404}
    remora.launch()
    remora.wait_log("listening", listener="webhook")
    status, text = remora.plain("/readyz")
    assert status == 503 and "remora-webhook" in text
    api.refusals = {}
    wait_for(lambda: remora.plain("/readyz")[0] == 200, "readiness")


# --- admissions ----------------------------------------------------------------------------------
def test_pods_that_ask_and_pods_of_namespaces_that_ask(remora):
    remora.start()
    silent = pod()
    del silent["metadata"]["labels"]
    asked = admit(remora, pod())
    assert asked["allowed"] and added_container(asked)["image"] == "remora:test"
    assert "patch" not in admit(remora, silent)
    by_namespace = admit(remora, silent, path="/mutate/namespace")
    assert added_container(by_namespace)["restartPolicy"] == "Always"
    assert remora.metric('remora_operator_admissions_total{result="injected"}') == 2
    assert remora.metric('remora_operator_admissions_total{result="skipped"}') == 1
    assert remora.metric("remora_operator_admission_duration_seconds_count") == 3


def test_invalid_annotation_is_refused_with_name_and_mend(remora):
    remora.start()
    wrong = pod()
    wrong["metadata"]["annotations"] = {"remora.dev/app-port": "70000"}
    answer = admit(remora, wrong)
    assert answer["allowed"] is False
    message = answer["status"]["message"]
    assert "remora.dev/app-port" in message and "65535" in message
    assert remora.wait_log("admission", result="refused")["pod"] == "default/agent"


def test_level_of_a_namespace_that_is_new(remora, api):
    remora.start()
    known = admit(remora, pod(namespace="default"))
    api.add_namespace("fresh", **{"pod-security.kubernetes.io/enforce": "restricted"})
    answer = admit(remora, pod(namespace="fresh"), namespace="fresh")
    assert api.asked("GET", "/api/v1/namespaces/fresh") == [200]
    assert api.asked("GET", "/api/v1/namespaces/default") == []
    assert known["allowed"]
    assert answer != known, "the level makes no difference"
    admit(remora, pod(namespace="fresh"), namespace="fresh")
    assert api.asked("GET", "/api/v1/namespaces/fresh") == [200]
    # What is no name goes into no path.
    assert admit(remora, pod(), namespace="../../secrets")["allowed"]
    assert api.asked("GET", "/api/v1/namespaces/../../secrets") == []


def test_cluster_without_native_sidecars_is_refused(remora, api):
    api.version = "v1.28.15"
    remora.start()
    answer = admit(remora, pod())
    assert answer["allowed"] is False and "1.29" in answer["status"]["message"]


def test_bytes_that_are_no_review(remora):
    remora.start()
    cases = [("GET", "/mutate/label", None, 405), ("POST", "/mutate", b"{}", 404),
             ("POST", "/mutate/label", b"", 400), ("POST", "/mutate/label", b"{}", 400),
             ("POST", "/mutate/label", b"[" * 100_000, 400),
             ("POST", "/mutate/namespace", b"\xff" * 1000, 400),
             ("POST", "/mutate/label", b" " * (8 << 20), 413)]
    for method, path, body, status in cases:
        with remora.caller() as caller:
            assert caller.ask(method, path, body)[0] == status, (method, path)
    assert admit(remora, pod())["allowed"]


# --- missed pods ---------------------------------------------------------------------------------
def test_missed_pods_are_told_of_once(remora, make_operator, api):
    api.add_namespace("team", **{"remora.dev/inject": "enabled"})
    silent = {"labels": {}}
    injected = pod("injected")
    injected["metadata"]["annotations"] = {"remora.dev/injected": "{}"}
    in_team = [pod(name, "team") for name in ("silent", "asking", "declining")]
    in_team[0]["metadata"] |= silent
    in_team[2]["metadata"]["labels"]["remora.dev/inject"] = "false"
    elsewhere = pod("elsewhere")
    elsewhere["metadata"] |= silent
    api.pods = [injected, pod("missed"), pod("done", status={"phase": "Succeeded"}), elsewhere,
                *in_team]
    remora.start()
    expected = {("default", "missed.uid-missed"), ("team", "silent.uid-silent"),
                ("team", "asking.uid-asking")}
    wait_for(lambda: set(api.events) == expected, f"events; there are {set(api.events)}")
    wait_for(lambda: remora.metric("remora_operator_uninjected_pods") == 3, "the gauge")
    event = api.events["default", "missed.uid-missed"]
    assert event["type"] == "Warning" and event["involvedObject"]["uid"] == "uid-missed"
    # Neither another replica nor the next start tells it again.
    other = make_operator("other").start()
    other.wait_log("pod_without_remora", count=3, told_by_another=True)
    assert set(api.events) == expected
    posts = api.asked("POST", "/api/v1/namespaces/team/events")
    assert sorted(posts) == [201, 201, 409, 409]


# --- its end -------------------------------------------------------------------------------------
def test_sigterm_answers_what_is_under_way_and_ends(remora):
    remora.start()
    with remora.caller() as kept:
        assert kept.admit(pod())["allowed"] and not kept.will_close
        remora.signal(signal.SIGTERM)
        wait_for(lambda: remora.plain("/readyz")[0] == 503, "the end of readiness")
        with remora.caller() as late:
            assert late.admit(pod())["allowed"]
        assert kept.admit(pod())["allowed"]
        assert kept.will_close, "the caller should come back elsewhere"
    assert remora.wait() == 0


def test_second_signal_hastens(remora):
    remora.start()
    remora.signal(signal.SIGTERM)
    remora.wait_log("leaving")
    began = time.monotonic()
    remora.signal(signal.SIGTERM)
    assert remora.wait() == 0
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("options, word", [
    (["--api-server", "https://127.0.0.1:1"], "kubectl proxy"),
    (["--api-server", "http://127.0.0.1:1", "--listen", "nowhere"], "--listen"),
    (["--api-server", "http://127.0.0.1:1", "--secret", "../x"], "--secret"),
    (["--api-server", "http://127.0.0.1:1", "--url-host", "a b"], "--url-host"),
    (["--api-server", "http://127.0.0.1:1", "--certificate-days", "0"], "--certificate-days"),
])
def test_wrong_command_lines_are_refused(options, word):
    done = run_cli("operator", *options)
    assert done.returncode == 2
    assert word in done.stderr


def test_outside_a_cluster_it_says_what_to_do():
    done = run_cli("operator", "--metrics-listen", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1 and "--api-server" in done.stderr
