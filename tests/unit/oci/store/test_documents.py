"""Digests, references, manifests and configs as text that may be hostile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.errors import FormatError, ReceivedDigestError
from cfsctl.json_fields import MAX_DOCUMENT_BYTES, JsonError
from cfsctl.oci.digest import OciDigest, OciDigestError, compute_digest, parse_digest
from cfsctl.oci.docker import convert_manifest
from cfsctl.oci.manifest import (
    Descriptor,
    ManifestError,
    Platform,
    matches,
    parse_config,
    parse_index,
    parse_manifest,
)
from cfsctl.oci.media_types import CONFIG, DOCKER_CONFIG, DOCKER_MANIFEST, MANIFEST
from cfsctl.oci.reference import (
    ImageReferenceError,
    TaggedPath,
    parse_platform,
    parse_reference,
    split_path,
)
from cfsctl.oci.source import FoundManifest

DIGEST = "sha256:" + "a" * 64
BLOB = {"mediaType": CONFIG, "digest": DIGEST, "size": 5}
GOOD: dict[str, Any] = {"schemaVersion": 2, "config": BLOB, "layers": [BLOB]}


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize("text", [DIGEST, "sha512:" + "0" * 128, "a+b.c:x=_-Y", "sha384:" + "1" * 96])
def test_digests(text: str) -> None:
    assert str(parse_digest(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        ":a",
        "sha256:",
        DIGEST.upper(),
        DIGEST[:-1],
        DIGEST + "0",
        "a..b:x",
        "a:b/c",
        "a:" + "b" * 300,
        DIGEST + "\n",
    ],
)
def test_other_text_is_no_digest(text: str) -> None:
    with pytest.raises(OciDigestError):
        parse_digest(text)


def test_a_digest_checks_bytes() -> None:
    digest = compute_digest(b"text")
    digest.check_bytes(b"text", "document")
    with pytest.raises(ReceivedDigestError, match=r"document: expected digest sha256:.* found sha256:"):
        digest.check_bytes(b"Text", "document")
    with pytest.raises(OciDigestError, match="expected one of sha256, sha384, sha512"):
        OciDigest("md5", "aa").check_bytes(b"", "document")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image", "Missing ':'"),
        ("foo:bar", "Invalid transport: foo"),
        ("docker:x", "Missing // in docker:"),
        ("docker://", "Invalid empty name"),
        ("oci:", "Invalid empty name"),
    ],
)
def test_what_is_no_reference_is_refused(text: str, match: str) -> None:
    with pytest.raises(ImageReferenceError, match=match):
        parse_reference(text)


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("dir", TaggedPath("dir")),
        ("dir:tag", TaggedPath("dir", "tag")),
        ("dir:", TaggedPath("dir", "")),
        ("a:b/c", TaggedPath("a:b/c")),
        ("a:b/c:d", TaggedPath("a:b/c", "d")),
        (f"dir@{DIGEST}", TaggedPath("dir", digest=parse_digest(DIGEST))),
    ],
)
def test_tags_follow_the_last_colon(place: str, wanted: TaggedPath) -> None:
    assert split_path(place) == wanted


def test_platforms() -> None:
    assert parse_platform("linux/arm64/v8") == Platform("linux", "arm64", "v8")
    assert str(parse_platform("linux/amd64")) == "linux/amd64"
    for text in ("linux", "linux/", "a/b/c/d"):
        with pytest.raises(ImageReferenceError):
            parse_platform(text)
    wanted = Platform("linux", "arm64", "v8")
    assert matches(Platform("linux", "arm64"), wanted)
    assert not matches(Platform("linux", "arm64", "v7"), wanted)
    assert matches(Platform("linux", "arm64", "v7"), Platform("linux", "arm64"))
    assert not matches(Platform("windows", "arm64"), Platform("linux", "arm64"))


def test_manifests() -> None:
    manifest = parse_manifest(encode(GOOD | {"annotations": {"a": "b"}, "unknown": [1]}))
    assert manifest.is_container
    assert (str(manifest.config.digest), len(manifest.layers)) == (DIGEST, 1)
    assert dict(manifest.annotations) == {"a": "b"}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schemaVersion": None}, "manifest: schemaVersion: expected a number, found nothing"),
        ({"schemaVersion": "2"}, "schemaVersion: expected a number .*, found a string"),
        ({"config": []}, "manifest: config: expected an object, found a list"),
        ({"layers": {}}, "manifest: layers: expected a list, found an object"),
        ({"layers": [BLOB, 5]}, r"manifest: layers\[1\]: expected an object, found a number"),
        ({"layers": [BLOB | {"size": -1}]}, r"manifest: layers\[0\].size: expected a number from 0"),
        ({"layers": [BLOB | {"size": True}]}, r"layers\[0\].size: expected a number .*, found"),
        ({"layers": [BLOB | {"size": 1.5}]}, r"layers\[0\].size: expected a number"),
        ({"layers": [BLOB | {"digest": "x"}]}, r"manifest: layers\[0\].digest: expected algorithm:digits"),
        ({"layers": [BLOB | {"mediaType": None}]}, r"layers\[0\].mediaType: expected a string"),
        ({"layers": [BLOB] * 5000}, "layers: expected at most 4096 entries, found 5000"),
        ({"annotations": {"a": 1}}, "manifest: annotations.a: expected a string, found a number"),
        ({"artifactType": "\ud800"}, "artifactType: expected text, found a lone surrogate"),
    ],
)
def test_manifests_with_a_fault_name_its_key(change: dict[str, object], match: str) -> None:
    with pytest.raises((JsonError, OciDigestError, ManifestError), match=match):
        parse_manifest(encode(GOOD | change))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"[]", "expected a JSON object, found a list"),
        (b"\xff", "expected UTF-8"),
        (b'{"a":NaN}', "NaN is not a JSON number"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"1" * 5000, "expected JSON"),
        (b" " * (MAX_DOCUMENT_BYTES + 1), "expected at most 4194304 bytes"),
        (b'{"config":1,"config":2}', "config occurs twice"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(JsonError, match=match):
        parse_manifest(data)


def test_keys_that_nobody_asks_for_may_occur_twice() -> None:
    text = encode(GOOD).decode().removesuffix("}") + ',"x":1,"x":2}'
    assert parse_manifest(text.encode()).is_container


def test_configs() -> None:
    document = {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "created": "now",
        "config": {"Labels": {"a": "b"}},
    }
    config = parse_config(encode(document))
    assert config.platform == Platform("linux", "arm64", "v8")
    assert [str(digest) for digest in config.diff_ids] == [DIGEST]
    assert (config.created, dict(config.labels)) == ("now", {"a": "b"})
    document["rootfs"] = {"type": "layers", "diff_ids": ["x"]}
    with pytest.raises(OciDigestError, match=r"config: rootfs.diff_ids\[0\]"):
        parse_config(encode(document))


def test_indexes() -> None:
    entry = BLOB | {"platform": {"os": "linux", "architecture": "amd64"}, "annotations": {"k": "v"}}
    (found,) = parse_index(encode({"schemaVersion": 2, "manifests": [entry]}))
    assert found.platform == Platform("linux", "amd64")
    with pytest.raises(JsonError, match=r"index: manifests\[0\].platform.os"):
        parse_index(encode({"schemaVersion": 2, "manifests": [BLOB | {"platform": {}}]}))


def test_manifests_of_docker_become_those_of_oci() -> None:
    layer = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": DIGEST, "size": 7}
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": BLOB | {"mediaType": DOCKER_CONFIG},
        "layers": [layer],
    }
    data = encode(document)
    descriptor = Descriptor(DOCKER_MANIFEST, compute_digest(data), len(data), {})
    found = convert_manifest(descriptor, data)
    assert found.digest == compute_digest(found.data)
    assert found == convert_manifest(descriptor, data)
    converted = json.loads(found.data)
    assert converted["mediaType"] == MANIFEST
    assert converted["config"] == BLOB
    assert converted["layers"] == [layer | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}]
    assert list(converted) == ["schemaVersion", "mediaType", "config", "layers"]


def test_manifests_of_oci_stay_as_they_are() -> None:
    data = encode(GOOD)
    digest = compute_digest(data)
    assert convert_manifest(Descriptor(MANIFEST, digest, len(data), {}), data) == FoundManifest(digest, data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(DIGEST),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, *BLOB, "platform"]), inner)
    ),
    max_leaves=12,
)


@given(st.one_of(JSON.map(encode), st.binary(max_size=60)), st.sampled_from(["config", "layers", "size"]))
def test_any_document_is_parsed_or_refused(data: bytes, key: str) -> None:
    changed = encode(GOOD).replace(f'"{key}": '.encode(), f'"{key}": '.encode() + data + b',"x":', 1)
    for parse in (parse_manifest, parse_index, parse_config):
        for document in (data, changed):
            try:
                parse(document)
            except FormatError:
                continue


@pytest.mark.parametrize(
    ("size", "found"),
    [("1e400", "found inf"), ("12.0", "found 12.0"), ("9" * 5000, "5000 digits"), ("-1", "found -1")],
)
def test_sizes_that_are_no_whole_numbers(size: str, found: str) -> None:
    text = json.dumps({"schemaVersion": 2, "config": {**BLOB, "size": "SIZE"}, "layers": []})
    with pytest.raises(JsonError, match=found):
        parse_manifest(text.replace('"SIZE"', size).encode())
