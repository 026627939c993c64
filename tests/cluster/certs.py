"""The cluster's certificates and kubeconfigs, made by openssl. Who gets which is data; a cluster's
keys live as long as the cluster (at most DAYS) and are trusted by nothing else."""

import dataclasses
import json

import layout
import steps

DAYS = 30
CLIENT, SERVER = "clientAuth", "serverAuth"


@dataclasses.dataclass(frozen=True)
class Certificate:
    """subject: as openssl's -subj takes it; group O and user CN are what the API server reads."""

    name: str
    subject: str
    use: str
    names: tuple = ()
    authority: str = "ca"


def certificates(nodes):
    api_names = ("DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc",
                 f"DNS:kubernetes.default.svc.{layout.DOMAIN}", "DNS:localhost", "IP:127.0.0.1",
                 f"IP:{layout.API_SERVICE}", f"IP:{layout.CONTROL_ADDRESS}")
    made = [
        Certificate("apiserver", "/CN=kube-apiserver", SERVER, api_names),
        Certificate("apiserver-to-kubelet", "/O=system:masters/CN=apiserver-to-kubelet", CLIENT),
        Certificate("front-proxy", "/CN=front-proxy", CLIENT, authority="front-proxy-ca"),
        Certificate("controller-manager", "/CN=system:kube-controller-manager", CLIENT),
        Certificate("scheduler", "/CN=system:kube-scheduler", CLIENT),
        Certificate("proxy", "/CN=system:kube-proxy", CLIENT),
        Certificate("dns", "/CN=remora:dns", CLIENT),
        Certificate("admin", "/O=system:masters/CN=admin", CLIENT),
    ]
    for node in nodes:
        user = f"/O=system:nodes/CN=system:node:{node.name}"
        made.append(Certificate(node.name, user, CLIENT))
        made.append(Certificate(f"{node.name}-serving", user, SERVER,
                                (f"DNS:{node.name}", f"IP:{node.address}")))
    return made


def kubeconfig(authority, certificate, key):
    """JSON, which is YAML. Files are named, not embedded: none of them leaves the machine."""
    return json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "remora",
        "clusters": [{"name": "remora", "cluster": {
            "server": layout.API_URL, "certificate-authority": str(authority)}}],
        "users": [{"name": "user", "user": {
            "client-certificate": str(certificate), "client-key": str(key)}}],
        "contexts": [{"name": "remora", "context": {"cluster": "remora", "user": "user"}}],
    }, indent=1)


def extensions(certificate):
    lines = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
             f"extendedKeyUsage={certificate.use}"]
    if certificate.names:
        lines.append("subjectAltName=" + ",".join(certificate.names))
    return "\n".join(lines) + "\n"


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def make_authority(folder, name):
    steps.run(["openssl", "req", "-x509", *NEW_KEY, "-days", DAYS, "-subj", f"/CN={name}",
               "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt",
               "-addext", "basicConstraints=critical,CA:TRUE",
               "-addext", "keyUsage=critical,keyCertSign,cRLSign"])


def make_certificate(folder, certificate):
    path = folder / certificate.name
    wishes = path.with_suffix(".ext")
    wishes.write_text(extensions(certificate))
    request = steps.run(["openssl", "req", *NEW_KEY, "-subj", certificate.subject,
                         "-keyout", f"{path}.key"]).stdout
    authority = folder / certificate.authority
    steps.run(["openssl", "x509", "-req", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key",
               "-set_serial", f"0x{serial()}", "-days", DAYS, "-extfile", wishes,
               "-out", f"{path}.crt"], input_text=request)
    wishes.unlink()


def serial():
    return steps.run(["openssl", "rand", "-hex", "16"]).stdout.strip()


def make_all(where, nodes):
    """Everything under where.pki, and a kubeconfig for each user."""
    where.pki.mkdir(parents=True, exist_ok=True)
    where.pki.chmod(0o700)
    for name in ("ca", "front-proxy-ca"):
        make_authority(where.pki, name)
    for certificate in certificates(nodes):
        make_certificate(where.pki, certificate)
        if certificate.use == CLIENT:
            steps.whole_file(where.kubeconfig(certificate.name), kubeconfig(
                where.pki / "ca.crt", where.pki / f"{certificate.name}.crt",
                where.pki / f"{certificate.name}.key"), mode=0o600)
    # What signs the tokens of service accounts.
    key = where.pki / "accounts.key"
    steps.run(["openssl", "genrsa", "-out", key, "2048"])
    steps.run(["openssl", "rsa", "-in", key, "-pubout", "-out", where.pki / "accounts.pub"])
