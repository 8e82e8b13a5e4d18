"""The entries of one layer as lines of a dump, in their order: nothing is merged, and whiteouts are files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.dumpfile.format import escape_in_xattr, escape_value
from cfsctl.dumpfile.writer import DumpWriter
from cfsctl.oci.tar import EntryType
from cfsctl.oci.to_tree import make_node
from cfsctl.tree.model import Directory, FileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.oci.store.layers import StoredLayer

_DIRECTORY = 0o040000


def iter_layer_dump(layer: StoredLayer) -> Iterator[bytes]:
    """Yield a line for each entry.

    Raises:
        FormatError: The layer is damaged, or has what no tree can have; what came before has been delivered.
    """
    for entry, object_id in layer.entries():
        path = _absolute(entry.path)
        if entry.type == EntryType.HARD_LINK:
            target = escape_value(_absolute(entry.link_target))
            yield f"{escape_value(path)} 0 @120000 - - - - 0.0 {target} - -\n".encode()
            continue
        node = make_node(entry, object_id)
        if isinstance(node, Directory):
            yield _directory_line(path, node)
        else:
            # Of its own, since a writer remembers attributes by identity.
            yield from DumpWriter(FileSystem(Directory(0))).iter_node(node, path)


def _absolute(path: bytes) -> bytes:
    return (b"/" + path.removeprefix(b"/")).rstrip(b"/")


def _directory_line(path: bytes, node: Directory) -> bytes:
    xattrs = "".join(
        f" {escape_in_xattr(name)}={escape_in_xattr(node.xattrs[name])}" for name in sorted(node.xattrs)
    )
    return (
        f"{escape_value(path)} 0 {_DIRECTORY | node.mode:o} 1 {node.uid} {node.gid} 0 "
        f"{node.mtime_s}.{node.mtime_ns} - - -{xattrs}\n"
    ).encode()
