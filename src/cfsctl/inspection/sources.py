"""Find the tree that a user names.

A prefix may say what a name means: ``dir:``, ``image:``, ``dump:`` or ``commit:``. Without a prefix, an
existing path is read as a directory, image or dump, and any other name is looked up in the repository, among
images and the streams that hold trees (`cfsctl.kinds`).
"""

from __future__ import annotations

import io
import os
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import COMPOSEFS_MAGIC
from cfsctl.errors import CfsError, ExitCode, RepositoryError
from cfsctl.kinds.registry import find_by_prefix, stream_kinds
from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.inputs import open_input
from cfsctl.repository.names.short_ids import AmbiguousIdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.kinds.kind import Reading, StoredTree, StreamKind
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem


class SourceError(CfsError):
    """A name that leads to nothing, to too much, or to something that is not a tree."""

    exit_code = ExitCode.NOT_FOUND


class SourceMismatchError(CfsError):
    """Sources whose objects are named by different hashes."""

    exit_code = ExitCode.INVALID_DATA


@dataclass(slots=True)
class TreeInput(ABC):
    """Something that a tree can be read from.

    Attributes:
        name: What the user called it, without the prefix.
        notes: What the user should know about how it was read.
    """

    name: str
    notes: list[str] = field(default_factory=list, init=False)

    @property
    @abstractmethod
    def description(self) -> str:
        """What it is, and its name."""

    @abstractmethod
    def find_algorithm(self) -> Algorithm | None:
        """Return the hash of the objects in it; None if any will do."""

    @abstractmethod
    def read(self, algorithm: Algorithm) -> FileSystem:
        """Return the tree, with objects named by a hash.

        Raises:
            CfsError: It cannot be read as what it is.
            OSError: It cannot be read.
        """


@dataclass(slots=True)
class DirectorySource(TreeInput):
    """A directory on disk."""

    reading: Reading

    @property
    def description(self) -> str:
        """What it is, and its name."""
        return f"directory {self.name}"

    def find_algorithm(self) -> Algorithm | None:
        """Return None: any hash will do."""
        return None

    def read(self, algorithm: Algorithm) -> FileSystem:
        """Scan it; as create-image does if that is wanted and there is a ``/usr``."""
        from cfsctl.scan import scan_container_root  # only where a directory is named

        propagate_usr = self.reading.propagate_usr
        if propagate_usr and not os.path.isdir(os.path.join(self.name, "usr")):
            propagate_usr = False
            self.notes.append(f"{self.name} has no /usr and is taken as it is")
        return scan_container_root(
            self.name,
            algorithm=algorithm,
            xattr_filter=self.reading.xattr_filter,
            propagate_usr=propagate_usr,
            reporter=self.reading.reporter,
        )


@dataclass(slots=True)
class ImageFileSource(TreeInput):
    """An image in a file."""

    data: bytes

    @property
    def description(self) -> str:
        """What it is, and its name."""
        return f"image {self.name}"

    def find_algorithm(self) -> Algorithm | None:
        """Return the hash that the image was made for."""
        from cfsctl.erofs.read.tree import find_algorithm  # only where an image is named

        return find_algorithm(self.data)

    def read(self, algorithm: Algorithm) -> FileSystem:
        """Read the image."""
        from cfsctl.erofs.read.tree import read_image  # only where an image is named

        return read_image(self.data, algorithm)


@dataclass(slots=True)
class DumpSource(TreeInput):
    """A dump in a file."""

    lines: bytes

    @property
    def description(self) -> str:
        """What it is, and its name."""
        return f"dump {self.name}"

    def find_algorithm(self) -> Algorithm | None:
        """Return the hash of the first digest in it."""
        start = 0
        while start < len(self.lines):  # cutting all of it into lines would take as much memory again
            end = self.lines.find(b"\n", start)
            line = self.lines[start : end if end >= 0 else None]
            start = end + 1 if end >= 0 else len(self.lines)
            fields = line.split(b" ", _DIGEST_FIELD + 1)
            if len(fields) > _DIGEST_FIELD and len(fields[_DIGEST_FIELD]) in _DIGEST_LENGTHS:
                return _DIGEST_LENGTHS[len(fields[_DIGEST_FIELD])]
        return None

    def read(self, algorithm: Algorithm) -> FileSystem:
        """Parse the dump."""
        from io import BytesIO  # only where a dump is named

        from cfsctl.dumpfile import parse_dump

        return parse_dump(BytesIO(self.lines), algorithm)


_DIGEST_FIELD: Final = 10
_DIGEST_LENGTHS: Final = {2 * algorithm.digest_size: algorithm for algorithm in Algorithm}


@dataclass(slots=True)
class StoredImageSource(TreeInput):
    """An image in the repository."""

    repository: Repository

    @property
    def description(self) -> str:
        """What it is, and its name."""
        return f"image {self.name}"

    def find_algorithm(self) -> Algorithm | None:
        """Return the hash of the repository."""
        return self.repository.algorithm

    def read(self, algorithm: Algorithm) -> FileSystem:
        """Read the image."""
        from cfsctl.erofs.read.tree import read_image  # only where an image is named

        with self.repository.images.map(self.name) as data:
            return read_image(data, algorithm)


@dataclass(slots=True)
class StreamSource(TreeInput):
    """A tree that a stream in the repository holds."""

    repository: Repository
    noun: str
    tree: StoredTree
    reading: Reading

    @property
    def description(self) -> str:
        """What it is, and its name."""
        return f"{self.noun} {self.name}"

    def find_algorithm(self) -> Algorithm | None:
        """Return the hash of the repository."""
        return self.repository.algorithm

    def read(self, algorithm: Algorithm) -> FileSystem:
        """Read the tree as its kind of stream does."""
        self._check(algorithm)
        return self.tree.read(self.reading, self.notes.append)

    def iter_others(self, algorithm: Algorithm) -> Iterator[tuple[str, FileSystem]]:
        """Yield the other trees that it may be read as, each with what is different."""
        self._check(algorithm)
        return self.tree.iter_others(self.notes.append)

    def _check(self, algorithm: Algorithm) -> None:
        if algorithm is not self.repository.algorithm:
            raise _mismatch([self])


class SourceFinder:
    """Finds what names stand for."""

    def __init__(self, open_repository: Callable[[], Repository], reading: Reading) -> None:
        """Open nothing yet.

        Args:
            open_repository: Returns the repository, always the same one; called only for names that are
                not found outside.
            reading: How sources are read.
        """
        self._open_repository = open_repository
        self._reading = reading

    def find(self, text: str) -> TreeInput:
        """Return the source that a user means.

        Raises:
            SourceError: None exists, or more than one.
            CfsError: An image or dump cannot be read as such, or the repository cannot be opened.
            OSError: A file cannot be read.
        """
        prefix, colon, name = text.partition(":")
        if colon and prefix in _PREFIXES:
            return _PREFIXES[prefix](self, name)
        kind = find_by_prefix(prefix) if colon else None
        return self._guess(text) if kind is None else self.find_stream(kind, name)

    def find_directory(self, name: str) -> TreeInput:
        """Return a directory."""
        return DirectorySource(name, self._reading)

    def find_dump(self, name: str) -> TreeInput:
        """Return a dump in a file; ``-`` is standard input."""
        if name == "-":
            with relative_to("standard input"), open(0, "rb", closefd=False) as file:
                return DumpSource(name, _read_dump(file, name))
        with open(open_input(name), "rb") as file:
            return DumpSource(name, _read_dump(file, name))

    def find_image(self, name: str) -> TreeInput:
        """Return an image: a file if there is one of that name, else one of the repository."""
        if os.path.lexists(name):
            with open(open_input(name), "rb", buffering=0) as file:
                return ImageFileSource(name, _load_image(file.fileno()))
        repository = self._open_repository()
        if repository.images.find(name) is None:
            raise SourceError(f"image not found: {name}")
        return StoredImageSource(name, repository)

    def find_stream(self, kind: StreamKind, name: str) -> TreeInput:
        """Return what a stream of a kind holds, by any name that the kind knows."""
        repository = self._open_repository()
        return StreamSource(name, repository, kind.noun, kind.find_tree(repository, name), self._reading)

    def _guess(self, name: str) -> TreeInput:
        try:
            mode = os.stat(name).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return self._find_in_repository(name)
        if stat.S_ISDIR(mode):
            return self.find_directory(name)
        with open(open_input(name), "rb", buffering=0) as file:
            start = os.read(file.fileno(), _SNIFFED_BYTES)
            if start[:4] == COMPOSEFS_MAGIC.to_bytes(4, "little"):
                return ImageFileSource(name, _load_image(file.fileno(), start))
            if start[:1] == b"/":
                return DumpSource(name, _read_dump(file, name, start))
        raise SourceError(f"{name}: expected a directory, an image or a dump, found none of them")

    def _find_in_repository(self, name: str) -> TreeInput:
        """Return the only image or stream that a name may mean."""
        try:
            repository = self._open_repository()
        except CfsError as error:
            raise SourceError(f"{name}: no such file, and no repository to look in ({error})") from error
        kinds = [kind for kind in stream_kinds() if kind.tree_prefix]
        found: dict[str, TreeInput] = {}
        ambiguous: list[AmbiguousIdError] = []
        finders: dict[str, Callable[[str], TreeInput]] = {"image": self.find_image}
        finders |= {kind.noun: partial(self.find_stream, kind) for kind in kinds}
        for noun, find in finders.items():
            try:
                found[noun] = find(name)
            except AmbiguousIdError as error:
                ambiguous.append(error)
            except (RepositoryError, SourceError):
                continue
        if ambiguous:
            raise ambiguous[0]
        if not found:
            nouns = _join(["image", *(kind.noun for kind in kinds)], "or")
            ways = ", ".join(
                ["an image is named by ref or ID", *(f"a {k.noun} by {k.named_by}" for k in kinds)]
            )
            raise SourceError(
                f"{name}: no such file, and no {nouns} of that name in {repository.path}", hint=ways
            )
        if len(found) > 1:
            named = {"image": "image:"} | {kind.noun: f"{kind.tree_prefix}:" for kind in kinds}
            prefixes = [named[noun] for noun in found]
            raise SourceError(
                f"{name}: there are {_join([_with_article(noun) for noun in found], 'and')} of that name",
                hint=f"say {_join(prefixes, 'or')} before it",
            )
        return next(iter(found.values()))


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def _join(words: list[str], last: str) -> str:
    """Return words as a list in a sentence."""
    return f" {last} ".join([*([", ".join(words[:-1])] if words[:-1] else []), words[-1]])


_PREFIXES: Final[dict[str, Callable[[SourceFinder, str], TreeInput]]] = {
    "dir": SourceFinder.find_directory,
    "image": SourceFinder.find_image,
    "dump": SourceFinder.find_dump,
}


class _Readable(Protocol):
    """What can be read piece by piece."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""


_MAX_DUMP_BYTES: Final = 128 << 20
"""Bytes of a dump that is compared: some 700,000 lines. All of it is in memory, and its tree besides."""


def _read_dump(file: _Readable, name: str, start: bytes = b"") -> bytes:
    """Return the rest of a dump, which ends early where it cannot be one."""
    text = io.BytesIO()  # Grows in place; joining a list would hold everything twice.
    data = start
    while True:
        text.write(data)
        if text.tell() > _MAX_DUMP_BYTES:
            raise SourceError(f"dump {name}: expected at most {_MAX_DUMP_BYTES} bytes, found more")
        # The root comes first, perhaps with its slash escaped. What is wrong, the parser says.
        if b"\0" in data or (text.tell() > 1 and not bytes(text.getbuffer()[:2]).startswith((b"/ ", b"\\"))):
            break
        data = file.read(1 << 20)
        if not data:
            break
    return text.getvalue()


_SNIFFED_BYTES: Final = 1024


def _load_image(fd: int, start: bytes = b"") -> bytes:
    from cfsctl.erofs.inspect import load_image  # only where an image is named

    return load_image(fd, start)


def common_algorithm(sources: Iterable[TreeInput], preferred: Algorithm | None) -> Algorithm:
    """Return the hash that all sources can be read with.

    Args:
        sources: The sources.
        preferred: The hash to take where any will do; SHA-512 if None.

    Raises:
        SourceMismatchError: They name their objects by different hashes.
    """
    sources = list(sources)
    demanded = {found for source in sources if (found := source.find_algorithm()) is not None}
    if len(demanded) > 1:
        raise _mismatch(sources)
    return demanded.pop() if demanded else preferred or Algorithm.SHA512


def check_algorithm(source: TreeInput, algorithm: Algorithm) -> None:
    """Refuse a source whose objects are named by another hash.

    Raises:
        SourceMismatchError: They are.
    """
    found = source.find_algorithm()
    if found is not None and found is not algorithm:
        raise SourceMismatchError(
            f"{source.description} names objects by {found.hash_name}, expected {algorithm.hash_name}"
        )


def _mismatch(sources: Iterable[TreeInput]) -> SourceMismatchError:
    hashes = [
        f"{source.description} by {found.hash_name}"
        for source in sources
        if (found := source.find_algorithm()) is not None
    ]
    return SourceMismatchError(
        f"contents cannot be compared: objects are named in {', in '.join(hashes)}",
        hint="make both with the same hash",
    )
