"""Commits that composefs-rs makes of images of attributes or devices are readable, but not passed on."""

from __future__ import annotations

import hashlib
import stat
import struct
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, Checksum
from cfsctl.dumpfile import iter_dump
from cfsctl.gvariant.framing import format_offsets
from cfsctl.kinds.checks import content_checks
from cfsctl.ostree.exchange.copy import copy_commit
from cfsctl.ostree.exchange.export import export_commit
from cfsctl.ostree.objects import OstreeObjectError, parse_dirmeta, parse_zlib_file_header
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.ostree.store.publish import name_commit, store_images
from cfsctl.ostree.store.refs import open_commit, stream_name
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.repository.check.fsck import check_repository
from tests.support.commits import CommitMaker
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.repository import Repository

XATTRS = b"user.ab\x06\x08"
"""One attribute, user.a=b, as composefs-rs writes it."""


class UpstreamMaker(CommitMaker):
    """Writes what the original's `commit` writes."""

    def entry(self, mode: int, xattrs: bytes = b"", content: bytes = b"", rdev: int = 0) -> Checksum:
        start = struct.pack(">IIII", 0, 0, mode, rdev) + b"\0"
        regular, stored = (
            size + start + xattrs + format_offsets(len(size + start + xattrs), (len(size + start),))
            for size in (b"", struct.pack(">Q", len(content)))
        )
        frame = struct.Struct(">II")
        covered = frame.pack(len(regular), 0) + regular + content
        checksum = Checksum(hashlib.sha256(covered).digest())
        self.objects[checksum] = (frame.pack(len(stored), 0) + stored + content, None)
        return checksum

    def directory_meta(self, xattrs: bytes) -> Checksum:
        return self.add(struct.pack(">III", 0, 0, stat.S_IFDIR | 0o755) + xattrs)


CASES = {
    "attribute of a file": (stat.S_IFREG | 0o644, XATTRS, "/f 1 100644 1 0 0 0 0.0 - x - user.a=b"),
    "device": (stat.S_IFCHR | 0o666, b"", "/f 0 20666 1 0 0 0 0.0 - - -"),
    "block device": (stat.S_IFBLK | 0o660, b"", "/f 0 60660 1 0 0 0 0.0 - - -"),
    "fifo": (stat.S_IFIFO | 0o644, b"", "/f 0 10644 1 0 0 0 0.0 - - -"),
    "socket with an attribute": (
        stat.S_IFSOCK | 0o644,
        XATTRS,
        "/f 0 140644 1 0 0 0 0.0 - - - user.a=b",
    ),
    "attribute of a directory": (0, XATTRS, "/f 0 40755 2 0 0 0 0.0 - - - user.a=b"),
}


def store(repository: Repository, mode: int, xattrs: bytes) -> Checksum:
    maker = UpstreamMaker()
    if mode:
        file = maker.entry(mode, xattrs, b"x" if stat.S_ISREG(mode) else b"")
        root = maker.dirtree(files=[(b"f", file)])
    else:
        root = maker.dirtree(dirs=[(b"f", maker.dirtree(), maker.directory_meta(xattrs))])
    commit = maker.commit(root)
    name_bare(repository, commit, maker)
    images = store_images(repository, open_commit(repository, commit))
    name_commit(repository, commit, maker.objects, images)
    return commit


def name_bare(repository: Repository, commit: Checksum, maker: CommitMaker) -> None:
    """Name a commit without an image."""
    object_id = write_commit_stream(repository.objects, repository.algorithm, commit, maker.objects)
    repository.streams.link(stream_name(commit), object_id)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", Algorithm.SHA256) as opened:
        yield opened


@pytest.mark.parametrize(("mode", "xattrs", "line"), CASES.values(), ids=CASES)
def test_is_read_and_said(repository: Repository, mode: int, xattrs: bytes, line: str) -> None:
    commit = store(repository, mode, xattrs)
    notes: list[str] = []
    tree = commit_to_filesystem(open_commit(repository, commit), note=notes.append)
    assert line in b"".join(iter_dump(tree)).decode().splitlines()
    assert len(notes) == 1
    assert "composefs-rs" in notes[0]
    checks = content_checks(repository)
    assert check_repository(repository, deep=True, content_checks=checks).findings == []


@pytest.mark.parametrize(("mode", "xattrs", "_line"), CASES.values(), ids=CASES)
def test_is_not_passed_on(
    repository: Repository, tmp_path: Path, mode: int, xattrs: bytes, _line: str
) -> None:
    commit = store(repository, mode, xattrs)
    require_ostree()
    target = tmp_path / "ostree"
    target.mkdir()
    run_ostree(target, "init", "--mode=bare-user")
    with pytest.raises(OstreeObjectError, match="composefs-rs") as caught:
        export_commit(repository, commit, str(target), "main")
    assert "cfsctl ostree commit" in (caught.value.hint or "")
    assert run_ostree(target, "refs") == ""
    assert not list((target / "objects").rglob("*.*"))
    with make_repository(tmp_path / "other", Algorithm.SHA512) as other:
        with pytest.raises(OstreeObjectError, match="composefs-rs"):
            copy_commit(repository, other, commit)
        assert other.streams.list_streams() == []
    with make_repository(tmp_path / "alike", Algorithm.SHA256) as alike:
        copy_commit(repository, alike, commit)
        assert alike.streams.find(stream_name(commit)) is not None


def test_other_damage_is_refused(repository: Repository) -> None:
    """What composefs-rs would not write either: numbers of devices, devices with content, broken names."""
    maker = UpstreamMaker()
    bad = [
        maker.entry(stat.S_IFCHR | 0o666, rdev=0x103),
        maker.entry(stat.S_IFIFO | 0o644, content=b"x"),
        maker.entry(stat.S_IFDIR | 0o755),
        maker.entry(stat.S_IFREG | 0o644, b"us\0erb\x05\x07", b"x"),
    ]
    for file in bad:
        inner = UpstreamMaker()
        inner.objects[file] = maker.objects[file]
        commit = inner.commit(inner.dirtree(files=[(b"f", file)]))
        name_bare(repository, commit, inner)
        with pytest.raises(OstreeObjectError):
            commit_to_filesystem(open_commit(repository, commit))


def test_from_elsewhere_the_format_holds() -> None:
    maker = UpstreamMaker()
    with pytest.raises(OstreeObjectError):
        parse_zlib_file_header(maker.objects[maker.entry(stat.S_IFREG | 0o644, XATTRS, b"x")][0])
    with pytest.raises(OstreeObjectError):
        parse_dirmeta(maker.objects[maker.directory_meta(XATTRS)][0])
