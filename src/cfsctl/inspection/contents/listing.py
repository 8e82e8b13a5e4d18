"""The entries of a tree, as text and as JSON."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from cfsctl.digest import qualified
from cfsctl.inspection.contents.place import Place, is_file
from cfsctl.inspection.diff import TYPE_NAMES, file_size, format_device
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import BlockDevice, CharDevice, Directory, ExternalFile, Symlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.inspection.diff import Entry


def iter_entries(place: Place, *, is_recursive: bool = False) -> Iterator[Place]:
    """Yield the entries of a directory, sorted by name; of anything else, itself.

    Args:
        place: Where.
        is_recursive: Yield everything below as well, each directory before what is in it.
    """
    if not isinstance(place.node, Directory):
        yield place
        return
    stack = [_iter_sorted(place.path, place.node)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        yield found
        if is_recursive and isinstance(found.node, Directory):
            stack.append(_iter_sorted(found.path, found.node))


def _iter_sorted(path: bytes, directory: Directory) -> Iterator[Place]:
    prefix = b"/" if path == b"/" else path + b"/"
    entries = directory.entries
    return (Place(prefix + name, entries[name]) for name in sorted(entries))


def format_long(entries: Iterable[tuple[str, Entry]]) -> Iterator[str]:
    """Yield a line for each entry: mode, owner, group, size, time and name, in columns.

    Args:
        entries: Names as they are printed, and nodes. All are held, to find the width of the columns.
    """
    entries = list(entries)
    columns = [(str(node.uid), str(node.gid), _format_size(node)) for _, node in entries]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    for (name, node), numbers in zip(entries, columns, strict=True):
        mode = stat.filemode(node.file_type | node.mode)
        aligned = " ".join(text.rjust(width) for text, width in zip(numbers, widths, strict=True))
        target = f" -> {os.fsdecode(node.target)}" if isinstance(node, Symlink) else ""
        yield f"{mode} {aligned} {_format_time(node.mtime_s)} {name}{target}"


def _format_size(node: Entry) -> str:
    if isinstance(node, CharDevice | BlockDevice):
        return format_device(node.rdev)
    return str(file_size(node)) if is_file(node) else "-"


def _format_time(seconds: int) -> str:
    """Return a local time; of one that the calendar does not have, the seconds since 1970."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return f"@{seconds}"


def entry_document(place: Place) -> dict[str, object]:
    """Return an entry as a JSON object."""
    path, node = place
    document: dict[str, object] = {
        "path": os.fsdecode(path),
        "type": TYPE_NAMES[node.file_type],
        "mode": f"{node.mode:04o}",
        "uid": node.uid,
        "gid": node.gid,
        "mtime": node.mtime_s,
        "mtime_nsec": node.mtime_ns,
    }
    if isinstance(node, Symlink):
        document["target"] = os.fsdecode(node.target)
    elif isinstance(node, CharDevice | BlockDevice):
        document["device"] = format_device(node.rdev)
    elif is_file(node):
        document["size"] = file_size(node)
        digest = _digest(node)
        if digest is not None:
            document["object"] = digest
    if node.xattrs:
        document["xattrs"] = [os.fsdecode(name) for name in sorted(node.xattrs)]
    return document


def _digest(node: Entry) -> str | None:
    """Return the ID of the object that has the content of a file, if that is known."""
    if isinstance(node, ExternalFile):
        return qualified(node.object_id)
    if isinstance(node, RedirectedFile) and node.digest is not None:
        return qualified(node.digest)
    return None
