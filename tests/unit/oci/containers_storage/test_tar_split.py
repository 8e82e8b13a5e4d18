"""The record of an archive without the contents of its files."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.oci.containers_storage import tar_split
from cfsctl.oci.containers_storage.tar_split import SplitFile, TarSplitError, iter_tar_split


def segment(data: bytes, position: int) -> dict[str, object]:
    return {"type": 2, "payload": base64.b64encode(data).decode(), "position": position}


def lines(*entries: object) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def test_segments_and_files_in_order() -> None:
    data = lines(
        segment(b"head", 0),
        {"type": 1, "name": "a/\u00e9", "size": 3, "payload": "AAAA", "position": 1},
        segment(b"pad", 2),
        {"type": 1, "name_raw": base64.b64encode(b"\xff").decode(), "size": 4, "position": 3},
        {"type": 1, "name": "empty", "payload": None, "position": 4},
        {"type": 2, "position": 5},
    )
    expected = [b"head", SplitFile("a/\u00e9".encode(), 3), b"pad", SplitFile(b"\xff", 4), b""]
    assert list(iter_tar_split([data])) == expected
    assert list(iter_tar_split([data.rstrip(b"\n")])) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "line 1: expected JSON"),
        (b"[]\n", "line 1: expected an object"),
        (b"\xff\n", "line 1: expected JSON"),
        (lines({"type": 3}), r"line 1: type: expected 1 \(file\) or 2"),
        (lines({}), "type: expected"),
        (lines(segment(b"", 0), segment(b"", 2)), "line 2: expected position 1, found 2"),
        (lines({"type": 2, "payload": "!", "position": 0}), "expected base64"),
        (lines({"type": 2, "payload": "YQ==YQ==", "position": 0}), "expected base64"),
        (lines({"type": 2, "payload": "\u00e9", "position": 0}), "expected base64"),
        (lines({"type": 2, "payload": 1, "position": 0}), "expected base64"),
        (lines({"type": 1, "size": 1}), "expected the name of a file"),
        (lines({"type": 1, "size": 1, "name_raw": 5}), "expected the name of a file"),
        (lines({"type": 1, "name": "\ud800", "size": 1}), "name: expected text"),
        (lines({"type": 1, "name": "x", "size": -1}), "size: expected a number"),
        (lines({"type": 1, "name": "x", "size": 1 << 60}), "size: expected a number"),
        (lines({"type": 1, "name": "x", "size": 1.0}), "size: expected a number"),
        (lines({"type": 1, "name": "x", "size": True}), "size: expected a number"),
        (b'{"type":2,"position":' + b"9" * 5000 + b"}\n", "line 1"),
    ],
)
def test_other_lines_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(TarSplitError, match=message):
        list(iter_tar_split([data]))


def test_a_line_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_split, "MAX_LINE_BYTES", 100)
    pieces = iter([b"x" * 60, b"x" * 60, b"never read"])
    with pytest.raises(TarSplitError, match="lines of at most 100 bytes"):
        list(iter_tar_split(pieces))
    assert next(pieces) == b"never read"


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 50))
def test_the_cuts_do_not_matter(segments: list[bytes], step: int) -> None:
    data = lines(*(segment(each, number) for number, each in enumerate(segments)))
    pieces = [data[place : place + step] for place in range(0, len(data), step)]
    assert list(iter_tar_split(pieces)) == segments


@given(st.binary(max_size=200))
def test_bytes_cause_no_other_error(data: bytes) -> None:
    with contextlib.suppress(TarSplitError):
        list(iter_tar_split([data]))
