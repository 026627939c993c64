"""Certificates made by the real openssl and checked by it."""

import json

import certs
import layout
import pytest
import steps

NODES = layout.nodes(2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    where = layout.Layout(tmp_path_factory.mktemp("c"))
    certs.make_all(where, NODES)
    return where


def test_each_certificate_is_signed_by_its_authority_for_its_use(made):
    purpose = {certs.CLIENT: "sslclient", certs.SERVER: "sslserver"}
    for one in certs.certificates(NODES):
        steps.run(["openssl", "verify", "-purpose", purpose[one.use], "-CAfile",
                   made.pki / f"{one.authority}.crt", made.pki / f"{one.name}.crt"])
        other = {"ca": "front-proxy-ca", "front-proxy-ca": "ca"}[one.authority]
        wrong = steps.run(["openssl", "verify", "-CAfile", made.pki / f"{other}.crt",
                           made.pki / f"{one.name}.crt"], check=False)
        assert wrong.returncode != 0


def test_the_api_server_may_be_called_by_every_name_that_pods_use(made):
    for name in ("kubernetes.default.svc", "kubernetes.default.svc.cluster.local"):
        said = steps.run(["openssl", "x509", "-noout", "-checkhost", name, "-in",
                          made.pki / "apiserver.crt"]).stdout
        assert "does match" in said
    for address in (layout.API_SERVICE, layout.CONTROL_ADDRESS):
        said = steps.run(["openssl", "x509", "-noout", "-checkip", address, "-in",
                          made.pki / "apiserver.crt"]).stdout
        assert "does match" in said


def test_a_node_is_known_by_its_name(made):
    said = steps.run(["openssl", "x509", "-noout", "-subject", "-in", made.pki / "n2.crt"]).stdout
    assert "O = system:nodes" in said and "CN = system:node:n2" in said


def test_a_kubeconfig_leads_to_files_that_are_there_and_private(made):
    path = made.kubeconfig()
    assert path.stat().st_mode & 0o077 == 0
    config = json.loads(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == layout.API_URL
    for key in ("client-certificate", "client-key"):
        with open(config["users"][0]["user"][key]) as file:
            assert "-----BEGIN" in file.read()
    assert made.pki.stat().st_mode & 0o077 == 0
