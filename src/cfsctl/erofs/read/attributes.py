"""Extended attributes of an inode: decode them, and separate the writer's own from those of the tree.

    0       u32 name filter, u8 number of shared references n, 7 zero bytes
    12      n times u32: offset of a shared attribute, in units of 4 bytes
    12+4n   inline attributes, each: u8 suffix length, u8 prefix index, u16 value length, suffix,
            value, zeros up to a multiple of 4

The name filter only speeds the kernel up, so it is not checked.
"""

from __future__ import annotations

import functools
import struct
from binascii import Error as HexError
from binascii import unhexlify
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import (
    METACOPY_HEADER,
    XATTR_BODY_HEADER,
    XATTR_ENTRY,
    XATTR_METACOPY,
    XATTR_OVERLAY_ESCAPED_PREFIX,
    XATTR_OVERLAY_PREFIX,
    XATTR_PREFIXES,
    XATTR_REDIRECT,
    ErofsError,
)
from cfsctl.tree.model import NO_XATTRS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cfsctl.erofs.format import Buffer

Attribute = tuple[bytes, bytes]
"""Full name and value."""

_SHARED_REF: Final = 4
"""Bytes of a reference, and the unit in which it counts."""


class WrongAlgorithmError(ErofsError):
    """The image names its objects with another hash than expected.

    Attributes:
        found: The hash it uses.
    """

    def __init__(self, expected: Algorithm, found: Algorithm, value_size: int) -> None:
        """Compose the message."""
        super().__init__(
            f"the image was made for {found.hash_name}, expected {expected.hash_name}: malformed "
            f"trusted.overlay.metacopy xattr: expected {_metacopy_size(expected)} bytes, got {value_size}",
            field=XATTR_METACOPY.decode(),
            hint=f"read it with --hash {found.hash_name}, or from a {found.hash_name} repository",
        )
        self.found = found


class AttributeTable:
    """Decodes attribute bodies of one image; remembers what it has decoded of the shared ones."""

    def __init__(self, data: Buffer, base: int) -> None:
        """Take the image.

        Args:
            data: The whole image.
            base: Byte offset that shared references are counted from.
        """
        self._data = data
        self._base = base
        self._shared: dict[int, Attribute] = {}
        self._names: dict[bytes, bytes] = {}
        self._shared_room = len(data)

    @property
    def names(self) -> Iterable[bytes]:
        """Every attribute name met so far, each once."""
        return self._names

    def decode(self, body: bytes) -> list[Attribute]:
        """Return the attributes of one body in stored order, shared ones first.

        Raises:
            ErofsError: Something reaches out of the body or the image.
        """
        count = body[4]
        position = XATTR_BODY_HEADER.size + _SHARED_REF * count
        if position > len(body):
            raise ErofsError(
                f"Offset out of bounds: {count} shared attributes in an attribute body of {len(body)} bytes",
                field="h_shared_count",
            )
        found = [self.shared(ref) for ref in _references(body, count)]
        while position < len(body):
            attribute, position = self._entry(body, position, len(body))
            found.append(attribute)
        return found

    def shared(self, reference: int) -> Attribute:
        """Return the attribute in the shared table that a reference names.

        Raises:
            ErofsError: It reaches out of the image.
        """
        attribute = self._shared.get(reference)
        if attribute is None:
            offset = self._base + _SHARED_REF * reference
            attribute, end = self._entry(self._data, offset, len(self._data))
            # Entries of an honest table do not overlap; crafted ones would multiply their bytes.
            self._shared_room -= end - offset
            if self._shared_room < 0:
                raise ErofsError("shared attributes overlap each other", offset=offset, field="shared xattr")
            self._shared[reference] = attribute
        return attribute

    def _entry(self, data: Buffer, offset: int, end: int) -> tuple[Attribute, int]:
        """Return one attribute and the offset behind its padding."""
        suffix_start = offset + XATTR_ENTRY.size
        if suffix_start > end:
            raise ErofsError(
                f"Offset out of bounds: attribute at {offset} of {end} bytes", field="e_name_len"
            )
        suffix_size, index, value_size = XATTR_ENTRY.unpack_from(data, offset)
        value_start = suffix_start + suffix_size
        value_end = value_start + value_size
        if value_end > end:
            raise ErofsError(
                f"Offset out of bounds: attribute at {offset} needs {value_end - offset} bytes of "
                f"{end - offset}",
                field="e_value_size",
            )
        if index >= len(XATTR_PREFIXES):
            raise ErofsError(f"xattr name_index {index} out of range", field="e_name_index")
        name = XATTR_PREFIXES[index] + data[suffix_start:value_start]
        name = self._names.setdefault(name, name)
        return (name, data[value_start:value_end]), _padded(value_end)


def _references(body: bytes, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}I", body, XATTR_BODY_HEADER.size)


class Separated(NamedTuple):
    """The attributes of an inode, told apart.

    Attributes:
        own: Attributes of the tree, names as the tree has them.
        metacopy: Value of the writer's overlay.metacopy, or None.
        redirect: Value of the writer's overlay.redirect, or None.
    """

    own: Mapping[bytes, bytes]
    metacopy: bytes | None
    redirect: bytes | None


NOTHING: Final = Separated(NO_XATTRS, None, None)


def separate(attributes: Iterable[Attribute], written: Iterable[Attribute] = ()) -> Separated:
    """Separate the writer's attributes from those of the tree, and unescape the latter.

    Every unescaped name below ``trusted.overlay.`` is the writer's, since it escapes those of the
    tree by a second ``overlay.``.

    Args:
        attributes: Full names and values, as stored.
        written: Escaped attributes that the writer has added to this inode. Of each only one is
            taken away: the original adds its own next to one of the same name that was there.

    Raises:
        ErofsError: A name occurs twice.
    """
    remaining = list(attributes)
    for attribute in written:
        if attribute in remaining:
            remaining.remove(attribute)
    own: dict[bytes, bytes] = {}
    overlay: dict[bytes, bytes] = {}
    for stored_name, value in remaining:
        name, target = stored_name, own
        if name.startswith(XATTR_OVERLAY_PREFIX):
            if name.startswith(XATTR_OVERLAY_ESCAPED_PREFIX):
                name = XATTR_OVERLAY_PREFIX + name[len(XATTR_OVERLAY_ESCAPED_PREFIX) :]
            else:
                target = overlay
        if name in target:
            raise ErofsError(f"attribute {stored_name!r} occurs twice", field="xattr")
        target[name] = value
    return Separated(own or NO_XATTRS, overlay.get(XATTR_METACOPY), overlay.get(XATTR_REDIRECT))


def parse_metacopy(value: bytes, algorithm: Algorithm) -> ObjectID | None:
    """Return the digest in the value of ``trusted.overlay.metacopy``; None if it has none.

    Raises:
        WrongAlgorithmError: A well-formed value of the other hash.
        ErofsError: Anything else that the kernel would not take.
    """
    if not value:
        return None
    if len(value) != _metacopy_size(algorithm):
        for other in Algorithm:
            if value[: METACOPY_HEADER.size] == _metacopy_start(other) and len(value) == _metacopy_size(
                other
            ):
                raise WrongAlgorithmError(algorithm, other, len(value))
        raise ErofsError(
            "malformed trusted.overlay.metacopy xattr: "
            f"expected {_metacopy_size(algorithm)} bytes, got {len(value)}",
            field=XATTR_METACOPY.decode(),
        )
    if value[: METACOPY_HEADER.size] != _metacopy_start(algorithm):
        version, size, flags, number = METACOPY_HEADER.unpack_from(value)
        raise ErofsError(
            f"invalid trusted.overlay.metacopy: version={version}, len={size}, flags={flags}, "
            f"digest_algo={number} (expected version=0, len={_metacopy_size(algorithm)}, flags=0, "
            f"digest_algo={algorithm.value})",
            field=XATTR_METACOPY.decode(),
        )
    return ObjectID(value[METACOPY_HEADER.size :])


def find_metacopy_algorithm(value: bytes) -> Algorithm | None:
    """Return the hash that a well-formed value of ``trusted.overlay.metacopy`` is made with."""
    for algorithm in Algorithm:
        if len(value) == _metacopy_size(algorithm) and value.startswith(_metacopy_start(algorithm)):
            return algorithm
    return None


def find_redirect_algorithm(value: bytes) -> Algorithm | None:
    """Return the hash of the object that a value of ``trusted.overlay.redirect`` leads to."""
    for algorithm in Algorithm:
        if len(value) == 2 * algorithm.digest_size + 2 and parse_redirect(value, algorithm) is not None:
            return algorithm
    return None


def parse_redirect(value: bytes, algorithm: Algorithm) -> ObjectID | None:
    """Return the object at the path in ``trusted.overlay.redirect``; None if it is not an object's path.

    The path ends in ``xx/rest``; what stands before that is where the objects are. The original reads
    hexadecimal digits in either case, so this does.
    """
    tail = value[-(2 * algorithm.digest_size + 1) :]
    if len(tail) != 2 * algorithm.digest_size + 1 or tail[2:3] != b"/":
        return None
    try:
        return ObjectID(unhexlify(tail[:2] + tail[3:]))
    except HexError:
        return None


def _metacopy_size(algorithm: Algorithm) -> int:
    return METACOPY_HEADER.size + algorithm.digest_size


def _metacopy_start(algorithm: Algorithm) -> bytes:
    return METACOPY_HEADER.pack(0, _metacopy_size(algorithm), 0, algorithm.value)


class ExternalTail(NamedTuple):
    """What the attribute body of nearly every external file ends in: metacopy, then redirect.

    Knowing these bytes saves the walkers decoding them; a body that ends otherwise is decoded.

    Attributes:
        size: Bytes of both attributes, padding included.
        metacopy_start: What comes before the digest.
        digest_end: Offset behind the digest.
        redirect_offset: Offset of the redirect.
        redirect_start: What comes before ``xx/rest``.
        path_offset: Offset of ``xx/rest``.
    """

    size: int
    metacopy_start: bytes
    digest_end: int
    redirect_offset: int
    redirect_start: bytes
    path_offset: int


@functools.cache
def external_tail(algorithm: Algorithm) -> ExternalTail:
    """Return the bytes to look for in images of one hash."""
    metacopy = _entry_start(XATTR_METACOPY, _metacopy_size(algorithm)) + _metacopy_start(algorithm)
    redirect = _entry_start(XATTR_REDIRECT, 2 * algorithm.digest_size + 2) + b"/"
    digest_end = len(metacopy) + algorithm.digest_size
    redirect_offset = _padded(digest_end)
    path_offset = redirect_offset + len(redirect)
    return ExternalTail(
        _padded(path_offset + 2 * algorithm.digest_size + 1),
        metacopy,
        digest_end,
        redirect_offset,
        redirect,
        path_offset,
    )


def _entry_start(name: bytes, value_size: int) -> bytes:
    """Return how the entry of a ``trusted.`` attribute begins."""
    index = XATTR_PREFIXES.index(b"trusted.")
    suffix = name[len(XATTR_PREFIXES[index]) :]
    return XATTR_ENTRY.pack(len(suffix), index, value_size) + suffix


def _padded(size: int) -> int:
    return (size + 3) & ~3
