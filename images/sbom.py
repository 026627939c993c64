"""The image's bill of materials as SPDX 2.3 JSON. Pure: the same facts give the same bytes.

A vulnerability scanner finds Debian's advisories by the package URLs (pkg:deb/debian/SOURCE), which
name source packages because that is what Debian's security tracker goes by.
"""

import hashlib
import json
import re
from urllib.parse import quote

DISTRIBUTION = "debian-12"
ROOT = "SPDXRef-remora"
BINARY = "SPDXRef-binary"


def _id(name):
    return "SPDXRef-deb-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)


def _package(component):
    purl = (f"pkg:deb/debian/{quote(component.source, safe='')}@"
            f"{quote(component.version, safe='')}?arch=source&distro={DISTRIBUTION}")
    comment = "Debian packages: " + ", ".join(component.packages)
    entry = {
        "SPDXID": _id(component.source),
        "name": component.source,
        "versionInfo": component.version,
        "supplier": "Organization: Debian",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": component.spdx,
        "licenseDeclared": component.spdx,
        "copyrightText": "NOASSERTION",
        "comment": comment,
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                          "referenceLocator": purl}],
    }
    return entry | ({"licenseComments": component.note} if component.note else {})


def _remora(version, machine):
    return {
        "SPDXID": ROOT,
        "name": "remora",
        "versionInfo": version,
        "supplier": "NOASSERTION",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": "Apache-2.0",
        "licenseDeclared": "Apache-2.0",
        "copyrightText": "NOASSERTION",
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                          "referenceLocator": f"pkg:generic/remora@{version}?arch={machine}"}],
    }


def _binary(path, content):
    hashes = {"SHA1": hashlib.sha1(content), "SHA256": hashlib.sha256(content)}
    return {
        "SPDXID": BINARY,
        "fileName": "./" + path,
        "fileTypes": ["BINARY"],
        "checksums": [{"algorithm": name, "checksumValue": value.hexdigest()}
                      for name, value in hashes.items()],
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    }


def _relation(subject, kind, other):
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": other}


def document(version, machine, created, binary, linked_in, data):
    """The document's bytes.

    binary: (path in the image, content). linked_in: components of the binary; data: components
    that the image holds beside it.
    """
    identity = hashlib.sha256(binary[1]).hexdigest()
    relations = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", ROOT), _relation(ROOT, "CONTAINS", BINARY)]
    for component in linked_in:
        kind = "STATIC_LINK" if component.linked else "GENERATED_FROM"
        relations.append(_relation(BINARY, kind, _id(component.source)))
    relations += [_relation(ROOT, "CONTAINS", _id(each.source)) for each in data]
    packages = {each.source: _package(each) for each in [*linked_in, *data]}
    value = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"remora-{version}",
        "documentNamespace": f"https://remora.dev/spdx/remora-{version}-{identity}",
        "creationInfo": {"created": created, "creators": ["Tool: remora-images-build"]},
        "packages": [_remora(version, machine), *(packages[name] for name in sorted(packages))],
        "files": [_binary(*binary)],
        "relationships": relations,
    }
    return (json.dumps(value, indent=1) + "\n").encode()
