"""Copy by name: an image, a name of one of the kinds of streams, or any other stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.digest import qualified
from cfsctl.errors import RefNotFoundError
from cfsctl.kinds.kind import Copyable, NamedCopy
from cfsctl.kinds.registry import find_claiming, stream_kinds
from cfsctl.progress import Message, silent
from cfsctl.repository import InvalidNameError
from cfsctl.repository.copying import copy_image, copy_stream
from cfsctl.repository.names.names import parse_image_name, parse_stream_name
from cfsctl.repository.names.short_ids import SHOWN_DIGITS, AmbiguousIdError

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


def copy_by_name(
    source: Repository,
    target: Repository,
    name: str,
    new_ref: str | None = None,
    reporter: Reporter = silent,
    *,
    allow_unverified: bool = False,
) -> NamedCopy:
    """Copy what has a name, with everything it needs.

    Args:
        source: Where it is.
        target: Where it goes.
        name: An image ID or ref, else what a kind of stream knows (a tag, an ID), else a content identifier.
        new_ref: The ref or tag for it in the target; None is the one that `name` is.
        reporter: Told about progress, and that nothing will name the copy.
        allow_unverified: Move a tag regardless of its requirements.

    Raises:
        RepositoryError: Nothing has that name, or more than one thing, or the ref cannot be one.
        FormatError, IntegrityError: Something is damaged, missing, or not what its name says.
        OSError: Reading or writing failed.
    """
    found = _find(source, name)
    ref = new_ref or found.ref
    if ref is None and found.needs_ref:
        reporter(Message("the next gc of the target removes the copy, because it has no ref; use --as"))
    return found.copy(target, ref, reporter, allow_unverified=allow_unverified)


def _find(source: Repository, name: str) -> Copyable:
    image = _find_image(source, name)
    if image is not None:
        return image
    short_image = _find_short_image(source, name)
    problem: RefNotFoundError | None = None
    for kind in stream_kinds():
        try:
            found = kind.find_copyable(source, name)
        except RefNotFoundError as error:
            problem = problem or error
        else:
            if found is not None:
                _check_only(name, found, short_image)
                return found
    if short_image is not None:
        return _Image(source, short_image, None)
    if source.streams.find(name) is None:
        entry = source.streams.find_short_entry(name)
        if entry is None:
            raise problem or RefNotFoundError(f"stream not found: {name}")
        name = entry
    return _find_stream(source, name)


def _find_short_image(source: Repository, name: str) -> ObjectID | None:
    try:
        return source.images.find_short(name)
    except InvalidNameError:
        return None


def _check_only(name: str, found: Copyable, image_id: ObjectID | None) -> None:
    """Refuse the beginning of an ID that something else has as well; a tag comes first."""
    if image_id is not None and found.ref != name:
        raise AmbiguousIdError(
            f"ambiguous ID '{name}': it matches the image {image_id.hex()[:SHOWN_DIGITS]} and something else",
            hint="type more digits",
        )


def _find_image(source: Repository, name: str) -> Copyable | None:
    try:
        entry, ref = parse_image_name(name, source.algorithm)
        image_id = source.images.find_named(name)
    except InvalidNameError:
        return None
    if image_id is None:
        return None
    return _Image(source, image_id, None if image_id.hex() == entry else ref)


def _find_stream(source: Repository, name: str) -> Copyable:
    entry, ref = parse_stream_name(name)
    if entry is None or source.streams.links.read_entry(entry) is None:
        assert ref is not None
        text = source.streams.links.read_ref(ref) or ""
        entry = text.rpartition("/")[2]
    else:
        ref = None
    kind = find_claiming(entry)
    # By a ref that is not one of the kind's tags: that is not taken over.
    found = None if kind is None else kind.find_copyable(source, entry)
    return found or _Stream(source, entry, ref)


class _Image(Copyable):
    """An image, with its files."""

    def __init__(self, source: Repository, image_id: ObjectID, ref: str | None) -> None:
        self._source = source
        self._image_id = image_id
        self.ref = ref

    def copy(
        self, target: Repository, ref: str | None, reporter: Reporter, *, allow_unverified: bool = False
    ) -> NamedCopy:
        del allow_unverified
        image = copy_image(self._source, target, self._image_id, ref, reporter)
        return NamedCopy({"image": qualified(image.object_id)}, ref, image.counts)


class _Stream(Copyable):
    """A stream that nothing special is known about."""

    def __init__(self, source: Repository, entry: str, ref: str | None) -> None:
        self._source = source
        self._entry = entry
        self.ref = ref

    def copy(
        self, target: Repository, ref: str | None, reporter: Reporter, *, allow_unverified: bool = False
    ) -> NamedCopy:
        del allow_unverified
        copied = copy_stream(self._source, target, self._entry, ref, reporter)
        return NamedCopy({"stream": qualified(copied.object_id)}, ref, copied.counts)
