"""Inspect images: listings for people, entries by path, the objects behind files.

What is printed, and how names are escaped, follows `composefs-info` and `cfsctl dump-files` of the
original.
"""

from __future__ import annotations

import os
import re
import stat
from binascii import hexlify
from typing import TYPE_CHECKING, Final

from cfsctl.digest import object_path
from cfsctl.erofs.format import INODE_AREA_OFFSET
from cfsctl.erofs.superblock import promised_size, read_superblock
from cfsctl.errors import CfsError, ExitCode
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, Symlink

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cfsctl.digest import ObjectID
from cfsctl.tree.model import Leaf

_BATCH_BYTES: Final = 1 << 18
"""About as much of a listing is handed out at once."""

_LINE_BYTES: Final = 128
"""What a line is taken to need besides the path of its directory."""

_READ_CHUNK_BYTES: Final = 1 << 20


class EntryError(CfsError):
    """A path that leads to nothing in an image, or not to what was asked for."""

    exit_code = ExitCode.NOT_FOUND


def load_image(fd: int, start: bytes = b"") -> bytes:
    """Return the image in an open file; nothing but its headers is read unless those are right.

    Args:
        fd: Descriptor of a file or pipe, borrowed.
        start: What was read from it already.

    Raises:
        ErofsError: The headers are not those of a composefs image.
        OSError: It cannot be read.
    """
    while len(start) < INODE_AREA_OFFSET and (more := os.read(fd, INODE_AREA_OFFSET - len(start))):
        start += more
    size = promised_size(start)
    about = os.fstat(fd)
    if stat.S_ISREG(about.st_mode):
        read_superblock(start, about.st_size)
        whole = os.pread(fd, size, 0)  # in one piece, without copying it together
        if len(whole) == size:
            return whole
    return start + _read_at_most(fd, size - len(start) + 1)


def _read_at_most(fd: int, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    while limit_bytes > 0 and (chunk := os.read(fd, min(limit_bytes, _READ_CHUNK_BYTES))):
        chunks.append(chunk)
        limit_bytes -= len(chunk)
    return b"".join(chunks)


def find_entry(filesystem: FileSystem, path: bytes) -> Directory | Leaf:
    """Return what a path leads to.

    Args:
        filesystem: The tree.
        path: From root, with or without a leading slash; empty and inner ``.`` components are skipped.

    Raises:
        EntryError: There is no such entry, a parent is missing or not a directory, or the path is root, has
            ``..``, or begins with ``.``.
    """
    parent_path, _, name = path.rstrip(b"/").rpartition(b"/")
    if name in {b"", b".", b".."}:
        raise EntryError(
            f'Invalid filename "{_text(path)}"', hint="name an entry below the root of the image"
        )
    directory = filesystem.root
    parts = parent_path.split(b"/")
    for index, part in enumerate(parts):
        if part == b".." or (part == b"." and index == 0):
            raise EntryError(f'Invalid filename "{_text(parent_path)}"')
        if part in {b"", b"."}:
            continue
        entry = directory.entries.get(part)
        reached = b"/".join(parts[: index + 1])
        if entry is None:
            raise EntryError(f'Directory entry "{_text(reached)}" does not exist')
        if not isinstance(entry, Directory):
            raise EntryError(f'Directory entry "{_text(reached)}" is not a subdirectory')
        directory = entry
    found = directory.entries.get(name)
    if found is None:
        raise EntryError(
            f"{_text(path)} not found in the image", hint="list its files with `cfsctl dump-files IMAGE /`"
        )
    return found


def format_backing_path(filesystem: FileSystem, path: bytes) -> bytes:
    """Return the line that says where the content of a file is: ``PATH xx/rest`` or ``PATH inline``.

    Raises:
        EntryError: The path leads to nothing or to a directory.
    """
    entry = find_entry(filesystem, path)
    if isinstance(entry, Directory):
        raise EntryError(f"{_text(path)} is a directory", hint="leave --backing-path-only out to dump it")
    where = backing_path(entry)
    return f"{_text(path)} {'inline' if where is None else _text(where)}\n".encode()


def backing_path(node: Leaf) -> bytes | None:
    """Return where the content of a file is below an object directory; None if it is in no object."""
    if isinstance(node, ExternalFile):
        digits = hexlify(node.object_id)
        return digits[:2] + b"/" + digits[2:]
    return node.path if isinstance(node, RedirectedFile) and node.path else None


def select_entries(filesystem: FileSystem, names: Collection[bytes]) -> FileSystem:
    """Return the tree with only those entries of root whose names are wanted; all if none are named.

    The nodes are those of the tree that was given, root apart.
    """
    if not names:
        return filesystem
    old = filesystem.root
    root = Directory(old.mode, old.uid, old.gid, old.mtime_s, old.mtime_ns, old.xattrs)
    root.entries = {name: node for name, node in old.entries.items() if name in names}
    return FileSystem(root)


def tree_objects(filesystem: FileSystem) -> set[ObjectID]:
    """Return the objects that the files of a tree have their content in."""
    objects: set[ObjectID] = set()
    stack = [filesystem.root]
    while stack:
        for node in stack.pop().entries.values():
            if isinstance(node, Directory):
                stack.append(node)
            elif isinstance(node, ExternalFile):
                objects.add(node.object_id)
    return objects


def iter_listing(filesystem: FileSystem) -> Iterator[bytes]:
    """List all entries, depth first and in byte order of names, without root.

    A directory ends in ``/`` and a tab; the first name of an external file is followed by its object, a
    symbolic link by its target; everything else is the path alone.

    Yields:
        Whole lines, many at a time.
    """
    # Only the path at hand is held: paths of all levels would take half a gigabyte in a crafted image.
    prefix = b"/"
    entries = filesystem.root.entries
    levels = [(iter(sorted(entries)), entries, len(prefix))]
    seen: set[Leaf] = set()
    lines: list[bytes] = []
    while levels:
        names, entries, size = levels[-1]
        prefix = prefix[:size]
        most = 1 + _BATCH_BYTES // (size + _LINE_BYTES)
        for name in names:
            if len(lines) >= most:
                yield b"".join(lines)
                lines.clear()
            node = entries[name]
            path = prefix + escape(name)
            if isinstance(node, Directory):
                prefix = path + b"/"
                lines.append(prefix + b"\t\n")
                levels.append((iter(sorted(node.entries)), node.entries, len(prefix)))
                break
            lines.append(_leaf_line(path, node, seen))
        else:
            levels.pop()
    yield b"".join(lines)


def _leaf_line(path: bytes, node: Leaf, seen: set[Leaf]) -> bytes:
    if isinstance(node, Symlink):
        return b"%b\t-> %b\n" % (path, escape(node.target))
    where = backing_path(node)
    if where is None or node in seen:
        return path + b"\n"
    seen.add(node)
    return b"%b\t@ %b\n" % (path, escape(where))


def format_objects(objects: Iterable[ObjectID]) -> list[str]:
    """Return the paths of objects, ``xx/rest``, sorted."""
    return [object_path(object_id) for object_id in sorted(objects)]


def iter_missing(objects: Iterable[ObjectID], dirfd: int) -> Iterator[str]:
    """Yield the paths of those objects that a directory does not have, sorted.

    Symbolic links are followed; an object that cannot be accessed counts as missing.
    """
    for path in format_objects(objects):
        try:
            os.stat(path, dir_fd=dirfd)
        except OSError:
            yield path


_PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte != 0x5C)
_UNPRINTABLE: Final = re.compile(rb"[^ -\[\]-~]")
_NAMED_ESCAPES: Final = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}


def escape(text: bytes) -> bytes:
    """Return `text` with everything escaped that does not print; spaces stay."""
    # Nearly every name is plain, and that is seen several times faster than by the expression.
    return _UNPRINTABLE.sub(_escape_byte, text) if text.translate(None, _PLAIN) else text


def _escape_byte(match: re.Match[bytes]) -> bytes:
    byte: bytes = match.group()
    return _NAMED_ESCAPES.get(byte) or b"\\x%02x" % byte[0]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "replace")
