from __future__ import annotations

import stat

import pytest

from cfsctl.digest import ObjectID
from cfsctl.tree import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    InlineFile,
    Leaf,
    Socket,
    SparseFile,
    Symlink,
)
from cfsctl.tree.model import NO_XATTRS


@pytest.mark.parametrize(
    ("node", "file_type"),
    [
        (Directory(0o755), stat.S_IFDIR),
        (InlineFile(b"x", 0o644), stat.S_IFREG),
        (ExternalFile(ObjectID(bytes(32)), 100, 0o644), stat.S_IFREG),
        (SparseFile(100, 0o644), stat.S_IFREG),
        (Symlink(b"target", 0o777), stat.S_IFLNK),
        (CharDevice(0x103, 0o666), stat.S_IFCHR),
        (BlockDevice(0x801, 0o660), stat.S_IFBLK),
        (Fifo(0o600), stat.S_IFIFO),
        (Socket(0o755), stat.S_IFSOCK),
    ],
)
def test_the_class_of_a_node_is_its_file_type(node: Directory | Leaf, file_type: int) -> None:
    assert node.file_type == file_type
    assert not stat.S_IFMT(node.mode)


def test_metadata_defaults_to_root_and_the_epoch() -> None:
    node = InlineFile(b"", 0o600)
    assert (node.uid, node.gid, node.mtime_s, node.mtime_ns, node.xattrs) == (0, 0, 0, 0, NO_XATTRS)


def test_the_shared_empty_attributes_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        NO_XATTRS[b"user.a"] = b""  # type: ignore[index]  # what the test is about


def test_nodes_take_no_stray_attributes() -> None:
    with pytest.raises(AttributeError):
        Directory(0o755).sise = 3  # type: ignore[attr-defined]  # what the test is about
