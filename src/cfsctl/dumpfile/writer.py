"""Trees written as dumps.

Lines come depth-first, each directory followed by all that is below it, names in byte order. The first
path of a leaf has the whole line; later ones refer to that path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.dumpfile.format import escape, escape_in_xattr, escape_value
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

_BATCH: Final = 2000
"""Lines that are handed out together."""


def iter_dump(filesystem: FileSystem) -> Iterator[bytes]:
    """Write a whole tree.

    Yields:
        Whole lines, many at a time.
    """
    return DumpWriter(filesystem).iter_node(filesystem.root, b"/")


class DumpWriter:
    """Writes a tree, or parts of it. Link counts always are those of the whole tree."""

    def __init__(self, filesystem: FileSystem) -> None:
        """Take the tree and count its links."""
        self._filesystem = filesystem  # attributes are remembered by identity, so they have to stay
        self._links = count_links(filesystem)
        self._nlinks = filesystem.nlinks if isinstance(filesystem, DumpedFileSystem) else {}
        self._xattrs: dict[int, str] = {id(NO_XATTRS): ""}
        self._first: dict[Node, str] = {}

    def iter_node(self, node: Directory | Leaf, path: bytes) -> Iterator[bytes]:
        """Write a node and everything below it.

        Hard links refer to the first path below this node, whatever was written before.

        Args:
            node: What to write.
            path: Its path, written as it is given here; paths below start with it.

        Yields:
            Whole lines, many at a time.
        """
        self._first = {}
        lines: list[str] = []
        for line in self._lines(node, path):
            lines.append(line)
            if len(lines) >= _BATCH:
                yield "".join(lines).encode("ascii")
                lines.clear()
        if lines:
            yield "".join(lines).encode("ascii")

    def _lines(self, node: Directory | Leaf, path: bytes) -> Iterator[str]:
        top = escape_value(path)
        if not isinstance(node, Directory):
            yield self._leaf(node, top)
            return
        yield self._directory(node, top)
        stack = [self._children(node, top if path.endswith(b"/") else top + "/")]
        while stack:
            for child, child_path in stack[-1]:
                if isinstance(child, Directory):
                    yield self._directory(child, child_path)
                    stack.append(self._children(child, child_path + "/"))
                    break
                yield self._leaf(child, child_path)
            else:
                stack.pop()

    @staticmethod
    def _children(directory: Directory, prefix: str) -> Iterator[tuple[Directory | Leaf, str]]:
        entries = directory.entries
        return ((entries[name], prefix + escape(name)) for name in sorted(entries))

    def _directory(self, node: Directory, path: str) -> str:
        links = 2
        for child in node.entries.values():
            if isinstance(child, Directory):
                links += 1
        return self._line(path, 0, node, links, 0, "- - -")

    def _leaf(self, leaf: Leaf, path: str) -> str:
        links = self._links.get(leaf, 1)
        if links > 1:
            first = self._first.setdefault(leaf, path)
            if first is not path:
                return f"{path} 0 @120000 - - - - 0.0 {first} - -\n"
        if self._nlinks:
            links = self._nlinks.get(leaf, links)
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
            xattrs = self._xattrs[id(node.xattrs)] = _format_xattrs(node)
        return (
            f"{path} {size} {node.file_type | node.mode:o} {links} {node.uid} {node.gid} {rdev} "
            f"{node.mtime_s}.{node.mtime_ns} {content}{xattrs}\n"
        )


def count_links(filesystem: FileSystem) -> dict[Node, int]:
    """Return how many names leaves have; at least of those that have several."""
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
    return links


def _format_xattrs(node: Node) -> str:
    return "".join(
        [f" {escape_in_xattr(name)}={escape_in_xattr(node.xattrs[name])}" for name in sorted(node.xattrs)]
    )
