"""What a tag was set under, kept next to it: a file for each tag that anything was demanded of.

    .cfsctl-tag-demands/<SHA-256 of the tag>      JSON, see `format_demand`

A tag without a file was set under nothing, or by a program that keeps none; then the record of the commit
that it names says whether signatures were demanded. A file can also say that nothing was, of a tag that
names a commit which was verified for another one. Files of tags that are gone say nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import IntegrityError
from cfsctl.json_fields import JsonError, JsonFields, parse_object
from cfsctl.linux.files import (
    AnonymousFile,
    fsync_directory,
    make_directory,
    open_regular,
    read_all,
    write_all,
)
from cfsctl.linux.flags import DIRECTORY_FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.repository import Repository

    Key = tuple[str, str]

DEMANDS: Final = ".cfsctl-tag-demands"

_MAX_BYTES: Final = 1 << 20
_MAX_KEYS: Final = 4096
"""Keys that are noted of one kind; more say no more about who may move the tag."""


class TagDemandError(IntegrityError):
    """What is kept of a tag's demand cannot be read."""


class TagDemand(NamedTuple):
    """What was demanded when a tag was set.

    Attributes:
        commits: Engines and keys of the signatures of the commit, or None if none was demanded.
        summaries: The keys that counted for the summary, or None if no signature of it was demanded.
        collection_id: The collection that commits had to be bound to, or None.
    """

    commits: frozenset[Key] | None = None
    summaries: frozenset[Key] | None = None
    collection_id: str | None = None

    def or_else(self, other: TagDemand) -> TagDemand:
        """Return the demand with what another one has of those kinds that it lacks."""
        return TagDemand(
            other.commits if self.commits is None else self.commits,
            other.summaries if self.summaries is None else self.summaries,
            self.collection_id or other.collection_id,
        )


NO_DEMAND: Final = TagDemand()


def read_demand(repository: Repository, tag: str) -> TagDemand | None:
    """Return what is kept of a tag's demand, or None if nothing is.

    Raises:
        TagDemandError: It cannot be read.
    """
    what = f"{DEMANDS}, tag '{tag}'"
    try:
        data = _read(repository.dirfd, _file_name(tag))
        return None if data is None else _parse(data, what)
    except OSError as error:
        raise TagDemandError(f"{what}: {error.strerror}") from error
    except JsonError as error:
        raise TagDemandError(str(error)) from error


def save_demand(repository: Repository, tag: str, demand: TagDemand) -> None:
    """Keep a tag's demand, in place of what was kept before; it is durable then.

    Raises:
        OSError: It could not be written; the previous requirements are unchanged.
    """
    with contextlib.suppress(FileExistsError):
        make_directory(DEMANDS, 0o755, repository.dirfd)
        fsync_directory(repository.dirfd)
    with _open_directory(repository.dirfd) as directory, AnonymousFile(directory) as file:
        write_all(file.fd, format_demand(tag, demand))
        os.fsync(file.fd)
        file.replace(directory, _file_name(tag))
        fsync_directory(directory)


def drop_demand(repository: Repository, tag: str) -> None:
    """Forget a tag's demand; harmless if none exists."""
    with contextlib.suppress(FileNotFoundError), _open_directory(repository.dirfd) as directory:
        os.unlink(_file_name(tag), dir_fd=directory)


def keep_demands(repository: Repository, tags: Iterable[str]) -> None:
    """Remove the requirements of all other tags; the caller must hold the exclusive lock."""
    names = {_file_name(tag) for tag in tags}
    with contextlib.suppress(FileNotFoundError), _open_directory(repository.dirfd) as directory:
        for name in set(os.listdir(directory)) - names:
            with contextlib.suppress(IsADirectoryError):
                os.unlink(name, dir_fd=directory)


def format_demand(tag: str, demand: TagDemand) -> bytes:
    """Return the content of a tag's file."""
    document = {
        "tag": tag.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        "commits": _format_keys(demand.commits),
        "summaries": _format_keys(demand.summaries),
        "collection_id": demand.collection_id,
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _format_keys(keys: frozenset[Key] | None) -> list[dict[str, str]] | None:
    if keys is None:
        return None
    return [{"engine": engine, "key": key} for engine, key in sorted(keys)[:_MAX_KEYS]]


def _parse(data: bytes, what: str) -> TagDemand:
    fields = parse_object(data, what)
    return TagDemand(
        _parse_keys(fields, "commits"), _parse_keys(fields, "summaries"), fields.find_string("collection_id")
    )


def _parse_keys(fields: JsonFields, name: str) -> frozenset[Key] | None:
    if fields.find_list(name) is None:
        return None
    entries = fields.get_list_of_fields(name)
    return frozenset((entry.get_string("engine"), entry.get_string("key")) for entry in entries)


def _file_name(tag: str) -> str:
    import hashlib  # takes longer to load than listing tags

    return hashlib.sha256(os.fsencode(tag)).hexdigest()


@contextlib.contextmanager
def _open_directory(dirfd: int) -> Iterator[int]:
    directory = os.open(DEMANDS, DIRECTORY_FLAGS, dir_fd=dirfd)
    try:
        yield directory
    finally:
        os.close(directory)


def _read(dirfd: int, name: str) -> bytes | None:
    """Return the content of a file of the directory, or None if none exists."""
    try:
        with _open_directory(dirfd) as directory:
            fd = open_regular(directory, name)
    except FileNotFoundError:
        return None
    try:
        return read_all(fd, _MAX_BYTES)
    finally:
        os.close(fd)
