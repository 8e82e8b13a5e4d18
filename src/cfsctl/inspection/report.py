"""Differences as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.inspection.diff import (
    TYPE_NAMES,
    Added,
    Changed,
    Removed,
    escape,
    file_size,
    format_content,
    format_device,
    quote,
)
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import BlockDevice, CharDevice, ExternalFile, InlineFile, SparseFile, Symlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.inspection.diff import Change, Difference, Entry


def iter_text(differences: Iterable[Difference]) -> Iterator[str]:
    """Yield a line per entry that was added or removed, and one per changed attribute.

    The first character says which: ``+``, ``-`` or ``!``. Paths and values have everything escaped that
    is not printable ASCII.
    """
    for difference in differences:
        match difference:
            case Added(path, node):
                yield f"+ {escape(path)} ({describe(node)})"
            case Removed(path, node):
                yield f"- {escape(path)} ({describe(node)})"
            case Changed(path, changes):
                yield from (f"! {escape(path)}: {_format_change(change)}" for change in changes)


def _format_change(change: Change) -> str:
    name = "" if change.name is None else f" {escape(change.name)}"
    old, new = ("none" if value is None else value for value in (change.old, change.new))
    return f"{change.attribute.value}{name} {old} -> {new}"


def describe(node: Entry) -> str:
    """Return what a node is in a few words."""
    kind = TYPE_NAMES[node.file_type]
    match node:
        case Symlink():
            return f"{kind} to {quote(node.target)}"
        case CharDevice() | BlockDevice():
            return f"{kind} {format_device(node.rdev)}"
        case InlineFile() | ExternalFile() | SparseFile() | RedirectedFile():
            return f"{kind}, {file_size(node)} bytes"
        case _:
            return kind


def to_document(differences: Iterable[Difference]) -> dict[str, object]:
    """Return the differences as a JSON document.

    Paths and names of attributes are escaped like those of the text.
    """
    added: list[dict[str, object]] = []
    removed: list[dict[str, object]] = []
    changed: list[dict[str, object]] = []
    for difference in differences:
        match difference:
            case Added(path, node):
                added.append(_entry_document(path, node))
            case Removed(path, node):
                removed.append(_entry_document(path, node))
            case Changed(path, changes):
                documents = [_change_document(change) for change in changes]
                changed.append({"path": escape(path), "changes": documents})
    same = not (added or removed or changed)
    return {"same": same, "added": added, "removed": removed, "changed": changed}


def _entry_document(path: bytes, node: Entry) -> dict[str, object]:
    document: dict[str, object] = {"path": escape(path), "type": TYPE_NAMES[node.file_type]}
    match node:
        case Symlink():
            document["target"] = escape(node.target)
        case CharDevice() | BlockDevice():
            document["device"] = format_device(node.rdev)
        case InlineFile() | ExternalFile() | SparseFile() | RedirectedFile():
            document["size"] = file_size(node)
            document["content"] = format_content(node)
        case _:
            pass
    return document


def _change_document(change: Change) -> dict[str, object]:
    document: dict[str, object] = {"attribute": change.attribute.value}
    if change.name is not None:
        document["name"] = escape(change.name)
    document["old"] = change.old
    document["new"] = change.new
    return document
