"""Fetching a stream from a repository that a web server has; nothing that the server says is believed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl.errors import RefNotFoundError
from cfsctl.kinds.kind import StreamKind
from cfsctl.kinds.registry import find_claiming, stream_kinds
from cfsctl.progress import silent
from cfsctl.repository.certified import UncertifiedStreamError, check_kind
from cfsctl.repository.served import ClosureFetch

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.copying import CopyCounts
    from cfsctl.repository.served import ServedRepository


_REFS: Final = "refs/"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedStream:
    """A stream that was fetched.

    Attributes:
        name: Its content identifier.
        stream_id: The splitstream object.
        content: SHA-256 of its content, hexadecimal.
        ref: The ref or tag that names it, or None.
        counts: What became of the objects that came from the server.
    """

    name: str
    stream_id: ObjectID
    content: str
    ref: str | None
    counts: CopyCounts


def fetch_by_name(
    repository: Repository,
    served: ServedRepository,
    name: str,
    ref: str | None = None,
    reporter: Reporter = silent,
) -> FetchedStream:
    """Fetch a stream with everything it needs, verify it, and name it.

    Args:
        repository: Where it goes.
        served: Where it is.
        name: A content identifier, or ``refs/`` and a ref.
        ref: The ref or tag to move to it; None is the one that `name` is, if it is one.
        reporter: Told about progress.

    Raises:
        InvalidNameError: The name cannot be one.
        FetchError: The server lacks something, or does not answer as it should.
        IntegrityError: Something is not what its name says; nothing was named.
        FormatError: Something is not valid.
        OSError: Something could not be stored.
    """
    repository.check_writable()
    _check_kind(name)
    entry, stream_id = served.find_stream(repository, name)
    if entry is not None:
        _check_kind(entry)
    if stream_id is None:
        stream_id = served.fetch_stream(repository, name)
    closure = ClosureFetch(repository, served, reporter)
    closure.run(stream_id)
    entry = entry or _identify(repository, stream_id, name)
    kind = find_claiming(entry) or StreamKind()
    if ref is None and name.startswith(_REFS):
        ref = kind.name_of_ref(name.removeprefix(_REFS))
    stream_id = kind.name_fetched(repository, entry, stream_id, ref, closure.images, reporter)
    digest = hashlib.sha256()
    with repository.streams.open_object(stream_id) as stream:
        stream.cat(digest.update, repository.objects.open)
    return FetchedStream(
        name=entry, stream_id=stream_id, content=digest.hexdigest(), ref=ref, counts=closure.counts
    )


def _check_kind(entry: str) -> None:
    try:
        check_kind(entry)
    except UncertifiedStreamError as error:
        error.hint = "commits come from OSTree repositories: see `cfsctl ostree pull`"
        raise


def _identify(repository: Repository, stream_id: ObjectID, name: str) -> str:
    with repository.streams.open_object(stream_id) as stream:
        content_type = stream.content_type
    for kind in stream_kinds():
        if content_type in kind.content_types and (found := kind.identify(repository, stream_id)) is not None:
            return found
    raise RefNotFoundError(
        f"{name}: the server does not say which stream this is", hint="fetch the stream by its own name"
    )
