"""The program of a part: operations that make its objects, one after the other, in the order of its list.

    S  metadata: length, offset      the object is that range of the payload
    S  file: mode, xattrs, size, offset    a whole file; of a symbolic link the range is the target
    o  mode, xattrs, size            begin a regular file
    w  size, offset                  append a range of the payload, or of the source if there is one
    r  offset                        32 bytes of the payload name a file of the old commit: the source
    R                                no source any more
    B  offset, length                append what that patch in the payload makes of the source
    c                                the file is complete; no source any more

Operands are numbers of 7 bits a byte, low ones first. Every operation is refused where it makes no sense, so
that a program that comes to its end has made all objects of its list and each is what its checksum says.
"""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.digest import Checksum
from cfsctl.errors import ReceivedDigestError
from cfsctl.ostree.delta.budget import FREE_BYTES, PAYLOAD_USES, SOURCE_USES
from cfsctl.ostree.delta.format import DeltaError, fail
from cfsctl.ostree.delta.output import FileOutput
from cfsctl.ostree.delta.patch import apply_patch
from cfsctl.ostree.delta.views import READ_BYTES
from cfsctl.ostree.limits import MAX_METADATA_TOTAL_BYTES
from cfsctl.ostree.objects import (
    CHECKSUM_SIZE,
    MAX_METADATA_SIZE,
    MAX_TARGET_SIZE,
    ObjectKind,
    OstreeObjectError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from cfsctl.digest import ObjectID
    from cfsctl.ostree.delta.part import PartContent
    from cfsctl.ostree.delta.superblock import Entry
    from cfsctl.ostree.delta.views import ByteView
    from cfsctl.repository.objects.store import ObjectStore

    Produced: TypeAlias = "tuple[Checksum, bytes, ObjectID | None]"

_MAX_VARINT_BYTES: Final = 10
_VARINT_END: Final = 1 << 64


class SourceFiles(Protocol):
    """The files of the old commit."""

    def open(self, checksum: Checksum) -> AbstractContextManager[ByteView]:
        """Return the content of a regular file of the old commit.

        Raises:
            DeltaError: It has no such file, or there is no old commit.
        """


class PartProgram:
    """Runs the program of one part.

    Attributes:
        produced: What has been made: checksum, data as a commit stream has it, ID of content that is an
            object. Good also after an error.
    """

    def __init__(
        self,
        content: PartContent,
        entries: Sequence[Entry],
        limit_bytes: int,
        sources: SourceFiles,
        objects: ObjectStore,
        *,
        free_bytes: int = FREE_BYTES,
    ) -> None:
        """Get ready.

        Args:
            content: The part.
            entries: What it is to make.
            limit_bytes: Bytes of all its objects together, at most.
            sources: The files of the old commit.
            objects: Where content goes.
            free_bytes: Content that it may make besides what payload and sources account for.
        """
        self._content = content
        self._entries = entries
        self._room = limit_bytes
        self._allowance = free_bytes + PAYLOAD_USES * content.payload.size
        self._counted: set[Checksum] = set()
        self._metadata_room = min(limit_bytes, MAX_METADATA_TOTAL_BYTES)
        self._sources = sources
        self._objects = objects
        self._place = 0
        self._index = 0
        self._file: FileOutput | None = None
        self._source: ByteView | None = None
        self._opened: AbstractContextManager[ByteView] | None = None
        self.produced: list[Produced] = []

    def run(self) -> None:
        """Make all objects.

        Raises:
            DeltaError: The program is not valid, or does not make what it should.
            ReceivedDigestError: An object is not what its checksum says.
            OSError: Something could not be stored.
        """
        operations: dict[int, Callable[[], None]] = {
            ord("S"): self._splice,
            ord("o"): self._open,
            ord("w"): self._write,
            ord("r"): self._set_source,
            ord("R"): self._unset_source,
            ord("B"): self._patch,
            ord("c"): self._close,
        }
        program = self._content.program
        try:
            while self._place < len(program):
                start = self._place
                operation = operations.get(program[start])
                self._place += 1
                if operation is None:
                    fail("program", "an operation", f"{program[start]:#04x}", offset=start)
                try:
                    operation()
                except OstreeObjectError as error:
                    raise DeltaError(f"{self._name()}: {error}") from error
            self._check_end()
        finally:
            self._unset_source()
            if self._file is not None:
                self._file.abort()

    def _check_end(self) -> None:
        if self._file is not None:
            fail(self._name(), "a close at the end of the program", "none")
        if self._index != len(self._entries):
            fail("program", f"{len(self._entries)} objects", self._index)

    # Operands

    def _operand(self) -> int:
        program = self._content.program
        value = byte = 0
        place = self._place
        for place in range(self._place, self._place + _MAX_VARINT_BYTES):
            if place >= len(program):
                fail("program", "the rest of a number", "the end", offset=place)
            byte = program[place]
            value |= (byte & 0x7F) << 7 * (place - self._place)
            if byte < 0x80:
                break
        if byte >= 0x80 or value >= _VARINT_END:
            fail("program", "a number of 64 bits", "a longer one", offset=self._place)
        self._place = place + 1
        return value

    def _attributes(self) -> tuple[tuple[int, int, int], tuple[tuple[bytes, bytes], ...]]:
        mode, xattrs = self._operand(), self._operand()
        modes, lists = self._content.modes, self._content.xattrs
        if mode >= len(modes):
            fail(self._name(), f"the number of one of {len(modes)} modes", mode)
        if xattrs >= len(lists):
            fail(self._name(), f"the number of one of {len(lists)} lists of attributes", xattrs)
        return modes[mode], lists[xattrs]

    def _payload(self, offset: int, size: int) -> ByteView:
        payload = self._content.payload
        if offset + size > payload.size:
            fail(self._name(), f"a range within {payload.size} bytes of payload", f"{size} bytes at {offset}")
        return payload.window(offset, offset + size)

    # Objects

    def _name(self) -> str:
        if self._index < len(self._entries):
            kind, checksum = self._entries[self._index]
            return f"{kind.label} object {checksum.hex()}"
        return "program"

    def _begin(self) -> Entry:
        """Return the next object, which nothing may have begun."""
        if self._file is not None:
            fail(self._name(), "a close before the next object", "none")
        if self._index >= len(self._entries):
            fail("program", f"{len(self._entries)} objects", "more")
        return self._entries[self._index]

    def _take_room(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            fail(self._name(), "objects of no more bytes than the superblock announces", "more")

    def _add(self, produced: Produced) -> None:
        self.produced.append(produced)
        self._index += 1
        self._unset_source()

    def _splice(self) -> None:
        kind, checksum = self._begin()
        if kind is ObjectKind.FILE:
            self._splice_file(checksum)
            return
        size, offset = self._operand(), self._operand()
        if size > min(MAX_METADATA_SIZE, self._metadata_room):
            fail(self._name(), f"at most {min(MAX_METADATA_SIZE, self._metadata_room)} bytes", size)
        self._metadata_room -= size
        self._take_room(size)
        data = self._payload(offset, size).read(0, size)
        actual = hashlib.sha256(data).digest()
        if actual != checksum:
            raise ReceivedDigestError(self._name(), expected=checksum.hex(), actual=actual.hex())
        self._add((checksum, data, None))

    def _splice_file(self, checksum: Checksum) -> None:
        attributes, xattrs = self._attributes()
        size, offset = self._operand(), self._operand()
        content = self._payload(offset, size)
        if stat.S_ISLNK(attributes[2]):
            if size > MAX_TARGET_SIZE:
                fail(self._name(), f"a target of at most {MAX_TARGET_SIZE} bytes", size)
            file = FileOutput(self._objects, checksum, attributes, xattrs, 0, content.read(0, size))
        else:
            self._take_room(size)
            file = FileOutput(self._objects, checksum, attributes, xattrs, size)
            self._file = file
            self._copy(content, 0, size)
        self._file = None
        self._finish(file)

    def _open(self) -> None:
        kind, checksum = self._begin()
        if kind is not ObjectKind.FILE:
            fail(self._name(), "a file to open", f"a {kind.label}")
        attributes, xattrs = self._attributes()
        if not stat.S_ISREG(attributes[2]):
            fail(self._name(), "the mode of a regular file", f"{attributes[2]:#o}")
        size = self._operand()
        self._take_room(size)
        self._file = FileOutput(self._objects, checksum, attributes, xattrs, size)

    def _opened_file(self) -> FileOutput:
        if self._file is None:
            fail(self._name(), "an open file", "none")
        return self._file

    def _close(self) -> None:
        file = self._opened_file()
        self._file = None
        self._finish(file)

    def _finish(self, file: FileOutput) -> None:
        try:
            made = file.finish()
        except BaseException:
            file.abort()
            raise
        self._add((made.checksum, made.data, made.object_id))

    # Content

    def _write(self) -> None:
        file = self._opened_file()
        size, offset = self._operand(), self._operand()
        if size > file.left_bytes:
            fail(self._name(), f"at most {file.left_bytes} more bytes", size)
        if self._source is None:
            self._copy(self._payload(offset, size), 0, size)
            return
        if offset + size > self._source.size:
            fail(
                self._name(),
                f"a range within {self._source.size} bytes of source",
                f"{size} bytes at {offset}",
            )
        self._copy(self._source, offset, size)

    def _copy(self, view: ByteView, offset: int, size: int) -> None:
        emit = self._emit
        for done in range(0, size, READ_BYTES):
            emit(view.read(offset + done, min(READ_BYTES, size - done)))

    def _emit(self, data: bytes) -> None:
        """Append to the file, as long as something accounts for it."""
        self._allowance -= len(data)
        if self._allowance < 0:
            fail(
                self._name(),
                f"content written at most {PAYLOAD_USES} times from the part and {SOURCE_USES} from files of "
                "the old commit",
                "more",
            )
        self._opened_file().write(data)

    def _set_source(self) -> None:
        offset = self._operand()
        checksum = Checksum(self._payload(offset, CHECKSUM_SIZE).read(0, CHECKSUM_SIZE))
        self._unset_source()
        opened = self._sources.open(checksum)
        self._source = opened.__enter__()
        self._opened = opened
        if checksum not in self._counted:
            self._counted.add(checksum)
            self._allowance += SOURCE_USES * self._source.size

    def _unset_source(self) -> None:
        self._source = None
        if self._opened is not None:
            self._opened.__exit__(None, None, None)
            self._opened = None

    def _patch(self) -> None:
        file = self._opened_file()
        offset, size = self._operand(), self._operand()
        if self._source is None:
            fail(self._name(), "a source for the patch", "none")
        apply_patch(self._payload(offset, size), self._source, file.left_bytes, self._emit)
