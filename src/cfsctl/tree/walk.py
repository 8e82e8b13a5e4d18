"""Walks over trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.tree.model import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.tree.model import FileSystem, Node


def iter_nodes(filesystem: FileSystem) -> Iterator[Node]:
    """Yield every node once, in no particular order; hard-linked leaves once as well."""
    yield filesystem.root
    seen: set[int] = set()
    stack = [filesystem.root]
    while stack:
        for node in stack.pop().entries.values():
            if isinstance(node, Directory):
                stack.append(node)
            elif id(node) in seen:
                continue
            else:
                seen.add(id(node))
            yield node


def iter_directories(filesystem: FileSystem) -> Iterator[Directory]:
    """Yield every directory, in no particular order; the entries of one may be changed before the next."""
    pending = [filesystem.root]
    while pending:
        directory = pending.pop()
        yield directory
        pending += [entry for entry in directory.entries.values() if isinstance(entry, Directory)]
