"""Check the links of a repository, and what the streams and images behind them refer to."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from cfsctl.digest import qualified
from cfsctl.errors import CfsError, FormatError, describe
from cfsctl.repository.check.objects import describe_errno, make_check_failure
from cfsctl.repository.check.report import Tally
from cfsctl.repository.names.images import map_file
from cfsctl.repository.names.names import (
    find_entry_in,
    find_object_in,
    object_link_text,
    parse_object_link,
    ref_link_text,
)
from cfsctl.repository.names.safe_paths import BlockedNameError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cfsctl.digest import ObjectID
    from cfsctl.erofs.format import ImageBuffer
    from cfsctl.repository.names.links import Found, LinkDirectory
    from cfsctl.repository.objects.store import ObjectStore
    from cfsctl.repository.repository import Repository
    from cfsctl.splitstream import SplitstreamReader

_MAX_SEEN: Final = 1 << 16
"""Objects that are remembered to be there, in some 10 MB."""

_TYPE_WORDS: Final = {
    stat.S_IFREG: "RegularFile",
    stat.S_IFIFO: "Fifo",
    stat.S_IFSOCK: "Socket",
    stat.S_IFCHR: "CharacterDevice",
    stat.S_IFBLK: "BlockDevice",
}


class ContentCheck(Protocol):
    """Checks the contents of streams of one content type; implemented by the code for that type."""

    def __call__(self, reader: SplitstreamReader, name: str, /) -> Iterable[str]:
        """Yield what is wrong with the content of the stream called `name`."""


ContentChecks: TypeAlias = "Mapping[int | None, ContentCheck]"
"""What to do with streams, by content type; None is for all types that are not named."""


class _Inspect(Protocol):
    """Looks into what an entry leads to."""

    def __call__(self, fd: int, path: str, tally: Tally, /) -> None: ...


class LinkChecker:
    """Checks one category."""

    def __init__(self, repository: Repository, category: LinkDirectory, *, is_deep: bool) -> None:
        """Prepare; nothing is read yet."""
        self._category = category
        self._objects: ObjectStore = repository.objects
        self._algorithm = repository.algorithm
        self._is_deep = is_deep

    def check(self, inspect: _Inspect) -> Tally:
        """Check entries, what is behind them, and refs.

        Raises:
            CheckFailedError: A directory cannot be read.
        """
        tally = Tally()
        try:
            for found in self._category.iter_entries():
                tally.count(self._category.name)
                self._check_entry(found, inspect, tally)
            for found in self._category.iter_refs_tree():
                self._check_ref(found, tally)
        except BlockedNameError as error:
            raise make_check_failure(f"checking {self._category.name}: {error}", error) from error
        except PermissionError as error:
            message = f"checking {self._category.name}: {error.filename}: {error.strerror}"
            raise make_check_failure(message, error) from error
        return tally

    def _check_entry(self, found: Found, inspect: _Inspect, tally: Tally) -> None:
        kind = self._category.name
        path = f"{kind}/{_show(found.path)}"
        if found.text is None:
            tally.find(f"entry-not-symlink: {path}", corrupts=kind)
            return
        try:
            with self._category.open_entry(found.path) as fd:
                inspect(fd, path, tally)
        except FileNotFoundError:
            tally.broken_links += 1
            tally.find(f"broken-symlink: {path}", corrupts=kind)
            self._note_unreadable(found.path, tally)
            object_id = find_object_in(found.text, self._algorithm)
            if object_id is not None and not self._objects.contains(object_id):
                tally.missing.add(object_id)
        except OSError as error:
            self._note_unopened(path, error, tally)
        if self._is_deep:
            self._check_entry_text(found.path, found.text, tally)

    def _note_unreadable(self, entry: str | None, tally: Tally) -> None:
        if entry is not None and self._category.name == "streams":
            tally.unreadable_streams.add(entry)

    def _note_unopened(self, path: str, error: OSError, tally: Tally) -> None:
        if error.errno == errno.ELOOP:
            tally.find(f"stat-failed: {path}: {describe_errno(error)}")
            return
        kind = self._category.name
        reason = _explain(error)
        tally.find(f"{kind.removesuffix('s')}-open-failed: {path}: {reason}", corrupts=kind)

    def _check_entry_text(self, name: str, text: str, tally: Tally) -> None:
        object_id = parse_object_link(text, self._algorithm)
        path = f"{self._category.name}/{_show(name)}"
        if object_id is None or text != object_link_text(object_id):
            tally.find(f"link-text-wrong: {path}: expected a link to an object, found {_show(text)}")
        elif self._category.name == "images" and object_id.hex() != name:
            tally.find(f"link-text-wrong: {path}: links to another object, {object_id.hex()}")

    def _check_ref(self, found: Found, tally: Tally) -> None:
        path = f"{self._category.name}/refs/{_show(found.path)}"
        if found.text is None:
            word = _TYPE_WORDS.get(found.kind, "Unknown")
            tally.find(f"unexpected-file-type: {path}: {word}")
            return
        try:
            self._category.follow_ref(found.path)
        except FileNotFoundError:
            tally.broken_links += 1
            tally.find(f"broken-symlink: {path}")
            self._note_unreadable(find_entry_in(found.text), tally)
            return
        except OSError as error:
            tally.find(f"stat-failed: {path}: {_explain(error)}")
            return
        if self._is_deep:
            self._check_ref_text(path, found, tally)

    def _check_ref_text(self, path: str, found: Found, tally: Tally) -> None:
        text = found.text or ""
        entry = text.rpartition("/")[2]
        if text != ref_link_text(found.path, entry):
            kind = self._category.name
            tally.find(f"link-text-wrong: {path}: expected a link to an entry of {kind}, found {_show(text)}")


def _explain(error: OSError) -> str:
    """Return why a link leads to nothing that could be checked."""
    is_ours = error.errno in {errno.EINVAL, errno.EXDEV}  # found by looking and not by opening
    return str(error.strerror) if is_ours else describe_errno(error)


class _SeenObjects:
    """Remembers objects that are there, since streams and images of one repository name many in common.

    During a check nothing removes objects, which would need the exclusive lock. Memory has a bound: the
    objects of a large stream are looked for together and not remembered.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._seen: set[ObjectID] = set()

    def find_missing(self, object_ids: Collection[ObjectID]) -> list[ObjectID]:
        """Return which of the objects have no file, sorted."""
        if len(object_ids) > _MAX_SEEN:
            return self._objects.find_missing(object_ids)
        unknown = set(object_ids).difference(self._seen)
        missing = self._objects.find_missing(unknown) if unknown else []
        if len(self._seen) + len(unknown) > _MAX_SEEN:
            self._seen.clear()
        self._seen.update(unknown.difference(missing))
        return missing


class StreamInspector:
    """Looks into splitstreams: tables and meaning always, all content in a deep check."""

    def __init__(
        self, repository: Repository, *, is_deep: bool, content_checks: ContentChecks | None = None
    ) -> None:
        """Prepare; nothing is read yet."""
        self._content_checks = content_checks or {}
        self._objects = repository.objects
        self._seen = _SeenObjects(repository.objects)
        self._algorithm = repository.algorithm
        self._is_deep = is_deep

    def __call__(self, fd: int, path: str, tally: Tally) -> None:
        """Check one stream through a descriptor, which stays open."""
        from cfsctl.splitstream import SplitstreamReader  # brings the decompressor along

        name = path.partition("/")[2]
        try:
            reader = SplitstreamReader(os.dup(fd), self._algorithm)
        except (CfsError, OSError) as error:
            text = f"stream-open-failed: {path}: Opening stream '{name}': {describe(error)}"
            tally.find(text, corrupts="streams")
            tally.unreadable_streams.add(name)
            return
        with reader:
            for object_id in self._seen.find_missing(reader.object_refs):
                tally.miss(object_id, f"missing-object-ref: {path}: {object_id.hex()}")
            for ref_name, object_id in sorted(reader.named_refs.items()):
                if not self._objects.contains(object_id):
                    text = f"missing-named-ref: {path}: ref {_show(ref_name)}: {object_id.hex()}"
                    tally.miss(object_id, text)
            if self._is_deep:
                self._check_content(reader, path, tally)
            else:
                self._check_meaning(reader, path, tally)

    def _check_content(self, reader: SplitstreamReader, path: str, tally: Tally) -> None:
        try:
            reader.check(self._size_of)
        except _MissingChunkError:
            return  # reported above
        except (CfsError, OSError) as error:
            tally.find(f"stream-read-failed: {path}: {describe(error)}", corrupts="streams")
            tally.unreadable_streams.add(path.partition("/")[2])
        else:
            self._check_meaning(reader, path, tally)
        for oddity in reader.find_irregularities():
            tally.find(f"stream-irregular: {path}: {oddity}")

    def _check_meaning(self, reader: SplitstreamReader, path: str, tally: Tally) -> None:
        check = self._content_checks.get(reader.content_type) or self._content_checks.get(None)
        problems = [] if check is None else list(check(reader, path.partition("/")[2]))
        for problem in problems:
            tally.find(f"stream-content-invalid: {path}: {problem}")
        if problems:
            tally.corrupted["streams"] = tally.corrupted.get("streams", 0) + 1
            tally.unreadable_streams.add(path.partition("/")[2])

    def _size_of(self, object_id: ObjectID) -> int:
        status = self._objects.stat(object_id)
        if status is None:
            raise _MissingChunkError(f"object {qualified(object_id)} is missing")
        return status.st_size


class _MissingChunkError(Exception):
    """An object of a stream is missing, so its content cannot be checked."""


class ImageInspector:
    """Looks into images: the objects they name always, every detail in a deep check."""

    def __init__(self, repository: Repository, *, is_deep: bool) -> None:
        """Prepare; nothing is read yet."""
        self._objects = _SeenObjects(repository.objects)
        self._algorithm = repository.algorithm
        self._is_deep = is_deep

    def __call__(self, fd: int, path: str, tally: Tally) -> None:
        """Check one image through a descriptor, which stays open."""
        try:
            with map_file(fd) as data:
                objects = self._collect(data)
        except FormatError as error:
            tally.find(f"image-invalid: {path}: {error}", corrupts="images")
            return
        except OSError as error:
            tally.find(f"image-read-failed: {path}: {describe_errno(error)}", corrupts="images")
            return
        for object_id in self._objects.find_missing(objects):
            tally.miss(object_id, f"image-missing-object: {path}: {object_id.hex()}")

    def _collect(self, data: ImageBuffer) -> set[ObjectID]:
        from cfsctl.erofs.read.attributes import WrongAlgorithmError  # only where images are
        from cfsctl.erofs.read.tree import check_image, collect_objects

        if self._is_deep:
            check_image(data, self._algorithm)
        try:
            return collect_objects(data, self._algorithm)
        except WrongAlgorithmError:
            return set()  # names objects of another repository; the original finds nothing wrong with it


def _show(name: str) -> str:
    """Return a name with U+FFFD for what is not valid in UTF-8."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "replace")
