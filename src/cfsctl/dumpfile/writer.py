"""Trees written as dumps.

Lines come depth-first, each directory followed by all that is below it, names in byte order. The first
path of a leaf has the whole line; later ones refer to that path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from cfsctl.dumpfile.format import escape_in_xattr, escape_names, escape_value
from cfsctl.tree.dumped import DumpedFileSystem, RedirectedFile
from cfsctl.tree.model import (
    NO_XATTRS,
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    FileSystem,
    InlineFile,
    SparseFile,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.tree.model import Leaf, Node

_REGULAR: Final = 0o100000

_BATCH_CHARACTERS: Final = 1 << 18
"""About as much is handed out at once."""

_LINE_CHARACTERS: Final = 256
"""What a line is taken to need besides the path of its directory."""


def iter_dump(filesystem: FileSystem) -> Iterator[bytes]:
    """Write a whole tree.

    Yields:
        Whole lines, many at a time.
    """
    return DumpWriter(filesystem).iter_node(filesystem.root, b"/")


_Trail: TypeAlias = "tuple[_Trail | None, str]"
"""A path: that of the directory, and what comes last. Paths below one directory share it."""


def _join(trail: _Trail) -> str:
    parts = []
    rest: _Trail | None = trail
    while rest is not None:
        rest, part = rest
        parts.append(part)
    return "".join(reversed(parts))


class _Level:
    """A directory whose entries are being written.

    Attributes:
        children: Names, as they are written, and nodes that are left.
        size: Length of its path, the slash included.
        trail: Its path.
    """

    __slots__ = ("children", "size", "trail")

    def __init__(self, directory: Directory, size: int, trail: _Trail) -> None:
        names = sorted(directory.entries)
        self.children = zip(escape_names(names), map(directory.entries.__getitem__, names), strict=True)
        self.size = size
        self.trail = trail


class DumpWriter:
    """Writes a tree, or parts of it. Link counts always are those of the whole tree."""

    def __init__(self, filesystem: FileSystem) -> None:
        """Take the tree and count its links."""
        self._filesystem = filesystem  # attributes are remembered by identity, so they have to stay
        self._links = count_links(filesystem)
        self._nlinks = filesystem.nlinks if isinstance(filesystem, DumpedFileSystem) else {}
        self._linked = self._links.keys() | self._nlinks.keys()
        self._xattrs: dict[int, str] = {id(NO_XATTRS): ""}
        self._owners: dict[tuple[int, int, int], str] = {}
        self._first: dict[Node, _Trail] = {}

    def iter_node(self, node: Directory | Leaf, path: bytes) -> Iterator[bytes]:
        """Write a node and everything below it.

        Hard links refer to the first path below this node, regardless of what was written before.

        Args:
            node: What to write.
            path: Its path, written as it is given here; paths below start with it.

        Yields:
            Whole lines, many at a time.
        """
        self._first = {}
        top = escape_value(path)
        if not isinstance(node, Directory):
            yield self._linked_leaf(node, top, (None, top)).encode("ascii")
            return
        lines = [self._directory(node, top)]
        # Only the path at hand is held, however deep it is; those of all levels, and of all first names,
        # would take gigabytes in a crafted tree.
        prefix = top if path.endswith(b"/") else top + "/"
        levels = [_Level(node, len(prefix), (None, prefix))]
        linked, owners, xattrs = self._linked, self._owners, self._xattrs
        while levels:
            level = levels[-1]
            prefix = prefix[: level.size]
            most = 1 + _BATCH_CHARACTERS // (level.size + _LINE_CHARACTERS)
            for name, child in level.children:
                if len(lines) >= most:
                    yield "".join(lines).encode("ascii")
                    lines.clear()
                if child.__class__ is ExternalFile and child not in linked and child.has_digest:
                    # Most lines are these, so they are put together without a call.
                    owner = owners.get((child.mode, child.uid, child.gid)) or self._owner(child)
                    attributes = xattrs.get(id(child.xattrs))
                    if attributes is None:
                        attributes = self._format_xattrs(child)
                    digest = child.object_id.hex()
                    lines.append(
                        f"{prefix}{name} {child.size} {owner} 0 {child.mtime_s}.{child.mtime_ns} "
                        f"{digest[:2]}/{digest[2:]} - {digest}{attributes}\n"
                    )
                    continue
                if isinstance(child, Directory):
                    lines.append(self._directory(child, prefix + name))
                    prefix += name + "/"
                    levels.append(_Level(child, len(prefix), (level.trail, name + "/")))
                    break
                if child in linked:
                    lines.append(self._linked_leaf(child, prefix + name, (level.trail, name)))
                else:
                    lines.append(self._leaf(child, prefix + name, 1))
            else:
                levels.pop()
        yield "".join(lines).encode("ascii")

    def _directory(self, node: Directory, path: str) -> str:
        links = 2 + list(map(type, node.entries.values())).count(Directory)
        return self._line(path, 0, node, links, 0, "- - -")

    def _owner(self, file: ExternalFile) -> str:
        """Return mode, link count and owner of a file with one name, and remember them."""
        text = f"{_REGULAR | file.mode:o} 1 {file.uid} {file.gid}"
        self._owners[file.mode, file.uid, file.gid] = text
        return text

    def _linked_leaf(self, leaf: Leaf, path: str, trail: _Trail) -> str:
        """Return the line of a leaf that may have several names."""
        links = self._links.get(leaf, 1)
        if links > 1:
            first = self._first.setdefault(leaf, trail)
            if first is not trail:
                return f"{path} 0 @120000 - - - - 0.0 {_join(first)} - -\n"
        return self._leaf(leaf, path, self._nlinks.get(leaf, links))

    def _leaf(self, leaf: Leaf, path: str, links: int) -> str:
        if isinstance(leaf, ExternalFile):
            digest = leaf.object_id.hex()
            content = f"{digest[:2]}/{digest[2:]} - {digest if leaf.has_digest else '-'}"
            return self._line(path, leaf.size, leaf, links, 0, content)
        if isinstance(leaf, Symlink):
            return self._line(path, len(leaf.target), leaf, links, 0, f"{escape_value(leaf.target)} - -")
        if isinstance(leaf, InlineFile):
            return self._line(path, len(leaf.data), leaf, links, 0, f"- {escape_value(leaf.data)} -")
        return self._other(leaf, path, links)

    def _other(self, leaf: Leaf, path: str, links: int) -> str:
        match leaf:
            case SparseFile(size=size):
                return self._line(path, size, leaf, links, 0, "- - -")
            case RedirectedFile(size=size, path=payload, digest=digest):
                content = f"{escape_value(payload)} - {'-' if digest is None else digest.hex()}"
                return self._line(path, size, leaf, links, 0, content)
            case CharDevice(rdev=rdev) | BlockDevice(rdev=rdev):
                return self._line(path, 0, leaf, links, rdev, "- - -")
            case _:
                return self._line(path, 0, leaf, links, 0, "- - -")

    def _line(self, path: str, size: int, node: Node, links: int, rdev: int, content: str) -> str:
        xattrs = self._xattrs.get(id(node.xattrs))
        if xattrs is None:
            xattrs = self._format_xattrs(node)
        return (
            f"{path} {size} {node.file_type | node.mode:o} {links} {node.uid} {node.gid} {rdev} "
            f"{node.mtime_s}.{node.mtime_ns} {content}{xattrs}\n"
        )

    def _format_xattrs(self, node: Node) -> str:
        text = "".join(
            [f" {escape_in_xattr(name)}={escape_in_xattr(node.xattrs[name])}" for name in sorted(node.xattrs)]
        )
        self._xattrs[id(node.xattrs)] = text
        return text


def count_links(filesystem: FileSystem) -> dict[Node, int]:
    """Return how many names leaves have that have several."""
    everything: list[Node] = []
    pending = [filesystem.root]
    while pending:
        children = pending.pop().entries.values()
        everything += children
        pending += [child for child in children if isinstance(child, Directory)]
    links: dict[Node, int] = {}
    if len(set(everything)) != len(everything):
        for node in everything:
            links[node] = links.get(node, 0) + 1
    return {node: count for node, count in links.items() if count > 1}
