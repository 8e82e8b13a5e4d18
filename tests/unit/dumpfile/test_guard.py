"""Dumps that never end."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.dumpfile import DumpfileError, iter_dump, parse_dump

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = b"/ 0 40755 2 0 0 0 0.0 - - -\n"


class Endless:
    """A stream of lines; counts how much of it was read."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.count = 0

    def read(self, size: int, /) -> bytes:
        pieces = list(itertools.islice(self._lines, max(1, size // 100)))
        self.count += len(pieces)
        return b"".join(pieces)


@pytest.fixture(autouse=True)
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfsctl.dumpfile.guard.DIRECT_LINES", 10)
    monkeypatch.setattr("cfsctl.dumpfile.guard.MAX_DUMP_LINES", 50_000)
    monkeypatch.setattr("cfsctl.dumpfile.guard.MAX_DUMP_BYTES", 10 << 20)


def files(count: int | None = None) -> Iterator[bytes]:
    """Yield a root and so many files, or files for ever."""
    yield ROOT
    for number in itertools.count() if count is None else range(count):
        yield b"/f%d 0 100644 1 0 0 0 0.0 - - -\n" % number


def test_an_endless_dump_is_refused_after_a_while() -> None:
    stream = Endless(files())
    with pytest.raises(DumpfileError, match="at most 50000 lines"):
        parse_dump(stream, Algorithm.SHA256)
    assert stream.count < 100_000


def test_endless_long_lines_are_refused_by_their_bytes() -> None:
    line = b"/f 0 100644 1 0 0 0 0.0 - - - user.a=" + b"x" * 10_000 + b"\n"
    with pytest.raises(DumpfileError, match="at most 10485760 bytes"):
        parse_dump(Endless(itertools.chain([ROOT] * 20, itertools.repeat(line))), Algorithm.SHA256)


@pytest.mark.parametrize(
    ("rest", "message"),
    [(itertools.repeat(b"x" * 1000), "longer than"), (itertools.repeat(bytes(1000)), "NUL")],
    ids=["no end of line", "zeros"],
)
def test_what_is_no_dump_is_not_copied_for_ever(rest: Iterator[bytes], message: str) -> None:
    stream = Endless(itertools.chain(files(10_000), rest))
    with pytest.raises(DumpfileError, match=message):
        parse_dump(stream, Algorithm.SHA256)
    assert stream.count < 100_000


def test_a_long_dump_is_read_as_ever() -> None:
    text = b"".join(sorted(files(30_000)))
    read = b"".join(iter_dump(parse_dump(io.BytesIO(text), Algorithm.SHA256)))
    assert sorted(read.splitlines()) == sorted(text.splitlines())
