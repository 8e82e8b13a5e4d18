"""Dumps: reading is the inverse of writing, for any tree; any bytes have one outcome."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from cfsctl.digest import Algorithm
from cfsctl.dumpfile import Dialect, DumpfileError, iter_dump, parse_dump
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.write.image import build_image
from tests.property.trees import filesystems

if TYPE_CHECKING:
    from cfsctl.tree.model import FileSystem

ROOT = b"/ 0 40755 2 0 0 0 0.0 - - -\n"
HEX = b"ab" + b"cd" * 31

FIELDS = st.one_of(
    st.sampled_from(
        [
            *(b"", b"-", b"/", b"/a", b"/a/b", b"/\\x61", b"\\", b"\\x", b"0", b"1", b"-1", b"64", b"9" * 30),
            *(b"40755", b"100644", b"120777", b"20644", b"@120000", b"@40755"),
            *(b"0.0", b"1.5", b"-5.5", b"1."),
            *(b"ab/" + HEX[2:], HEX, HEX * 2, b"a=b", b"user.a=\\x00", b"=", b"\xff", b"\0", b"\r"),
        ]
    ),
    st.binary(max_size=8),
)
LINES = st.one_of(
    st.lists(FIELDS, max_size=14).map(b" ".join),
    st.binary(max_size=60),
    st.sampled_from([ROOT[:-1], b"/a 0 40755 2 0 0 0 0.0 - - -", b"/b 0 @120000 - - - - 0.0 /c - -"]),
)


def dump(filesystem: FileSystem) -> bytes:
    return b"".join(iter_dump(filesystem))


@settings(max_examples=80)
@given(made=filesystems(), dialect=st.sampled_from(Dialect))
def test_reader_of_writer_is_identity(made: tuple[FileSystem, Algorithm], dialect: Dialect) -> None:
    filesystem, algorithm = made
    text = dump(filesystem)
    again = parse_dump(io.BytesIO(text), algorithm, dialect)
    assert dump(again) == text
    for version in FormatVersion:
        assert build_image(again, version) == build_image(filesystem, version)


def outcome(stream: io.BytesIO, dialect: Dialect) -> bytes | str:
    """Return the dump of a dump's tree, or what the dump is refused for."""
    try:
        filesystem = parse_dump(stream, Algorithm.SHA256, dialect)
    except DumpfileError as error:
        return str(error)
    return dump(filesystem)


class Trickle(io.BytesIO):
    """Gives three bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size if size is not None else 3, 3))


@settings(max_examples=250)
@given(
    start=st.sampled_from([ROOT, b""]),
    lines=st.lists(LINES, max_size=6),
    dialect=st.sampled_from(Dialect),
)
def test_any_text_has_one_outcome_however_it_comes(
    start: bytes, lines: list[bytes], dialect: Dialect
) -> None:
    data = start + b"\n".join(lines)
    assert outcome(Trickle(data), dialect) == outcome(io.BytesIO(data), dialect)


@settings(max_examples=80)
@given(
    made=filesystems(),
    dialect=st.sampled_from(Dialect),
    position=st.floats(0, 1, exclude_max=True),
    replacement=st.one_of(
        st.binary(max_size=3), st.sampled_from([b" ", b"\n", b"\\", b"@", b"-", b"=", b"/"])
    ),
    removed=st.integers(0, 3),
)
def test_damage_has_one_outcome(
    made: tuple[FileSystem, Algorithm], dialect: Dialect, position: float, replacement: bytes, removed: int
) -> None:
    filesystem, algorithm = made
    text = dump(filesystem)
    place = int(position * len(text))
    damaged = text[:place] + replacement + text[place + removed :]
    try:
        again = parse_dump(io.BytesIO(damaged), algorithm, dialect)
        for version in FormatVersion:
            build_image(again, version, dialect)
    except (DumpfileError, ErofsError) as error:
        message = str(error)
    else:
        message = "fine"
    assert message.isprintable()


@settings(max_examples=40)
@given(made=filesystems(), version=st.sampled_from(FormatVersion), dialect=st.sampled_from(Dialect))
def test_writing_twice_gives_the_same(
    made: tuple[FileSystem, Algorithm], version: FormatVersion, dialect: Dialect
) -> None:
    filesystem, _ = made
    before = dump(filesystem)
    assert build_image(filesystem, version, dialect) == build_image(filesystem, version, dialect)
    assert dump(filesystem) == before
