"""From what users type for an ID to the one thing that it means: the rule of `repository.names.short_ids`.

Images, commits, manifests, configs and layers are found by the rooms that store them, with names first; what
has no names, or may be of several kinds, is found here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, RefNotFoundError
from cfsctl.repository.names.names import parse_object_name, parse_short_object_id
from cfsctl.repository.names.short_ids import choose_id
from cfsctl.repository.names.short_ids import parse_short_id as parse_short_id  # noqa: PLC0414 - exported from here

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.repository import Repository


_HINT: Final = "`cfsctl image-objects IMAGE` lists the objects of an image"


def find_object(repository: Repository, text: str) -> ObjectID:
    """Return the object that a user means; a whole ID need not exist.

    Args:
        repository: Where it is.
        text: Its ID, a prefix of one, or a path that ends in ``xx/rest``.

    Raises:
        InvalidNameError: None of them, or of another hash.
        RefNotFoundError: No object has an ID with this prefix.
        AmbiguousIdError: It is a prefix of more than one ID.
    """
    algorithm = repository.algorithm
    digits = parse_short_object_id(text, algorithm)
    if digits is None or len(digits) == 2 * algorithm.digest_size:
        return _parse(text, algorithm)
    objects = {object_id.hex(): object_id for object_id in repository.objects.find_beginning(digits)}
    found = choose_id(digits, objects, "object ID")
    if found is None:
        raise RefNotFoundError(
            f"object {text}: no object of this repository has an ID with this prefix", hint=_HINT
        )
    return objects[found]


def _parse(text: str, algorithm: Algorithm) -> ObjectID:
    try:
        return parse_object_name(text.removeprefix("@"), algorithm)
    except CfsError as error:
        error.hint = error.hint or _HINT
        raise
