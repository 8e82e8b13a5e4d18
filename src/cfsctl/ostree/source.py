"""The interface of a source that commits are pulled from, such as a directory or a server.

An `ObjectSource` resolves refs and returns objects as bytes. It does not verify them: checksums and structure
are checked by the plan (metadata) and the sink (content). It does limit its memory: metadata to
`MAX_METADATA_SIZE` of `objects`, content to one chunk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from cfsctl.digest import Checksum
from cfsctl.errors import CfsError, ExitCode, ObjectMissingError, RefNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.ostree.objects import ObjectKind

MAX_REF_FILE_BYTES = 256
"""Largest ref file; 64 digits and a newline are the rule."""

METADATA_IN_FLIGHT = 32
"""Metadata objects asked for at the same time."""

_CHECKSUM: Final = re.compile(rb"[0-9a-f]{64}")

_SHOWN_BYTES: Final = 40
"""Bytes of a ref file's content that an error shows."""

Imported = TypeVar("Imported")
Imported_co = TypeVar("Imported_co", covariant=True)


class SourceError(CfsError):
    """A source that does not have, or does not give, what a pull asks of it."""


def ref_not_found(name: str, where: str, *, hint: str | None = None) -> RefNotFoundError:
    """Return the error for a ref that a source does not have, from its name and the source's description."""
    return RefNotFoundError(f"ref '{name}' not found in {where}", hint=hint)


class InvalidRefError(SourceError):
    """A ref whose name cannot be one, or whose value is not a commit checksum."""

    exit_code = ExitCode.INVALID_DATA


class SourceObjectMissingError(ObjectMissingError, SourceError):
    """An object that the source should have and has not.

    Attributes:
        checksum: Name of the object.
        kind: Its kind.
    """

    exit_code = ExitCode.INVALID_DATA

    def __init__(self, checksum: Checksum, kind: ObjectKind, where: str, *, hint: str | None = None) -> None:
        """Compose the message from the object and the place where it was looked for."""
        super().__init__(f"{kind.label} object {checksum.hex()} is missing from {where}", hint=hint)
        self.checksum = checksum
        self.kind = kind


def check_ref_name(name: str) -> None:
    """Refuse what cannot be the name of a ref: it becomes a path, or a part of a URL.

    Raises:
        InvalidRefError: A name that is empty, has an empty component, ``.`` or ``..``, or a control
            character.
    """
    components = name.split("/")
    if any(component in {"", ".", ".."} for component in components) or not name.isprintable():
        raise InvalidRefError(f"{name!r} cannot be the name of a ref")


def parse_ref_file(data: bytes, ref: str, *, hint: str | None = None) -> Checksum:
    """Return the commit that the content of a ref file names; blanks and newlines at its end do not count.

    Args:
        data: The content.
        ref: The ref and where it is, for the message.
        hint: What may have gone wrong if it names none.

    Raises:
        InvalidRefError: It names none.
    """
    text = data.rstrip()
    if _CHECKSUM.fullmatch(text) is None:
        found = repr(text[:_SHOWN_BYTES])[1:] + ("..." if len(text) > _SHOWN_BYTES else "")
        raise InvalidRefError(f"{ref}: expected 64 lower-case hexadecimal digits, found {found}", hint=hint)
    return Checksum(bytes.fromhex(text.decode("ascii")))


class FileSink(Protocol[Imported_co]):
    """Takes the stored form of one content object (``.filez``) and turns it into what was imported.

    Exactly one of `finish` and `abort` is called last; after `abort` the sink is dead and a fresh one is
    made where a transfer starts again.
    """

    def write(self, chunk: bytes, /) -> None:
        """Process the next bytes; may raise, which ends the transfer and is passed on to the caller.

        A small object comes in one call. The chunk is the sink's to keep.
        """

    def finish(self) -> Imported_co:
        """Return what was imported, after the last byte; raises if the object is not whole or not right."""

    def abort(self) -> None:
        """Discard everything and release it; must not raise."""


class ContentSink(FileSink[Imported_co], Protocol[Imported_co]):
    """A sink that takes plain content as well."""

    def begin_plain(self, header: bytes, /) -> None:
        """Announce plain content instead of the stored form; must be called before the first `write`.

        Args:
            header: What an archive repository has in front of the deflated content.
        """

    def share(self, fd: int, size_bytes: int, /) -> bool:
        """Take all plain content from an open file by sharing its blocks, in place of `write`.

        Args:
            fd: The file, borrowed.
            size_bytes: Its size.

        Returns:
            False if that is not possible, or not worth it; the content is to be written then.
        """


class ObjectSource(Protocol):
    """A repository to pull from.

    Attributes:
        description: The place as the user knows it, for messages: a path or a URL without credentials.
    """

    @property
    def description(self) -> str:
        """Return the place as the user knows it."""

    def resolve_ref(self, name: str) -> Checksum:
        """Return the commit a ref stands for.

        Raises:
            RefNotFoundError: No such ref.
            InvalidRefError: No valid name, or the ref's value is not a checksum.
        """

    def fetch_metadata(
        self,
        request: Callable[[], tuple[Checksum, ObjectKind] | None],
        deliver: Callable[[Checksum, ObjectKind, bytes], None],
    ) -> None:
        """Fetch what `request` names until it has nothing and nothing is in flight.

        `request` is asked again after every `deliver`, which may make more wanted. Objects are delivered in
        the order in which they arrive. What `deliver` raises ends everything and is passed on.

        Raises:
            ObjectMissingError: The source has no such object.
        """

    def fetch_files(
        self, checksums: Iterable[Checksum], make_sink: Callable[[Checksum], ContentSink[Imported]]
    ) -> Iterator[Imported]:
        """Pass content objects through sinks and yield what their `finish` returns, in any order.

        `checksums` is read as far ahead as transfers are in flight. Usable in a forked worker: nothing
        that was opened in another process is used. Abandoning the iterator aborts every open sink.

        Raises:
            ObjectMissingError: The source has no such object.
        """

    def list_ref_names(self) -> list[str]:
        """Return the refs that the source offers, in its own order.

        Raises:
            SourceError: It has no list.
        """

    def find_detached(self, commit: Checksum) -> bytes | None:
        """Return the detached metadata of a commit, or None if it has none; it is not verified."""

    def explain_missing(self, commit: Checksum) -> str | None:
        """Return why the source itself holds a commit for incomplete, as a hint for people, or None."""

    def close(self) -> None:
        """Release connections and descriptors of this process.

        The source stays usable and opens what it needs again. To be called before a fork: a connection
        may come with threads, as libcurl's does while it looks up host names.
        """
