"""The bill of materials names what is in the binary of this build, from the build's own records."""

import json
import os

import pytest

import build
import components
import sbom

CREATED = "2026-01-02T03:04:05Z"


@pytest.fixture(scope="module")
def parts(build_dir):
    with open(os.path.join(build_dir, "remora.map"), encoding="utf-8", errors="replace") as file:
        linked = components.linked_files(file.read())
    return components.components(linked, components.compiled_files(build_dir))


def test_each_library_is_found_and_told_apart_from_headers(parts):
    linked = {part.source for part in parts if part.linked}
    compiled = {part.source for part in parts if not part.linked}
    assert {"openssl", "nghttp2", "libevent", "protobuf", "sqlite3", "libzstd", "yaml-cpp"} <= linked
    assert {"cli11", "nlohmann-json3", "fmtlib", "node-undici"} <= compiled


def test_each_component_has_version_and_licence(parts):
    for part in parts:
        assert part.version and part.spdx and part.packages, part


def make(parts, binary=b"binary"):
    data = components.components(set(), build.certificates()[1])
    return sbom.document("1.2.3", "x86_64", CREATED, ("usr/local/bin/remora", binary), parts, data)


def test_the_document_is_the_same_each_time(parts):
    assert make(parts) == make(list(parts))
    assert make(parts) != make(parts, b"another binary")


def test_the_document_is_whole(parts):
    document = json.loads(make(parts))
    assert document["spdxVersion"] == "SPDX-2.3"
    names = {package["name"]: package for package in document["packages"]}
    assert set(names) == {part.source for part in parts} | {"remora", "ca-certificates"}
    known = {package["SPDXID"] for package in document["packages"]}
    known |= {file["SPDXID"] for file in document["files"]} | {"SPDXRef-DOCUMENT"}
    assert len(known) == len(names) + 2  # no two share an identifier
    related = set()
    for relation in document["relationships"]:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= known
        related.add(relation["relatedSpdxElement"])
    assert related == known - {"SPDXRef-DOCUMENT"}  # nothing is listed without a reason
    purl = names["openssl"]["externalRefs"][0]["referenceLocator"]
    assert purl.startswith("pkg:deb/debian/openssl@3.")


def test_a_component_without_a_licence_stops_the_build():
    with pytest.raises(components.ComponentError, match="images/licences.json"):
        components.licence_of("leftpad", "libc6-dev", {})


def test_a_changed_licence_stops_the_build(tmp_path):
    (tmp_path / "libnew").mkdir()
    (tmp_path / "libnew/copyright").write_text(
        "Format: https://example\n\nFiles: debian/*\nLicense: GPL-2\n\n"
        "Files: src/* *\nCopyright: somebody\nLicense: SSPL\n Text.\n", encoding="utf-8")
    table = {"new": {"spdx": "MIT", "debian": "Expat"}}
    with pytest.raises(components.ComponentError, match="'SSPL'"):
        components.licence_of("new", "libnew", table, str(tmp_path))


@pytest.mark.parametrize("line", [
    "/usr/lib/x86_64-linux-gnu/libzstd.a(zstd_compress.o)",  # ld, gold
    " .text  0x00 0x10 /usr/lib/gcc/x86_64-linux-gnu/12/../../../x86_64-linux-gnu/libzstd.a(a.o)",
    "  1234  1234  10  16  /usr/lib/x86_64-linux-gnu/libzstd.a(a.o):(.text)",  # lld
])
def test_archives_are_read_from_each_linkers_map(line):
    assert components.linked_files(line) == {"/usr/lib/x86_64-linux-gnu/libzstd.a"}


def test_an_archive_that_gave_nothing_is_not_counted():
    assert components.linked_files("LOAD /usr/lib/x86_64-linux-gnu/libz.a\n") == set()


def test_only_the_packages_own_certificates_go_in():
    bundle, files = build.certificates()
    assert bundle.count(b"BEGIN CERTIFICATE") == len(files) > 100
    assert set(components.owners(files).values()) == {"ca-certificates"}


def test_a_dynamic_binary_is_refused():
    with pytest.raises(build.BuildError, match="release preset"):
        build.stripped("/usr/bin/readelf")
