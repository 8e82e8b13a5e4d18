"""Extended attributes of all inodes: which are shared, and the bytes of each inode's own.

Most inodes of a tree have one of a few sets of attributes, so sets are what is counted, measured and
encoded, each once. Two attributes are omitted from the set of a usual external file, since they differ
from file to file: its metacopy and its redirect. They go between `AttributeSet.head` and
`AttributeSet.tail`, as they are or, where several inodes have the same content, as references.

An attribute that two or more inodes carry with the same value goes into a table behind the inodes, and
their bodies refer to it. The table is ordered and sorted differently in V0 and V1 than in V2.
"""

from __future__ import annotations

import struct
from binascii import hexlify
from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import (
    COMPACT_INODE,
    EXTENDED_INODE,
    MAX_XATTR_VALUE,
    NULL_CHUNK,
    SLOT_SIZE,
    XATTR_BODY_HEADER,
    XATTR_ENTRY,
    XATTR_METACOPY,
    XATTR_OVERLAY_ESCAPED_PREFIX,
    XATTR_OVERLAY_PREFIX,
    XATTR_REDIRECT,
    FormatVersion,
)
from cfsctl.erofs.node_errors import NodeFault
from cfsctl.erofs.write.attribute_sets import AttributeSet, ExternalEntries, Form, Name, metacopy_value
from cfsctl.tree.dialect import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.erofs.write.attribute_sets import Pair
    from cfsctl.tree.model import Node

MAX_SHARED: Final = 255
"""References of one inode; their number has one byte."""

MAX_SHARED_C: Final = 128
"""References of one inode that the C tools write; further shared attributes are repeated inline."""

MAX_ICOUNT: Final = 65535

_ACL_NAMES: Final = (b"system.posix_acl_access", b"system.posix_acl_default")
_SUFFIX_LIMIT: Final = 255


class XattrEncoder:
    """Collects the attribute sets of an image, shares what is shared, and encodes them.

    Attributes:
        external: What metacopies and redirects have in common.
        table: The shared attributes, as they are in the image.
        file_references: References to metacopy and redirect by the object of several inodes.
    """

    def __init__(self, version: FormatVersion, dialect: Dialect, algorithm: Algorithm) -> None:
        """Start without any set."""
        self._version = version
        self._dialect = dialect
        self._names: dict[bytes, Name] = {}
        self._sets: list[AttributeSet] = []
        self._by_mapping: dict[tuple[int, Form], AttributeSet] = {}
        self._by_content: dict[tuple[tuple[Pair, ...], Form], AttributeSet] = {}
        self._offsets: dict[Pair, int] = {}
        self._algorithm = algorithm
        self._files: dict[ObjectID, tuple[Pair, Pair]] = {}
        self.external = ExternalEntries(algorithm, version)
        self.table = b""
        self.file_references: dict[ObjectID, bytes] = {}

    @property
    def has_acl(self) -> bool:
        """Whether some inode carries a POSIX ACL; the C tools know only the two exact names."""
        if self._dialect is Dialect.C:
            return any(name in self._names for name in _ACL_NAMES)
        return any(name.index in {2, 3} for name in self._names.values())

    def share_file(self, object_id: ObjectID) -> None:
        """Record that several inodes have metacopy and redirect of this object."""
        metacopy = (XATTR_METACOPY, metacopy_value(object_id, self._algorithm))
        redirect = (XATTR_REDIRECT, b"/" + hexlify(object_id, "/", len(object_id) - 1))
        self._files[object_id] = metacopy, redirect
        for name in (XATTR_METACOPY, XATTR_REDIRECT):
            if name not in self._names:
                self._names[name] = Name(name, self._version)

    def can_refer(self, xattrs: Mapping[bytes, bytes]) -> bool:
        """Return whether a node with these attributes has room for references to a shared file."""
        return self._dialect is Dialect.RUST or len(xattrs) + 2 <= MAX_SHARED_C

    def set_of_mapping(self, node: Node, form: Form = Form.PLAIN) -> AttributeSet:
        """Return the set for the own attributes of a node, and nothing else.

        Nodes often have the very same mapping, so it is recognised by its identity; the tree keeps it
        alive while the image is built.
        """
        key = (id(node.xattrs), form)
        found = self._by_mapping.get(key)
        if found is None:
            found = self._by_mapping[key] = self._find(self.own_pairs(node.xattrs), node, form)
        return found

    def set_of_pairs(self, pairs: Iterable[Pair], node: Node) -> AttributeSet:
        """Return the set for pairs in the order of V2; in V0 and V1 they are sorted."""
        return self._find(tuple(pairs), node, Form.PLAIN)

    def own_pairs(self, xattrs: Mapping[bytes, bytes]) -> tuple[Pair, ...]:
        """Return a node's own attributes in the byte order of their names, then escaped."""
        return tuple((_escape(name), xattrs[name]) for name in sorted(xattrs))

    def replace(self, pairs: Iterable[Pair], marks: Iterable[Pair]) -> list[Pair]:
        """Return `pairs` with the marks of the format.

        The original of `cfsctl` appends, even next to an attribute of the same name; the C tools replace
        that.
        """
        marks = list(marks)
        if self._dialect is Dialect.C:
            replaced = {name for name, _ in marks}
            pairs = [pair for pair in pairs if pair[0] not in replaced]
        return [*pairs, *marks]

    def _find(self, pairs: tuple[Pair, ...], node: Node, form: Form) -> AttributeSet:
        if self._version is not FormatVersion.V2:
            pairs = tuple(sorted(pairs, key=_full_name_order))
        key = (pairs, form)
        found = self._by_content.get(key)
        if found is None:
            found = self._by_content[key] = AttributeSet(pairs, node, form)
            self._sets.append(found)
            for name, value in pairs:
                self._check(name, value, node)
        return found

    def _check(self, name: bytes, value: bytes, node: Node) -> None:
        if name not in self._names:
            self._names[name] = Name(name, self._version)
        if len(self._names[name].suffix) > _SUFFIX_LIMIT or not name:
            raise NodeFault(node, f"attribute {_shorten(name)} has a name of {len(name)} bytes", "e_name_len")
        if len(value) > MAX_XATTR_VALUE:
            raise NodeFault(
                node,
                f"attribute {_shorten(name)} has {len(value)} bytes, more than {MAX_XATTR_VALUE}",
                "e_value_size",
            )

    def settle(self) -> None:
        """Decide what is shared, and with it the size of each set's body; no set may come after this.

        Raises:
            NodeFault: An inode has more than its body can hold.
        """
        counts = {pair: 2 for pairs in self._files.values() for pair in pairs}
        for group in self._sets:
            if group.users:
                for pair in group.pairs:
                    counts[pair] = counts.get(pair, 0) + group.users
        shared = [pair for pair, count in counts.items() if count > 1]
        if self._version is FormatVersion.V2:
            shared.sort(key=self._prefix_order)
        else:
            shared.sort(key=_full_name_order, reverse=True)
        entries = []
        offset = 0
        for pair in shared:
            self._offsets[pair] = offset
            entries.append(self._entry(pair))
            offset += len(entries[-1])
        self.table = b"".join(entries)
        for group in self._sets:
            self._divide(group)

    def _divide(self, group: AttributeSet) -> None:
        limit = MAX_SHARED_C if self._dialect is Dialect.C else MAX_SHARED
        for pair in group.pairs:
            is_shared = pair in self._offsets and (self._dialect is Dialect.RUST or len(group.refs) < limit)
            (group.refs if is_shared else group.inline).append(pair)
        count = len(group.refs) + (2 if group.form is Form.REPEATED else 0)
        if count > limit:
            raise NodeFault(
                group.example, f"{count} attributes are shared, more than {limit}", "h_shared_count"
            )
        if not group.pairs and not group.is_external:
            return
        size = XATTR_BODY_HEADER.size + 4 * count
        for name, value in group.inline:
            size += (XATTR_ENTRY.size + len(self._names[name].suffix) + len(value) + 3) & -4
        group.size = size + (self.external.size if group.form is Form.EXTERNAL else 0)
        group.compact_slots = _slots(COMPACT_INODE.size + group.size + len(NULL_CHUNK))
        group.extended_slots = _slots(EXTENDED_INODE.size + group.size + len(NULL_CHUNK))
        group.icount = 1 + (group.size - XATTR_BODY_HEADER.size) // 4
        if group.icount > MAX_ICOUNT:
            raise NodeFault(
                group.example, f"all attributes together need {group.size} bytes", "i_xattr_icount"
            )

    def encode(self, table_offset: int) -> None:
        """Make the bytes of every set.

        Args:
            table_offset: Where the table of shared attributes is, counted from where references are.
        """
        for group in self._sets:
            if group.size:
                self._encode(group, table_offset)
        for object_id, (metacopy, redirect) in self._files.items():
            self.file_references[object_id] = self._references((metacopy, redirect), table_offset)

    def _encode(self, group: AttributeSet, table_offset: int) -> None:
        bits = self.external.bits if group.is_external else 0
        for name, _ in group.pairs:
            bits |= self._names[name].bit
        count = len(group.refs) + (2 if group.form is Form.REPEATED else 0)
        header = XATTR_BODY_HEADER.pack(~bits & 0xFFFFFFFF, count)
        match group.form:
            case Form.PLAIN:
                inline = b"".join(map(self._entry, group.inline))
                group.head = header + self._references(group.refs, table_offset) + inline
            case Form.EXTERNAL:
                before, after = self._around_metacopy(group.inline)
                refs = self._references(group.refs, table_offset)
                group.head = b"".join([header, refs, *map(self._entry, before), self.external.metacopy])
                group.tail = b"".join(map(self._entry, after))
            case Form.REPEATED:
                before, after = self._around_metacopy(group.refs)
                group.head = header + self._references(before, table_offset)
                inline = b"".join(map(self._entry, group.inline))
                group.tail = self._references(after, table_offset) + inline

    def _around_metacopy(self, pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
        """Return what comes before metacopy and redirect, and what after: all in V2."""
        if self._version is FormatVersion.V2:
            return [], pairs
        count = sum(name < XATTR_METACOPY for name, _ in pairs)
        return pairs[:count], pairs[count:]

    def _references(self, pairs: Sequence[Pair], table_offset: int) -> bytes:
        numbers = [(table_offset + self._offsets[pair]) // 4 for pair in pairs]
        return struct.pack(f"<{len(numbers)}I", *numbers)

    def _entry(self, pair: Pair) -> bytes:
        name, value = self._names[pair[0]], pair[1]
        data = XATTR_ENTRY.pack(len(name.suffix), name.index, len(value)) + name.suffix + value
        return data + bytes(-len(data) % 4)

    def _prefix_order(self, pair: Pair) -> tuple[int, bytes, bytes]:
        name = self._names[pair[0]]
        return name.index, name.suffix, pair[1]


def splits_external(xattrs: Mapping[bytes, bytes]) -> bool:
    """Return whether a node has attributes that come between metacopy and redirect in V0 and V1."""
    return any(name.startswith(XATTR_OVERLAY_PREFIX) for name in xattrs)


def _escape(name: bytes) -> bytes:
    """Return the name under which overlayfs shows an attribute that it would otherwise take for its own."""
    if name.startswith(XATTR_OVERLAY_PREFIX):
        return XATTR_OVERLAY_ESCAPED_PREFIX + name[len(XATTR_OVERLAY_PREFIX) :]
    return name


def _slots(size: int) -> int:
    return -(-size // SLOT_SIZE)


def _full_name_order(pair: Pair) -> tuple[bytes, int, bytes]:
    return pair[0], len(pair[1]), pair[1]


def _shorten(name: bytes) -> str:
    return repr(name if len(name) <= 40 else name[:40] + b"...")
