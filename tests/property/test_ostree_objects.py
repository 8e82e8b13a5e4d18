"""The parsers written by hand agree with the general codec, and raise nothing but their own error."""

from __future__ import annotations

import stat
from random import Random  # noqa: TC003 - hypothesis reads the annotation
from typing import cast
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.ostree.objects import (
    OstreeObjectError,
    Xattrs,
    format_commit,
    format_dirmeta,
    format_dirtree,
    format_regular_header,
    format_zlib_header,
    parse_commit,
    parse_dirmeta,
    parse_dirtree,
    parse_xattrs,
    parse_zlib_file_header,
)
from tests.support.gvariants import damaged

_NAMES = st.one_of(
    st.binary(min_size=1, max_size=6).filter(lambda name: not {0, 47} & set(name)),
    st.sampled_from([b"a", b"b", "é".encode(), b"x" * 187, b"x" * 190, b"x" * 221, b"x" * 224, b"x" * 255]),
).filter(lambda name: name not in (b".", b"..") and _is_utf8(name))
_CHECKSUMS = st.binary(min_size=32, max_size=32).map(Checksum)
_XATTRS = st.dictionaries(
    st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"x") + b"\0"),
    st.binary(max_size=300),
    max_size=4,
).map(lambda mapping: tuple(mapping.items()))
_IDS = st.integers(0, (1 << 32) - 1)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


@st.composite
def _trees(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(_NAMES, unique=True, max_size=12))
    split = draw(st.integers(0, len(names)))
    files = [(name, draw(_CHECKSUMS)) for name in names[:split]]
    dirs = [(name, draw(_CHECKSUMS), draw(_CHECKSUMS)) for name in names[split:]]
    data = format_dirtree(files, dirs)
    assert parse_dirtree(data) == (sorted(files), sorted(dirs))
    return data


def _tree_by_codec(data: bytes) -> object:
    """Return a dirtree as the general codec and a plain reading of the rules have it, or None."""
    if not gvariant.is_normal("(a(say)a(sayay))", data):
        return None
    value = cast(
        "tuple[list[tuple[str, bytes]], list[tuple[str, bytes, bytes]]]",
        gvariant.decode("(a(say)a(sayay))", data),
    )
    files = [(name.encode(), file) for name, file in value[0]]
    dirs = [(name.encode(), tree, meta) for name, tree, meta in value[1]]
    names = [entry[0] for entry in files] + [entry[0] for entry in dirs]
    sound = (
        len(set(names)) == len(names)
        and all(1 <= len(name) <= 255 and name not in (b".", b"..") and b"/" not in name for name in names)
        and all(len(file) == 32 for _, file in files)
        and all(len(tree) == len(meta) == 32 for _, tree, meta in dirs)
    )
    return (files, dirs) if sound else None


def _check_tree(data: bytes) -> None:
    try:
        parsed: object = tuple(parse_dirtree(data))
    except OstreeObjectError:
        parsed = None
    assert parsed == _tree_by_codec(data)


@settings(max_examples=400)
@given(data=_trees(), random=st.randoms(use_true_random=False))
def test_dirtrees(data: bytes, random: Random) -> None:
    _check_tree(data)
    for _ in range(10):
        _check_tree(damaged(random, data))


@settings(max_examples=200)
@given(data=_trees(), random=st.randoms(use_true_random=False), entries=st.integers(1, 5))
def test_dirtrees_in_pieces(data: bytes, random: Random, entries: int) -> None:
    with mock.patch("cfsctl.ostree.objects._directory.PIECE_ENTRIES", entries):
        _check_tree(data)
        for _ in range(10):
            _check_tree(damaged(random, data))


@settings(max_examples=300)
@given(data=st.binary(max_size=120))
def test_noise(data: bytes) -> None:
    _check_tree(data)
    for parse in (parse_dirmeta, parse_commit, parse_zlib_file_header, parse_xattrs):
        try:
            parse(data)
        except OstreeObjectError:
            continue


def _xattrs_by_codec(data: bytes) -> object:
    if not gvariant.is_normal("a(ayay)", data):
        return None
    pairs = cast("list[tuple[bytes, bytes]]", gvariant.decode("a(ayay)", data))
    sound = len({name for name, _ in pairs}) == len(pairs) and all(
        2 <= len(name) <= 256 and name.index(b"\0") == len(name) - 1 if b"\0" in name else False
        for name, _ in pairs
    )
    return tuple(pairs) if sound else None


@settings(max_examples=300)
@given(
    xattrs=_XATTRS, uid=_IDS, gid=_IDS, bits=st.integers(0, 0o7777), random=st.randoms(use_true_random=False)
)
def test_dirmetas(xattrs: Xattrs, uid: int, gid: int, bits: int, random: Random) -> None:
    data = gvariant.encode("(uuua(ayay))", (*_swapped(uid, gid, stat.S_IFDIR | bits), xattrs))
    meta = parse_dirmeta(data)
    assert meta == (uid, gid, stat.S_IFDIR | bits, xattrs)
    assert format_dirmeta(meta) == data
    for _ in range(5):
        changed = data[:12] + damaged(random, data[12:])
        try:
            found: object = parse_dirmeta(changed).xattrs
        except OstreeObjectError:
            found = None
        assert found == _xattrs_by_codec(changed[12:])


def _swapped(*numbers: int) -> tuple[int, ...]:
    return tuple(int.from_bytes(number.to_bytes(4, "big"), "little") for number in numbers)


@settings(max_examples=300)
@given(
    xattrs=_XATTRS,
    uid=_IDS,
    gid=_IDS,
    bits=st.integers(0, 0o7777),
    target=st.one_of(st.just(b""), st.binary(max_size=300).map(lambda text: text.hex().encode())),
    size=st.integers(0, 1 << 40),
    random=st.randoms(use_true_random=False),
)
def test_file_headers(
    xattrs: Xattrs, uid: int, gid: int, bits: int, target: bytes, size: int, random: Random
) -> None:
    mode = (stat.S_IFLNK if target else stat.S_IFREG) | bits
    size = 0 if target else size
    data = format_zlib_header(size, uid, gid, mode, target, xattrs)
    fields: tuple[object, ...] = (*_swapped(uid, gid, mode), 0, target.decode(), xattrs)
    swapped_size = int.from_bytes(size.to_bytes(8, "big"), "little")
    assert data[8:] == gvariant.encode("(tuuuusa(ayay))", (swapped_size, *fields))
    header = parse_zlib_file_header(data + b"rest")
    assert header[:7] == (size, len(data), uid, gid, mode, target, xattrs)
    assert header.regular_header[8:] == gvariant.encode("(uuuusa(ayay))", fields)
    assert header.regular_header == format_regular_header(uid, gid, mode, target, xattrs)
    for _ in range(5):
        _check_header(damaged(random, data[8:]))


def _check_header(variant: bytes) -> None:
    data = len(variant).to_bytes(4, "big") + bytes(4) + variant
    try:
        header = parse_zlib_file_header(data)
    except OstreeObjectError:
        return
    assert gvariant.is_normal("(tuuuusa(ayay))", variant)
    attributes = (header.uid, header.gid, header.mode, header.target, header.xattrs)
    assert format_zlib_header(header.size_bytes, *attributes) == data
    assert format_regular_header(*attributes) == header.regular_header


@settings(max_examples=200)
@given(random=st.randoms(use_true_random=False), parent=st.sampled_from([b"", bytes(32)]))
def test_damaged_commits(random: Random, parent: bytes) -> None:
    metadata = [
        ("version", gvariant.Variant("s", "1")),
        ("ostree.ref-binding", gvariant.Variant("as", ["a", "b"])),
    ]
    fields: tuple[object, ...] = (metadata, parent, [], "subject", "", 1 << 40, bytes(32), bytes(range(32)))
    data = gvariant.encode("(a{sv}aya(say)sstayay)", fields)
    assert format_commit(parse_commit(data)) == data
    for _ in range(5):
        changed = damaged(random, data)
        try:
            commit = parse_commit(changed)
        except OstreeObjectError:
            continue
        assert format_commit(commit) == changed
