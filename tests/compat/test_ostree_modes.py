"""Repositories that the real client made in every mode, pulled: one commit, one stream, one image."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import DigestMismatchError, ExitCode, ObjectMissingError
from cfsctl.ostree.objects import OstreeObjectError, format_xattrs
from cfsctl.ostree.pull.pull import PullOptions, PullResult, pull
from cfsctl.ostree.source import InvalidRefError
from cfsctl.ostree.sources.local import DeletedCommitError, LocalSource
from cfsctl.ostree.sources.local_files import read_xattrs
from cfsctl.ostree.sources.local_repository import NotAnOstreeRepositoryError
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.repository import Repository

pytestmark = pytest.mark.compat

MODES = ["archive", "bare", "bare-user", "bare-user-only", "bare-split-xattrs"]
REF = "os/x86_64/main"


def make_tree(root: Path) -> None:
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "empty").touch()
    (root / "small").write_bytes(b"x" * 64)
    (root / "large").write_bytes(os.urandom(3_000_000))
    (root / "usr" / "bin" / "tool").write_bytes(b"#!/bin/sh\n" * 100)
    (root / "usr" / "bin" / "tool").chmod(0o755)
    (root / "link").symlink_to("usr/bin/tool")
    (root / "dangling").symlink_to("/nowhere/" + "x" * 2000)


def add_what_not_all_modes_hold(root: Path) -> None:
    """Add owners, modes and attributes; skip where that needs root or another file system."""
    if os.getuid():
        pytest.skip("bare repositories with owners need root")
    (root / "usr" / "bin" / "su").write_bytes(b"\x7fELF setuid")
    os.chown(root / "usr" / "bin" / "su", 12, 34)
    (root / "usr" / "bin" / "su").chmod(0o4755)
    os.chown(root / "link", 56, 78, follow_symlinks=False)
    try:
        os.setxattr(root / "usr/bin/tool", "user.two", b"2")
        os.setxattr(root / "usr/bin/tool", "user.a", bytes(range(256)))
        os.setxattr(root / "link", "trusted.label", b"of a link", follow_symlinks=False)
        os.setxattr(root / "usr", "user.dir", b"d")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")


def make_split(bare: Path, split: Path) -> None:
    """Take the attributes out of a copy of a bare repository, into objects of their own."""
    subprocess.run(["cp", "-a", str(bare), str(split)], check=True)
    config = (split / "config").read_text()
    (split / "config").write_text(config.replace("mode=bare\n", "mode=bare-split-xattrs\n"))
    for file in sorted(split.glob("objects/*/*.file")):
        pairs = []
        for name in sorted(os.listxattr(file, follow_symlinks=False)):
            pairs.append((name.encode() + b"\0", os.getxattr(file, name, follow_symlinks=False)))
            os.removexattr(file, name, follow_symlinks=False)
        file.with_suffix(".file-xattrs-link").write_bytes(format_xattrs(pairs))


def make_source(path: Path, mode: str, tree: Path, *options: str) -> str:
    """Commit a tree to a new repository; return the commit's ID."""
    if mode == "bare-split-xattrs":
        commit_id = make_source(path.with_name("bare-first"), "bare", tree, *options)
        make_split(path.with_name("bare-first"), path)
        return commit_id
    run_ostree(path, "init", f"--mode={mode}")
    return run_ostree(
        path, "commit", f"--branch={REF}", "--timestamp=@1700000000", f"--tree=dir={tree}", *options
    ).strip()


def pull_all(repository: Repository, path: Path, ref: str = REF) -> PullResult:
    source = LocalSource(str(path))
    try:
        return pull(repository, source, ref, PullOptions(workers=0))
    finally:
        source.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    require_ostree()
    make_tree(tmp_path / "tree")
    return tmp_path / "tree"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_rich", [True, False], ids=["rich", "plain"])
def test_the_mode_of_the_repository_makes_no_difference(
    tmp_path: Path, tree: Path, mode: str, *, is_rich: bool
) -> None:
    if is_rich and mode == "bare-user-only":
        pytest.skip("holds neither owners nor attributes")
    options = [] if is_rich else ["--owner-uid=0", "--owner-gid=0", "--no-xattrs"]
    if is_rich:
        add_what_not_all_modes_hold(tree)
    expected = make_source(tmp_path / "archive-repo", "archive", tree, *options)
    if mode == "bare-user-only":
        (tree / "empty").chmod(0o644)
    with make_repository(tmp_path / "one") as one, make_repository(tmp_path / "two") as two:
        first = pull_all(one, tmp_path / "archive-repo")
        assert make_source(tmp_path / "source", mode, tree, *options) == expected
        second = pull_all(two, tmp_path / "source")
        assert first.commit.hex() == second.commit.hex() == expected
        assert second.files_fetched == first.files_fetched
        assert (second.stream_id, second.image_id) == (first.stream_id, first.image_id)


@pytest.mark.parametrize("mode", ["bare", "bare-user", "bare-user-only", "bare-split-xattrs"])
@pytest.mark.parametrize("damage", ["content", "mode", "size", "target"])
def test_damage_is_noticed(tmp_path: Path, tree: Path, mode: str, damage: str) -> None:
    source = tmp_path / "source"
    make_source(source, mode, tree, "--owner-uid=0", "--owner-gid=0", "--no-xattrs")
    large = max(source.glob("objects/*/*.file"), key=lambda path: path.lstat().st_size)
    match damage:
        case "content":
            with large.open("r+b") as stream:
                stream.seek(1000)
                stream.write(b"~~~~")
        case "size":
            with large.open("ab") as stream:
                stream.write(b"more")
        case "mode" if mode == "bare-user":
            meta = bytearray(os.getxattr(large, "user.ostreemeta"))
            meta[-1] ^= 1
            os.setxattr(large, "user.ostreemeta", bytes(meta))
        case "mode":
            large.chmod(0o600)
        case "target" if mode == "bare-user":
            (link,) = (f for f in source.glob("objects/*/*.file") if f.read_bytes() == b"usr/bin/tool\0")
            link.write_bytes(b"usr/bin/TOOL\0")
        case _:
            (link,) = (
                f
                for f in source.glob("objects/*/*.file")
                if f.is_symlink() and str(f.readlink()) == "usr/bin/tool"
            )
            link.unlink()
            link.symlink_to("usr/bin/TOOL")
    with make_repository(tmp_path / "store") as repository, pytest.raises(DigestMismatchError) as caught:
        pull_all(repository, source)
    assert caught.value.exit_code is ExitCode.INVALID_DATA
    assert "file object" in str(caught.value)


def test_what_bare_user_needs_beside_the_content(tmp_path: Path, tree: Path) -> None:
    source = tmp_path / "source"
    make_source(source, "bare-user", tree)
    file = next(iter(source.glob("objects/*/*.file")))
    for meta, message in {
        b"short": "expected at least 12 bytes, found 5",
        b"\0" * 12: "expected a regular file or symbolic link",
        b"\0\0\0\0\0\0\0\0\0\0\x81\xa4\x01": "file object ",
    }.items():
        os.setxattr(file, "user.ostreemeta", meta)
        with make_repository(tmp_path / "store") as repository, pytest.raises(OstreeObjectError) as caught:
            pull_all(repository, source)
        assert message in str(caught.value)
        assert file.name.partition(".")[0] in str(caught.value)
        shutil.rmtree(tmp_path / "store")
    os.removexattr(file, "user.ostreemeta")
    with (
        make_repository(tmp_path / "store") as repository,
        pytest.raises(OstreeObjectError, match=r"attribute user\.ostreemeta: expected one, found none"),
    ):
        pull_all(repository, source)


def test_objects_and_refs_of_parents_count(tmp_path: Path, tree: Path) -> None:
    base = tmp_path / "base"
    options = ("--owner-uid=0", "--owner-gid=0", "--no-xattrs")
    first = make_source(base, "bare-user", tree, *options)
    child = tmp_path / "child"
    run_ostree(child, "init", "--mode=archive")
    with (child / "config").open("a") as stream:
        stream.write(f"parent={base}\n")
    (tree / "new").write_bytes(b"only in the child" * 100)
    second = run_ostree(child, "commit", "--branch=new", f"--tree=dir={tree}", *options).strip()
    for file in child.glob("objects/*/*"):
        in_base = base / "objects" / file.parent.name / file.name.replace(".filez", ".file")
        if in_base.exists():
            file.unlink()
    assert len(list(child.glob("objects/*/*.filez"))) == 1
    with make_repository(tmp_path / "store") as repository:
        assert pull_all(repository, child, "new").commit.hex() == second
        assert pull_all(repository, child, REF).commit.hex() == first
    with (base / "config").open("a") as stream:
        stream.write(f"parent={child}\n")
    with pytest.raises(NotAnOstreeRepositoryError, match="chain of at most 16 parent"):
        LocalSource(str(child))


def test_refs_that_the_client_pulled_and_mirrored(tmp_path: Path, tree: Path) -> None:
    upstream = tmp_path / "upstream"
    run_ostree(upstream, "init", "--mode=archive", "--collection-id=org.example.Os")
    ids = [
        run_ostree(upstream, "commit", f"--branch={ref}", f"--subject={ref}", f"--tree=dir={tree}").strip()
        for ref in ("one", "two")
    ]
    run_ostree(upstream, "summary", "--update")
    middle = tmp_path / "middle"
    run_ostree(middle, "init", "--mode=archive")
    run_ostree(middle, "remote", "add", "--no-gpg-verify", "origin", f"file://{upstream}")
    run_ostree(middle, "pull", "origin", "one")
    run_ostree(middle, "config", "set", 'remote "origin".collection-id', "org.example.Os")
    run_ostree(middle, "pull", "--mirror", "origin", "two")
    places = {
        "origin:one": ids[0],
        "one": ids[0],
        "origin/one": ids[0],
        "remotes/origin/one": ids[0],
        "org.example.Os:one": ids[0],
        "two": ids[1],
        "org.example.Os:two": ids[1],
        "mirrors/org.example.Os/two": ids[1],
    }
    source = LocalSource(str(middle))
    assert {name: source.resolve_ref(name).hex() for name in places} == places
    assert LocalSource(str(upstream)).resolve_ref("org.example.Os:one").hex() == ids[0]
    assert list(LocalSource(str(upstream)).list_refs()) == ["one", "ostree-metadata", "two"]
    other = middle / "refs" / "remotes" / "other"
    other.mkdir()
    (other / "one").write_text(ids[1])
    with pytest.raises(InvalidRefError, match="remotes/origin/one, remotes/other/one"):
        source.resolve_ref("one")


def test_a_partial_commit_says_so(tmp_path: Path, tree: Path) -> None:
    upstream, middle = tmp_path / "upstream", tmp_path / "middle"
    commit_id = make_source(upstream, "archive", tree)
    run_ostree(middle, "init", "--mode=archive")
    run_ostree(middle, "pull-local", "--commit-metadata-only", str(upstream), commit_id)
    with make_repository(tmp_path / "store") as repository:
        with pytest.raises(ObjectMissingError, match=r"^dir(tree|meta) object") as caught:
            pull_all(repository, middle, commit_id)
        hint = caught.value.hint or ""
        assert hint.startswith(f"commit {commit_id} is partial in {middle}: a pull of it was partial")
        run_ostree(middle, "pull-local", str(upstream), commit_id)
        next(iter(middle.glob("objects/*/*.filez"))).unlink()
        (middle / "state" / f"{commit_id}.commitpartial").write_text("f")
        with pytest.raises(ObjectMissingError, match=r"^file object") as caught:
            pull_all(repository, middle, commit_id)
        assert "`ostree fsck` found it damaged" in (caught.value.hint or "")


def test_a_deleted_commit_says_so(tmp_path: Path, tree: Path) -> None:
    source = tmp_path / "source"
    first = make_source(source, "archive", tree)
    (tree / "more").touch()
    run_ostree(source, "commit", f"--branch={REF}", f"--tree=dir={tree}")
    run_ostree(source, "config", "set", "core.tombstone-commits", "true")
    run_ostree(source, "prune", f"--delete-commit={first}")
    with (
        make_repository(tmp_path / "store") as repository,
        pytest.raises(DeletedCommitError, match=f"^commit {first} was deleted from {source}$") as caught,
    ):
        pull_all(repository, source, first)
    assert caught.value.exit_code is ExitCode.NOT_FOUND


def test_attributes_are_read_as_the_client_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert read_xattrs(str(file)) == ()
    try:
        for name, value in {"user.b": b"2", "user.a": b"1", "user.empty": b""}.items():
            os.setxattr(file, name, value)
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    assert read_xattrs(str(file)) == ((b"user.a\0", b"1"), (b"user.b\0", b"2"))
