"""Names that become paths below ``images`` and ``streams``, and the texts of the links there.

Every name that comes from outside passes through here before it is used, and before anything is
stored under it. There are three kinds:

* an *entry*: one component directly below the category, the hex ID of an image or the content
  identifier of a stream (``ostree-commit-<hex>``);
* a *ref*: one or more components below ``refs``;
* what a user types to name an image or a stream: `parse_image_name`, `parse_stream_name`.

A ref that a user makes must also be one that a user can reach (`check_new_ref`): it is not the spelling of an
ID, since that is looked up as one, and ``refs/`` before it is left out, as it is where names are read.

The original takes names as typed and so lets ``../../x`` out of the repository. What is harmless in it
is kept: a leading slash, ``//`` and ``/./`` collapse.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.digest import Algorithm, DigestFormatError, ObjectID, object_path, parse_hex, parse_object_path
from cfsctl.errors import ExitCode, RepositoryError
from cfsctl.repository.names.short_ids import parse_short_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

REFS: Final = "refs"
MAX_COMPONENT_BYTES: Final = 255
"""Longest name in one directory on every Linux file system (NAME_MAX)."""

MAX_NAME_BYTES: Final = 2048
"""Longest ref with all its components; leaves room for the rest of a path in PATH_MAX (4096)."""

MAX_DEPTH: Final = 64
"""Most components of a ref; each is a directory that is opened on the way."""

_QUALIFIED = re.compile(r"(sha256|sha512):(.*)", re.DOTALL)
_LOWER_HEX = re.compile(r"[0-9a-f]+\Z")
_LOOKS_LIKE_ID = re.compile(r"@?(?:(?:sha256|sha512):[0-9a-f]+|[0-9a-f]{64}|[0-9a-f]{128})", re.IGNORECASE)


class InvalidNameError(RepositoryError):
    """A name that must not become a path."""

    exit_code = ExitCode.INVALID_DATA


class Name(NamedTuple):
    """What a user's text stands for.

    Attributes:
        entry: Name directly below the category, or None.
        ref: Name below ``refs`` to try (after the entry, if there is one), or None.
    """

    entry: str | None
    ref: str | None


def _check_text(name: str, what: str) -> None:
    if "\0" in name:
        raise InvalidNameError(f"{what} {name!r} contains a NUL")
    try:
        size = len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise InvalidNameError(f"{what} {name!r} cannot be encoded as a file name") from None
    if size > MAX_NAME_BYTES:
        raise InvalidNameError(f"{what} has {size} bytes, at most {MAX_NAME_BYTES} are allowed")


def _check_component(part: str, name: str, what: str) -> None:
    if part in {"", ".", ".."}:
        raise InvalidNameError(
            f"{what} {name!r} contains the component {part!r}", hint="use a name such as web or os/42"
        )
    size = len(part.encode("utf-8", "surrogateescape"))
    if size > MAX_COMPONENT_BYTES:
        raise InvalidNameError(
            f"{what} {name!r}: a component has {size} bytes, at most {MAX_COMPONENT_BYTES} are allowed"
        )


def check_ref(name: str, what: str = "ref") -> str:
    """Return the path below ``refs`` that a ref has.

    Args:
        name: The ref as given.
        what: What the name is, for the message.

    Returns:
        One or more components with single slashes between them.

    Raises:
        InvalidNameError: The name is empty, ends in a slash, has a component ``..``, is too long, or
            contains what no file name can.
    """
    _check_text(name, what)
    parts = name.split("/")
    last = parts.pop()
    clean = [part for part in parts if part not in {"", "."}]
    clean.append(last)
    for part in clean:
        _check_component(part, name, what)
    if len(clean) > MAX_DEPTH:
        raise InvalidNameError(f"{what} has {len(clean)} components, at most {MAX_DEPTH} are allowed")
    return "/".join(clean)


def check_not_id(name: str, what: str = "name") -> str:
    """Return a name that a user gives to something, if it is not the spelling of an ID.

    Raises:
        InvalidNameError: It is: whoever types it would get what has this ID.
    """
    if _LOOKS_LIKE_ID.fullmatch(name):
        raise InvalidNameError(
            f"{what} {_shorten(name)!r} looks like an ID, which names what has that ID",
            hint="choose a name that is not a digest",
        )
    return name


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}..."


_MAX_SHOWN: Final = 24


def check_new_ref(name: str, what: str = "ref") -> str:
    """Return the path below ``refs`` of a ref that a user makes; ``refs/`` before it is left out.

    Raises:
        InvalidNameError: As `check_ref`, or no command could reach the ref by this name.
    """
    ref = _parse_ref(name, what)
    if ref == REFS or ref.startswith(f"{REFS}/"):
        raise InvalidNameError(
            f"{what} {name!r} begins with {REFS!r}, which is left out of names", hint="choose another name"
        )
    return check_not_id(ref, what)


def check_entry(name: str, what: str = "name") -> str:
    """Return `name` if it can stand directly below ``images`` or ``streams``.

    Raises:
        InvalidNameError: It is not a single component, or ``refs``, or too long.
    """
    _check_text(name, what)
    if "/" in name:
        raise InvalidNameError(f"{what} {name!r} contains a slash")
    _check_component(name, name, what)
    if name == REFS:
        raise InvalidNameError(f"{what} {name!r} is reserved")
    return name


def parse_image_name(text: str, algorithm: Algorithm) -> Name:
    """Return what an image name stands for; the beginning of an ID is for `parse_short_object_id`.

    Args:
        text: A hex ID, ``sha512:<hex>``, ``refs/<ref>`` or a ref.
        algorithm: Hash algorithm of the repository.

    Raises:
        InvalidNameError: None of them, or an ID of another algorithm.
    """
    match = _QUALIFIED.fullmatch(text)
    if match is not None and _LOWER_HEX.match(match[2]):
        if len(match[2]) < 2 * algorithm.digest_size and match[1] == algorithm.hash_name:
            return Name(None, None)
        return Name(_parse_qualified(match[1], match[2], algorithm).hex(), None)
    ref = _parse_ref(text, "image name")
    digits = text.removeprefix("@")
    if len(digits) == 2 * algorithm.digest_size and _LOWER_HEX.match(digits):
        return Name(digits, ref)
    return Name(None, ref)


def parse_short_object_id(text: str, algorithm: Algorithm) -> str | None:
    """Return the digits that a text gives for the beginning of an object's ID, or None for any other text.

    Raises:
        InvalidNameError: It says that they are of another hash than the repository's.
    """
    short = parse_short_id(text)
    if short is None or len(short.digits) > 2 * algorithm.digest_size:
        return None
    if short.hash_name not in {None, algorithm.hash_name}:
        raise _other_hash(f"{short.hash_name}:{short.digits[:12]}", algorithm, "ID")
    return short.digits


def parse_object_name(text: str, algorithm: Algorithm) -> ObjectID:
    """Return the object that a text names.

    Args:
        text: A hex ID, ``sha512:<hex>``, or a path that ends in ``xx/rest``.
        algorithm: Hash algorithm of the repository.

    Raises:
        InvalidNameError: None of them, or an ID of another algorithm.
    """
    match = _QUALIFIED.fullmatch(text)
    if match is not None:
        return _parse_qualified(match[1], match[2], algorithm, "object ID")
    object_id = find_object_in(text, algorithm)
    return (
        _parse_qualified(algorithm.hash_name, text, algorithm, "object ID")
        if object_id is None
        else object_id
    )


def _parse_qualified(hash_name: str, digits: str, algorithm: Algorithm, what: str = "image ID") -> ObjectID:
    if hash_name != algorithm.hash_name:
        raise _other_hash(f"{hash_name}:{digits[:12]}...", algorithm, what)
    try:
        return ObjectID(parse_hex(digits, algorithm.digest_size, what))
    except DigestFormatError as error:
        raise InvalidNameError(str(error)) from error


def _other_hash(shown: str, algorithm: Algorithm, what: str) -> InvalidNameError:
    return InvalidNameError(
        f"{what} {shown} is of another hash than the repository's ({algorithm.hash_name})"
    )


def _parse_ref(text: str, what: str) -> str:
    if text in {REFS, f"{REFS}/"}:
        raise InvalidNameError(f"{what} {text!r} is a directory")
    return check_ref(text.removeprefix(f"{REFS}/"), what)


def parse_stream_name(text: str) -> Name:
    """Return what a stream name stands for.

    Args:
        text: A content identifier, ``refs/<ref>``, or a ref.

    Raises:
        InvalidNameError: None of them.
    """
    ref = _parse_ref(text, "stream name")
    if text.startswith(f"{REFS}/") or "/" in text:
        return Name(None, ref)
    return Name(text, ref)


def object_link_text(object_id: ObjectID) -> str:
    """Return the text of the link that an entry of a category is."""
    return f"../objects/{object_path(object_id)}"


def parse_object_link(text: str, algorithm: Algorithm) -> ObjectID | None:
    """Return the object that the link of an entry names, or None if the text has another form than ours."""
    if not text.startswith("../objects/"):
        return None
    return find_object_in(text, algorithm) if len(text) == _link_length(algorithm) else None


def _link_length(algorithm: Algorithm) -> int:
    return len("../objects/") + 2 * algorithm.digest_size + 1


def find_object_in(text: str, algorithm: Algorithm) -> ObjectID | None:
    """Return the object that any text ending in ``xx/rest`` names, as the original reads links."""
    try:
        return parse_object_path(text, algorithm)
    except DigestFormatError:
        return None


def ref_link_text(ref: str, entry: str) -> str:
    """Return the text of the link that makes the ref `ref` name the entry `entry`."""
    return "../" * (ref.count("/") + 1) + entry


def find_entry_in(text: str) -> str | None:
    """Return the entry that the text of a ref names: its last component; None if it has none."""
    parts = [part for part in text.split("/") if part not in {"", "."}]
    return parts[-1] if parts and parts[-1] != ".." else None


def suggest(name: str, names: Iterable[str]) -> str | None:
    """Return a hint that lists names similar to an unknown one, or None.

    Args:
        name: What was asked for.
        names: What there is; of many names only the first thousands are looked at.
    """
    from difflib import get_close_matches  # only for those who mistype

    if len(name) > _MAX_SUGGESTED:
        return None
    candidates = [other for other in islice(names, _MAX_CANDIDATES) if len(other) <= _MAX_SUGGESTED]
    found = get_close_matches(name, candidates, n=2)
    return f"did you mean {' or '.join(found)}?" if found else None


_MAX_SUGGESTED: Final = 300
"""Characters of a name that similar ones are looked for; the time grows with their square."""

_MAX_CANDIDATES: Final = 2000
"""Names that are compared, so that an answer takes no longer than a moment."""
