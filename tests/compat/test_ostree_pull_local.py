"""What the real client commits to an archive repository, pulled and read back."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.erofs.read.tree import read_image
from cfsctl.errors import ObjectMissingError
from cfsctl.ostree.objects import ObjectKind, loose_path
from cfsctl.ostree.pull.pull import pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.store.images import commit_tree
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, InlineFile, Leaf, Symlink
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from cfsctl.repository import Repository

pytestmark = pytest.mark.compat

REF = "os/x86_64/main"
ODD_NAMES = ("a b", "new\nline", "\x1b[31m", "dünn", "%2F", "-rf", "back\\slash", "x" * 255)

Entry = tuple[str, int, bytes, dict[bytes, bytes]]
"""Kind, mode, content's digest or target, attributes."""


def make_tree(root: Path) -> None:
    """Make everything that OSTree can hold and that needs no privilege."""
    files = {
        "empty": b"",
        "64": b"x" * 64,
        "65": b"x" * 65,
        "128": b"y" * 128,
        "129": b"y" * 129,
        "page": bytes(4096),
        "large": os.urandom(3_000_000) + bytes(9_000_000),
        "usr/bin/su": b"\x7fELF setuid",
        "usr/bin/tool": b"#!/bin/sh\n" * 100,
        "usr/share/doc/secret": b"0400",
    }
    files |= {f"odd/{name}": name.encode() for name in ODD_NAMES}
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "usr/bin/su").chmod(0o4755)
    (root / "usr/bin/tool").chmod(0o755)
    (root / "usr/share/doc/secret").chmod(0o400)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "hard").hardlink_to(root / "large")
    (root / "link").symlink_to("usr/bin")
    (root / "dangling").symlink_to("/nowhere/" + "x" * 2000)
    (root / "odd" / "link\n").symlink_to("new\nline")


def add_attributes(root: Path) -> None:
    """Add attributes, or skip where the file system has none."""
    try:
        os.setxattr(root / "usr/bin/tool", "user.one", b"1")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    os.setxattr(root / "usr/bin/tool", "user.binary", bytes(range(256)))
    os.setxattr(root / "large", "user.large", b"z" * 1000)
    os.setxattr(root / "sticky", "user.dir", b"d")


def describe_directory(root: Path) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for base, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = Path(base) / name
            mode = path.lstat().st_mode
            names = os.listxattr(path, follow_symlinks=False)
            xattrs = {
                key.encode(): os.getxattr(path, key, follow_symlinks=False)
                for key in names
                if key.startswith("user.")
            }
            if stat.S_ISLNK(mode):
                entry = ("link", 0o777, os.fsencode(path.readlink()), xattrs)
            elif stat.S_ISDIR(mode):
                entry = ("directory", mode & 0o7777, b"", xattrs)
            else:
                entry = ("file", mode & 0o7777, hashlib.sha256(path.read_bytes()).digest(), xattrs)
            found[str(path.relative_to(root))] = entry
    return found


def describe_tree(repository: Repository, filesystem: FileSystem) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    pending = [("", filesystem.root)]
    while pending:
        prefix, directory = pending.pop()
        for name, node in directory.entries.items():
            path = prefix + os.fsdecode(name)
            found[path] = describe_node(repository, node)
            if isinstance(node, Directory):
                pending.append((path + "/", node))
    return found


def describe_node(repository: Repository, node: Directory | Leaf) -> Entry:
    assert (node.uid, node.gid, node.mtime_s, node.mtime_ns) == (0, 0, 0, 0)
    xattrs = {key: value for key, value in node.xattrs.items() if key.startswith(b"user.")}
    if isinstance(node, Directory):
        return "directory", node.mode, b"", xattrs
    if isinstance(node, Symlink):
        return "link", node.mode, node.target, xattrs
    if isinstance(node, InlineFile):
        return "file", node.mode, hashlib.sha256(node.data).digest(), xattrs
    assert isinstance(node, ExternalFile)
    content = repository.objects.read(node.object_id)
    assert len(content) == node.size
    return "file", node.mode, hashlib.sha256(content).digest(), xattrs


def commit(source: Path, tree: Path, *options: str) -> str:
    arguments = ["commit", f"--branch={REF}", "--owner-uid=0", "--owner-gid=0", *options]
    return run_ostree(source, *arguments, f"--tree=dir={tree}").strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    require_ostree()
    run_ostree(tmp_path / "source", "init", "--mode=archive")
    return tmp_path / "source"


@pytest.mark.parametrize("with_attributes", [True, False])
def test_the_tree_is_the_one_that_was_committed(
    tmp_path: Path,
    source: Path,
    with_attributes: bool,  # noqa: FBT001 - a parameter
) -> None:
    make_tree(tmp_path / "tree")
    if with_attributes:
        add_attributes(tmp_path / "tree")
    commit_id = commit(source, tmp_path / "tree", *([] if with_attributes else ["--no-xattrs"]))
    expected = describe_directory(tmp_path / "tree")
    with make_repository(tmp_path / "store") as repository:
        result = pull(repository, LocalSource(str(source)), REF)
        assert result.commit.hex() == commit_id
        assert result.files_fetched == sum(1 for _ in source.glob("objects/*/*.filez"))
        assert describe_tree(repository, commit_tree(repository, result.commit)) == expected
        with repository.images.map(result.image_id.hex()) as data:
            assert describe_tree(repository, read_image(data, repository.algorithm)) == expected


def test_an_update_fetches_what_changed_and_a_damaged_object_is_mended(tmp_path: Path, source: Path) -> None:
    make_tree(tmp_path / "tree")
    commit(source, tmp_path / "tree", "--timestamp=2024-01-01T00:00:00Z")
    with make_repository(tmp_path / "store") as repository:
        local = LocalSource(str(source))
        pull(repository, local, REF)
        before = set(source.glob("objects/*/*"))
        (tmp_path / "tree/usr/bin/new").write_bytes(b"new " * 1000)
        commit(source, tmp_path / "tree", "--timestamp=2024-01-02T00:00:00Z")
        added = [path.name.partition(".")[2] for path in set(source.glob("objects/*/*")) - before]
        (file,) = (path for path in set(source.glob("objects/*/*.filez")) - before)
        saved = file.read_bytes()
        file.unlink()
        with pytest.raises(ObjectMissingError):
            pull(repository, local, REF)
        file.write_bytes(saved)
        result = pull(repository, local, REF)
        assert (result.metadata_fetched, result.files_fetched) == (0, 1)
        assert sorted(added) == ["commit", "dirtree", "dirtree", "dirtree", "filez"]
        tree = describe_tree(repository, commit_tree(repository, result.commit))
        assert tree == describe_directory(tmp_path / "tree")
        assert (source / loose_path(result.commit, ObjectKind.COMMIT)).exists()
