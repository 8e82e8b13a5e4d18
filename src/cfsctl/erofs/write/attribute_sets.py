"""Sets of extended attributes that inodes have in common, and names taken apart."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from xxhash import xxh32_intdigest

from cfsctl.erofs.format import (
    METACOPY_HEADER,
    XATTR_ENTRY,
    XATTR_FILTER_SEED,
    XATTR_METACOPY,
    XATTR_PREFIXES,
    XATTR_REDIRECT,
    FormatVersion,
)

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.tree.model import Node

Pair = tuple[bytes, bytes]
"""Full name of an attribute as the image has it, and its value."""

_LUSTRE: Final = 5


def filter_bit(suffix: bytes, index: int) -> int:
    """Return the bit of the name filter that an attribute name clears.

    Args:
        suffix: The name without its prefix.
        index: Index of the prefix.
    """
    return 1 << (xxh32_intdigest(suffix, XATTR_FILTER_SEED + index) & 31)


class Name:
    """An attribute name, taken apart.

    Attributes:
        index: Index of its prefix.
        suffix: What follows the prefix.
        bit: Its bit in name filters.
    """

    __slots__ = ("bit", "index", "suffix")

    def __init__(self, name: bytes, version: FormatVersion) -> None:
        """Find the prefix; V0 and V1 store the names of lustre whole."""
        self.index = 0
        for index, prefix in enumerate(XATTR_PREFIXES):
            if prefix and name.startswith(prefix) and (index != _LUSTRE or version is FormatVersion.V2):
                self.index = index
                break
        self.suffix = name[len(XATTR_PREFIXES[self.index]) :]
        self.bit = filter_bit(self.suffix, self.index)


class Form(Enum):
    """What an inode has besides the attributes of its set."""

    PLAIN = 0
    """Nothing."""

    EXTERNAL = 1
    """A metacopy and a redirect of its own."""

    REPEATED = 2
    """References to a metacopy and a redirect that other inodes have too."""


class AttributeSet:
    """Attributes that some inodes have in common.

    Attributes:
        pairs: Names and values in the order of the inode.
        example: One of the inodes, for messages.
        form: What each inode has besides.
        is_external: Whether that is anything.
        users: Number of inodes.
        size: Bytes of the attribute body, those of metacopy and redirect included.
        icount: i_xattr_icount of the inodes.
        compact_slots: Slots of a compact inode of a usual external file.
        extended_slots: Slots of an extended one.
        head: The body, or what of it comes before metacopy's digest or the reference to metacopy.
        tail: What of the body follows the redirect or the reference to it.
    """

    __slots__ = (
        "compact_slots",
        "example",
        "extended_slots",
        "form",
        "head",
        "icount",
        "inline",
        "is_external",
        "pairs",
        "refs",
        "size",
        "tail",
        "users",
    )

    def __init__(self, pairs: tuple[Pair, ...], example: Node, form: Form) -> None:
        """Start without users."""
        self.pairs = pairs
        self.example = example
        self.form = form
        self.is_external = form is not Form.PLAIN
        self.users = 0
        self.size = 0
        self.icount = 0
        self.compact_slots = 0
        self.extended_slots = 0
        self.refs: list[Pair] = []
        self.inline: list[Pair] = []
        self.head = b""
        self.tail = b""


class ExternalEntries:
    """The bytes of metacopy and redirect that do not depend on the file.

    Attributes:
        metacopy: Entry of the metacopy up to the digest.
        redirect: Entry of the redirect up to ``xx/rest``.
        padding: Zeros behind that.
        size: Bytes of both entries.
        bits: Their bits in the name filter.
    """

    __slots__ = ("bits", "metacopy", "padding", "redirect", "size")

    def __init__(self, algorithm: Algorithm, version: FormatVersion) -> None:
        """Make the bytes for one hash."""
        value_size = METACOPY_HEADER.size + algorithm.digest_size
        metacopy, redirect = Name(XATTR_METACOPY, version), Name(XATTR_REDIRECT, version)
        path_size = 2 * algorithm.digest_size + 2
        self.metacopy = (
            XATTR_ENTRY.pack(len(metacopy.suffix), metacopy.index, value_size)
            + metacopy.suffix
            + METACOPY_HEADER.pack(0, value_size, 0, algorithm.value)
        )
        self.redirect = (
            XATTR_ENTRY.pack(len(redirect.suffix), redirect.index, path_size) + redirect.suffix + b"/"
        )
        size = len(self.metacopy) + algorithm.digest_size + len(self.redirect) - 1 + path_size
        self.padding = -size % 4
        self.size = size + self.padding
        self.bits = metacopy.bit | redirect.bit


def metacopy_value(digest: ObjectID, algorithm: Algorithm) -> bytes:
    """Return the value of the metacopy of a file with this digest."""
    return METACOPY_HEADER.pack(0, METACOPY_HEADER.size + len(digest), 0, algorithm.value) + digest
