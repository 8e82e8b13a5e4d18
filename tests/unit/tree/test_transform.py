"""The roots of containers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.errors import ExitCode
from cfsctl.scan import scan_container_root
from cfsctl.tree.model import Directory, FileSystem, InlineFile, Symlink
from cfsctl.tree.transform import TransformError, XattrFilter, apply_oci_transform

if TYPE_CHECKING:
    from pathlib import Path


def _container() -> tuple[FileSystem, Directory, Directory]:
    root = Directory(0o700, 1, 2, 3, 4, {b"user.root": b"1"})
    usr = Directory(0o2755, 5, 6, 7, 8, {b"user.usr": b"2", b"security.capability": b"c", b"trusted.t": b"3"})
    run = Directory(0o1777, 9, 10, 11, 12, {b"user.run": b"4"})
    run.entries[b"file"] = InlineFile(b"gone", 0o644)
    file = InlineFile(b"", 0o644, xattrs={b"security.selinux": b"label", b"user.f": b"5"})
    usr.entries[b"file"] = root.entries[b"link"] = file
    root.entries |= {b"usr": usr, b"run": run}
    return FileSystem(root), usr, run


@pytest.mark.parametrize("xattr_filter", XattrFilter)
def test_root_takes_over_usr_and_run_is_emptied(xattr_filter: XattrFilter) -> None:
    filesystem, usr, run = _container()
    apply_oci_transform(filesystem, xattr_filter)
    root = filesystem.root
    assert (root.mode, root.uid, root.gid, root.mtime_s, root.mtime_ns) == (0o2755, 5, 6, 7, 8)
    assert run.entries == {}
    assert (run.mode, run.uid, run.gid, run.mtime_s, run.mtime_ns) == (0o1777, 9, 10, 7, 8)
    keeps_user = xattr_filter is XattrFilter.KEEP_USER
    expected = {b"security.capability": b"c"} | ({b"user.usr": b"2"} if keeps_user else {})
    assert dict(usr.xattrs) == dict(root.xattrs) == expected
    assert dict(run.xattrs) == ({b"user.run": b"4"} if keeps_user else {})
    assert dict(usr.entries[b"file"].xattrs) == ({b"user.f": b"5"} if keeps_user else {})
    assert usr.entries[b"file"] is root.entries[b"link"]


def test_run_need_not_exist() -> None:
    filesystem, _, _ = _container()
    del filesystem.root.entries[b"run"]
    apply_oci_transform(filesystem, XattrFilter.ALLOWLIST_ONLY)
    assert b"run" not in filesystem.root.entries


@pytest.mark.parametrize("name", [b"usr", b"run"])
def test_directories_must_be_directories(name: bytes) -> None:
    filesystem, _, _ = _container()
    filesystem.root.entries[name] = Symlink(b"elsewhere", 0o777)
    with pytest.raises(TransformError, match=f'Directory entry "{name.decode()}" is not a subdirectory'):
        apply_oci_transform(filesystem, XattrFilter.ALLOWLIST_ONLY)


def test_usr_must_exist() -> None:
    with pytest.raises(TransformError, match='Directory entry "usr" does not exist') as caught:
        apply_oci_transform(FileSystem(Directory(0o755)), XattrFilter.ALLOWLIST_ONLY)
    assert caught.value.exit_code is ExitCode.NOT_FOUND
    assert caught.value.hint
    assert "--no-propagate-usr-to-root" in caught.value.hint


@pytest.mark.parametrize("propagate_usr", [True, False])
def test_scan_of_a_container(tmp_path: Path, *, propagate_usr: bool) -> None:
    for name in ("usr", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"content")
        os.utime(tmp_path / name, ns=(0, 5_000_000_007))
    root = scan_container_root(
        os.fspath(tmp_path), algorithm=Algorithm.SHA256, propagate_usr=propagate_usr, workers=0
    ).root
    run = root.entries[b"run"]
    assert isinstance(run, Directory)
    assert list(run.entries) == ([] if propagate_usr else [b"file"])
    assert ((root.mtime_s, root.mtime_ns) == (5, 7)) == propagate_usr
