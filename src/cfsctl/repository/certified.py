"""Streams whose names certify their content, so that the content must be verified before they are named.

    oci-layer-sha256:<hex>    the reassembled stream has this SHA-256
    ostree-commit-<hex>       see `cfsctl.ostree.store.commit_proof`; not copied as a stream

Readers of such a name trust it without a check, so a stream from another repository must not get the name
unless its content matches. Everything that it refers to must be verified as well. A named reference with a
checksum leads to a stream with that content; any other reference, such as an image, is not covered by the
checksum.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from cfsctl.digest import object_path
from cfsctl.errors import CfsError, IntegrityError

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.repository.repository import Repository

_CHECKSUM: Final = re.compile(r"(sha256|sha512):([0-9a-f]+)\Z")
_COMMIT: Final = re.compile(r"ostree-(commit|partial)-[0-9a-f]{64}\Z")
_MAX_STREAMS: Final = 10_000
"""Streams that are looked at to prove one; an image of a container has some dozens of layers."""


class UncertifiedStreamError(IntegrityError):
    """A stream that may not have the name that it should get."""


def check_kind(name: str) -> None:
    """Check that a name is not that of a commit, which is proven in another way.

    Raises:
        UncertifiedStreamError: It is.
    """
    if _COMMIT.match(name):
        raise UncertifiedStreamError(
            f"stream {name}: expected a stream other than a commit", hint="copy the commit by its ID"
        )


def check_certified(repository: Repository, name: str, object_id: ObjectID) -> None:
    """Check that a stored stream may have a name.

    Args:
        repository: Where the stream is, with everything it needs; the name may be there as well.
        name: The content identifier.
        object_id: The splitstream object.

    Raises:
        UncertifiedStreamError: The name says that it has another content, or belongs to another stream.
        IntegrityError: An object is missing, or damaged.
    """
    check_kind(name)
    link = repository.streams.links.read_entry(name)
    if link is not None and link.endswith(object_path(object_id)):
        return
    problem = _find_problem(repository, name, object_id)
    if problem:
        raise UncertifiedStreamError(
            f"stream {name}: {problem}", hint="import it again from its origin, which verifies it"
        )
    if link is not None and _CHECKSUM.search(name) is None:
        raise UncertifiedStreamError(
            f"stream {name}: {repository.path} has another stream of this name",
            hint="remove its refs there and collect garbage, if it is not needed",
        )


def is_certified(repository: Repository, name: str, object_id: ObjectID) -> bool:
    """Return whether a name is a checksum, and proves what a stored stream holds and leads to."""
    if _CHECKSUM.search(name) is None or _COMMIT.match(name):
        return False
    try:
        return not _find_problem(repository, name, object_id)
    except (CfsError, OSError):
        return False


def _find_problem(repository: Repository, name: str, object_id: ObjectID) -> str:
    """Return why a stream may not have a name, or nothing."""
    if _CHECKSUM.search(name) is None:
        return ""
    pending = [(name, object_id)]
    seen: set[tuple[str, ObjectID]] = set()
    while pending and len(seen) < _MAX_STREAMS:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        match = _CHECKSUM.search(current[0])
        if match is None:
            return f"nothing proves what it names {current[0]!r}"
        actual, named = _read(repository, current[1], match[1])
        if named is None:
            return f"{current[0]!r} leads to something without saying what it is"
        if actual != match[2]:
            return f"expected the content {match[0]} as {current[0]!r}, found {actual}"
        pending += named
    return "" if not pending else f"it leads to more than {_MAX_STREAMS} streams"


def _read(
    repository: Repository, object_id: ObjectID, hash_name: str
) -> tuple[str, list[tuple[str, ObjectID]] | None]:
    """Return the checksum of a stream's content, and its named references; None if some have no name."""
    digest = hashlib.new(hash_name)
    with repository.streams.open_object(object_id) as stream:
        stream.cat(digest.update, repository.objects.open)
        named = stream.named_refs
        is_named = set(stream.stream_refs) <= set(named.values())
        return digest.hexdigest(), sorted(named.items()) if is_named else None
