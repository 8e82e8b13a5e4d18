"""Every name that becomes a path, and every link text."""

from __future__ import annotations

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.repository.names.names import (
    MAX_DEPTH,
    InvalidNameError,
    check_entry,
    check_ref,
    find_entry_in,
    find_object_in,
    object_link_text,
    parse_image_name,
    parse_object_link,
    parse_stream_name,
    ref_link_text,
)

ID256 = ObjectID(bytes(range(32)))
ID512 = ObjectID(bytes(range(64)))
HEX512 = ID512.hex()

GOOD_REFS = {
    "plain": ("name", "name"),
    "nested": ("a/b/c", "a/b/c"),
    "leading slash": ("/abs", "abs"),
    "double slash": ("a//b", "a/b"),
    "dot in the middle": ("a/./b", "a/b"),
    "dot in front": ("./a", "a"),
    "starts with dots": ("..a/.b", "..a/.b"),
    "blanks and colons": ("sp ace/k:v@q", "sp ace/k:v@q"),
    "percent is not decoded": ("x%2F..%2Fy", "x%2F..%2Fy"),
    "newline": ("a\nb", "a\nb"),
    "leading dash": ("-m", "-m"),
    "not ascii": ("nä", "nä"),
    "not utf-8": ("a\udcff", "a\udcff"),
    "hex ID": (HEX512, HEX512),
    "255 bytes": ("x" * 255, "x" * 255),
    "255 bytes in two per character": ("ä" * 127 + "x", "ä" * 127 + "x"),
}


@pytest.mark.parametrize(("name", "path"), GOOD_REFS.values(), ids=GOOD_REFS.keys())
def test_ref_is_taken(name: str, path: str) -> None:
    assert check_ref(name) == path


BAD_REFS = {
    "empty": "",
    "dot": ".",
    "dots": "..",
    "slash": "/",
    "trailing slash": "a/",
    "trailing dot": "a/.",
    "up and out": "../x",
    "out of the repository": "../../../x",
    "up in the middle": "a/../b",
    "up at the end": "a/..",
    "up after a slash": "/../x",
    "NUL": "a\0b",
    "lone surrogate that stands for no byte": "a\ud800",
    "256 bytes": "x" * 256,
    "256 bytes in two per character": "ä" * 128,
    "too deep": "/".join(["d"] * (MAX_DEPTH + 1)),
    "too long": "/".join(["x" * 200] * 11),
}


@pytest.mark.parametrize("name", BAD_REFS.values(), ids=BAD_REFS.keys())
def test_ref_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError):
        check_ref(name)


@pytest.mark.parametrize("name", ["", ".", "..", "refs", "a/b", "/a", "a/", "a\0", "x" * 256])
def test_entry_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError):
        check_entry(name)


@pytest.mark.parametrize("name", ["ostree-commit-aa", "oci-layer-sha256:ab", "refsx", ".hidden"])
def test_entry_is_taken(name: str) -> None:
    assert check_entry(name) == name


IMAGE_NAMES = {
    "hex ID, and a ref of that name": (HEX512, HEX512, HEX512),
    "qualified ID": (f"sha512:{HEX512}", HEX512, None),
    "bare ref": ("first", None, "first"),
    "nested ref": ("a/b", None, "a/b"),
    "ref below refs": ("refs/a/b", None, "a/b"),
    "ref called refs": ("refs/refs/x", None, "refs/x"),
    "part of an ID": (HEX512[:30], None, HEX512[:30]),
    "upper case": (HEX512.upper(), None, HEX512.upper()),
    "beginning of an ID": (f"sha512:{HEX512[:-1]}", None, None),
    "marked ID": (f"@{HEX512}", HEX512, f"@{HEX512}"),
    "colon that is no ID": ("sha512:latest", None, "sha512:latest"),
}


@pytest.mark.parametrize(("text", "entry", "ref"), IMAGE_NAMES.values(), ids=IMAGE_NAMES.keys())
def test_image_name(text: str, entry: str | None, ref: str | None) -> None:
    assert parse_image_name(text, Algorithm.SHA512) == (entry, ref)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "refs",
        "refs/",
        "../objects/ab/cd",
        "refs/../x",
        "a/../../x",
        f"sha256:{ID256.hex()}",
        f"sha512:{HEX512}0",
    ],
)
def test_image_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        parse_image_name(text, Algorithm.SHA512)


@pytest.mark.parametrize(
    ("text", "entry", "ref"),
    [
        ("ostree-commit-aa", "ostree-commit-aa", "ostree-commit-aa"),
        ("refs/ostree/x%2Fy", None, "ostree/x%2Fy"),
        ("my/layer", None, "my/layer"),
    ],
)
def test_stream_name(text: str, entry: str | None, ref: str) -> None:
    assert parse_stream_name(text) == (entry, ref)


@pytest.mark.parametrize("text", ["", "refs", "refs/", "..", "../x", "refs/..", "a/"])
def test_stream_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        parse_stream_name(text)


@pytest.mark.parametrize(
    ("ref", "entry", "text"),
    [
        ("foo", HEX512, f"../{HEX512}"),
        ("a/b", HEX512, f"../../{HEX512}"),
        ("oci/x", "oci-manifest-y", "../../oci-manifest-y"),
        ("oci-referrers/S/A", "oci-manifest-y", "../../../oci-manifest-y"),
    ],
)
def test_text_of_a_ref(ref: str, entry: str, text: str) -> None:
    assert ref_link_text(ref, entry) == text
    assert find_entry_in(text) == entry


@pytest.mark.parametrize("object_id", [ID256, ID512])
def test_text_of_an_entry(object_id: ObjectID) -> None:
    digits = object_id.hex()
    text = object_link_text(object_id)
    assert text == f"../objects/{digits[:2]}/{digits[2:]}"
    assert parse_object_link(text, Algorithm.of_digest(object_id)) == object_id


OTHER_ALGORITHM = {32: Algorithm.SHA512, 64: Algorithm.SHA256}


@pytest.mark.parametrize("object_id", [ID256, ID512])
def test_text_of_an_entry_of_the_other_algorithm(object_id: ObjectID) -> None:
    assert parse_object_link(object_link_text(object_id), OTHER_ALGORITHM[len(object_id)]) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nope",
        f"../../objects/{HEX512[:2]}/{HEX512[2:]}",
        f"/r/objects/{HEX512[:2]}/{HEX512[2:]}",
        f"../objects/{HEX512[:2]}{HEX512[2:]}",
        f"../objects/{HEX512[:2]}/{HEX512[2:].upper()}",
        f"../objects/x/../{HEX512[:2]}/{HEX512[2:]}",
    ],
)
def test_text_that_nobody_writes(text: str) -> None:
    assert parse_object_link(text, Algorithm.SHA512) is None


def test_object_in_any_text() -> None:
    digits = HEX512
    assert find_object_in(f"/r/objects/{digits[:2]}/{digits[2:]}", Algorithm.SHA512) == ID512
    assert find_object_in(f"{digits[:2]}-{digits[2:]}", Algorithm.SHA512) is None


@pytest.mark.parametrize(
    ("text", "entry"),
    [("x", "x"), ("../x/", "x"), ("../x/.", "x"), ("..", None), ("", None), ("/", None), ("a/..", None)],
)
def test_entry_in_a_text(text: str, entry: str | None) -> None:
    assert find_entry_in(text) == entry
