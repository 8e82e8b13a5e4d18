"""Commits that we make and repositories that we write, against the real client."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from cfsctl.cli.app import cfsctl
from cfsctl.errors import DigestMismatchError, ExitCode
from cfsctl.ostree.exchange.export import export_commit
from cfsctl.ostree.objects import OstreeObjectError
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.sources.local_lock import RepositoryInUseError
from cfsctl.ostree.sources.local_repository import UnsupportedModeError
from tests.compat.test_ostree_modes import REF, add_what_not_all_modes_hold, make_source, make_tree
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import flip_bit, make_repository, object_file

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.digest import Checksum
    from cfsctl.repository import Repository

pytestmark = pytest.mark.compat

TIME = "--timestamp=@1700000000"
PLAIN = ("--owner-uid=0", "--owner-gid=0", "--no-xattrs")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    require_ostree()
    make_tree(tmp_path / "tree")
    (tmp_path / "tree" / "hard").hardlink_to(tmp_path / "tree" / "large")
    return tmp_path / "tree"


def run(store: Path, *arguments: str, status: int = 0) -> str:
    outcome = CliRunner().invoke(cfsctl, ["--repo", str(store), *arguments], standalone_mode=False)
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert (outcome.return_value or 0) == status, outcome.output
    return outcome.stdout


def commit_both(tmp_path: Path, tree: Path, ours: list[str], theirs: list[str]) -> tuple[str, str]:
    make_repository(tmp_path / "store").close()
    store = tmp_path / "store"
    run(store, "create-image", str(tree), "image", "--no-propagate-usr-to-root", "--xattrs=keep-user-xattrs")
    lines = run(store, "ostree", "commit", "image", *ours).splitlines()
    assert lines[0].startswith("commit  ")
    assert lines[1].startswith("verity  ")
    run_ostree(tmp_path / "theirs", "init", "--mode=archive")
    return lines[0].split()[1], run_ostree(
        tmp_path / "theirs", "commit", f"--tree=dir={tree}", *theirs
    ).strip()


@pytest.mark.parametrize(
    "shared",
    [
        [TIME],
        ["--timestamp=2024-02-29T12:00:00Z", "--subject=sübject", "--body=line\n\nmore\n"],
        [TIME, "--add-metadata-string=version=1.2", "--add-metadata-string=a=ü", "-s", "x"],
        [TIME, "--owner-uid=7", "--owner-gid=2147483647"],
        [TIME, "--no-xattrs"],
    ],
    ids=["bare", "texts", "metadata", "owner", "without attributes"],
)
def test_the_commit_is_the_one_that_the_client_makes(tmp_path: Path, tree: Path, shared: list[str]) -> None:
    os.setxattr(tree / "usr", "user.b", b"2")
    os.setxattr(tree / "usr", "user.a", b"1")
    os.setxattr(tree / "small", "user.empty", b"")
    (tree / "usr" / "bin" / "tool").chmod(0o4711)
    (tree / "empty directory").mkdir(mode=0o1777)
    ours, theirs = commit_both(
        tmp_path, tree, ["--reference=my/branch", *shared], ["--branch=my/branch", *shared]
    )
    assert ours == theirs
    assert run(tmp_path / "store", "ostree", "log", "my/branch") == run_ostree(
        tmp_path / "theirs", "log", "my/branch"
    )


def test_parent_and_no_ref(tmp_path: Path, tree: Path) -> None:
    first = ["--reference=b", TIME]
    ours, theirs = commit_both(tmp_path, tree, first, ["--branch=b", TIME])
    assert ours == theirs
    second = run(
        tmp_path / "store", "ostree", "commit", "image", "--parent=b", TIME, "--subject=2"
    ).splitlines()
    expected = run_ostree(
        tmp_path / "theirs",
        "commit",
        "--orphan",
        "--no-bindings",
        f"--parent={theirs}",
        TIME,
        "--subject=2",
        f"--tree=dir={tree}",
    )
    assert second[0] == f"commit  {expected.strip()}"
    assert len(second) == 2
    history = run(tmp_path / "store", "ostree", "log", expected.strip())
    assert history == run_ostree(tmp_path / "theirs", "log", expected.strip())
    run(tmp_path / "store", "ostree", "tag", expected.strip(), "kept")
    run(tmp_path / "store", "ostree", "untag", "b")
    run(tmp_path / "store", "gc")
    assert run(tmp_path / "store", "ostree", "log", "kept").endswith(
        "\n\n<< History beyond this commit not fetched >>\n"
    )


def test_what_no_commit_holds_is_named(tmp_path: Path, tree: Path) -> None:
    make_repository(tmp_path / "store").close()
    os.mkfifo(tree / "usr" / "pipe")
    run(tmp_path / "store", "create-image", str(tree), "image", "--no-propagate-usr-to-root")
    outcome = CliRunner().invoke(
        cfsctl,
        ["--repo", str(tmp_path / "store"), "ostree", "commit", "image", TIME, "--reference=x"],
        standalone_mode=False,
    )
    assert outcome.return_value is ExitCode.PARTIAL
    assert outcome.stderr.startswith("cfsctl: /usr/pipe: skipped")
    assert "/usr/pipe" not in run(tmp_path / "store", "ostree", "dump", "x")


def stored(repository: Repository, source: Path, ref: str = REF) -> Checksum:
    return pull(repository, LocalSource(str(source)), ref, PullOptions(workers=0)).commit


@pytest.mark.parametrize("mode", ["archive", "bare", "bare-user", "bare-user-only"])
def test_an_exported_commit_is_what_the_client_would_have(tmp_path: Path, tree: Path, mode: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    options: tuple[str, ...] = PLAIN
    if mode != "bare-user-only":
        add_what_not_all_modes_hold(tree)
        options = ()
    make_source(source, "archive", tree, *options, "--add-detached-metadata-string=note=kept")
    run_ostree(target, "init", f"--mode={mode}")
    old = os.umask(0o077)
    try:
        with make_repository(tmp_path / "store") as repository:
            checksum = stored(repository, source)
            export_commit(repository, checksum, str(target), "a/b")
            before = {path: path.lstat().st_ino for path in target.glob("objects/*/*")}
            export_commit(repository, checksum, str(target))
    finally:
        os.umask(old)
    kept = {path: path.lstat().st_ino for path in target.glob("objects/*/*")}
    assert {p: i for p, i in kept.items() if p.suffix != ".commitmeta"} == {
        p: i for p, i in before.items() if p.suffix != ".commitmeta"
    }
    run_ostree(target, "fsck", "--quiet")
    assert run_ostree(target, "rev-parse", "a/b").strip() == checksum.hex()
    note = run_ostree(target, "show", "--print-detached-metadata-key=note", "a/b")
    assert note == "'kept'\n"
    assert not list((target / "state").iterdir())
    assert not list((target / "tmp").glob(".tmp*"))
    run_ostree(tmp_path / "theirs", "init", f"--mode={mode}")
    run_ostree(tmp_path / "theirs", "pull-local", str(source), REF)
    assert listing(target) == listing(tmp_path / "theirs")


def listing(path: Path) -> dict[str, tuple[int, int, int, int | str, bytes | None]]:
    """Describe every object: mode, owner, content; deflated content may differ."""
    found = {}
    for file in path.glob("objects/*/*"):
        status = file.lstat()
        what: int | str = str(file.readlink()) if file.is_symlink() else status.st_size
        if file.suffix == ".filez":
            what = 0
        meta = None
        if not file.is_symlink() and "user.ostreemeta" in os.listxattr(file):
            meta = os.getxattr(file, "user.ostreemeta")
        found[str(file.relative_to(path))] = (status.st_mode, status.st_uid, status.st_gid, what, meta)
    return found


def test_bare_user_only_takes_what_it_can_hold(tmp_path: Path, tree: Path) -> None:
    (tree / "usr" / "bin" / "tool").chmod(0o4755)
    make_source(tmp_path / "source", "archive", tree, *PLAIN)
    target = tmp_path / "target"
    run_ostree(target, "init", "--mode=bare-user-only")
    with make_repository(tmp_path / "store") as repository:
        checksum = stored(repository, tmp_path / "source")
        with pytest.raises(OstreeObjectError, match=r"expected permissions within 0775, found 0o4755"):
            export_commit(repository, checksum, str(target))
    assert not list(target.glob("objects/*/*"))
    assert not list((target / "state").iterdir())


def test_split_repositories_are_not_written(tmp_path: Path, tree: Path) -> None:
    make_source(tmp_path / "source", "archive", tree)
    target = tmp_path / "target"
    run_ostree(target, "init", "--mode=bare")
    config = (target / "config").read_text().replace("mode=bare\n", "mode=bare-split-xattrs\n")
    (target / "config").write_text(config)
    with make_repository(tmp_path / "store") as repository:
        checksum = stored(repository, tmp_path / "source")
        with pytest.raises(UnsupportedModeError):
            export_commit(repository, checksum, str(target))


@pytest.mark.parametrize("mode", ["archive", "bare-user"])
def test_damaged_content_is_not_exported_and_the_next_export_ends_it(
    tmp_path: Path, tree: Path, mode: str
) -> None:
    make_source(tmp_path / "source", "archive", tree, *PLAIN)
    target = tmp_path / "target"
    run_ostree(target, "init", f"--mode={mode}")
    with make_repository(tmp_path / "store") as repository:
        result = pull(repository, LocalSource(str(tmp_path / "source")), REF, PullOptions(workers=0))
        image_objects = repository.images.objects(result.image_id.hex())
        largest = max(image_objects, key=lambda one: object_file(repository, one).stat().st_size)
        flip_bit(object_file(repository, largest), 1000)
        with pytest.raises(DigestMismatchError, match=r"^file object"):
            export_commit(repository, result.commit, str(target), "main")
        partial = target / "state" / f"{result.commit.hex()}.commitpartial"
        assert partial.exists()
        assert not list(target.glob("objects/*/*.commit"))
        assert not list((target / "refs" / "heads").iterdir())
        flip_bit(object_file(repository, largest), 1000)
        export_commit(repository, result.commit, str(target), "main")
        assert not partial.exists()
    run_ostree(target, "fsck", "--quiet")


def test_a_tombstone_goes_away(tmp_path: Path, tree: Path) -> None:
    source = tmp_path / "source"
    first = make_source(source, "archive", tree)
    with make_repository(tmp_path / "store") as repository:
        checksum = stored(repository, source)
        (tree / "more").touch()
        run_ostree(source, "commit", f"--branch={REF}", f"--tree=dir={tree}")
        run_ostree(source, "config", "set", "core.tombstone-commits", "true")
        run_ostree(source, "prune", f"--delete-commit={first}")
        assert list(source.glob("objects/*/*.tombstone-commit"))
        export_commit(repository, checksum, str(source))
    assert not list(source.glob("objects/*/*.tombstone-commit"))
    run_ostree(source, "fsck", "--quiet")


def test_a_repository_that_is_being_pruned(tmp_path: Path, tree: Path) -> None:
    make_source(tmp_path / "source", "archive", tree)
    target = tmp_path / "target"
    run_ostree(target, "init", "--mode=archive")
    run_ostree(target, "config", "set", "core.lock-timeout-secs", "1")
    program = (
        "import fcntl, os, struct, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT);"
        "fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, struct.pack('@hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0));"
        "print(flush=True); sys.stdin.read()"
    )
    with (
        make_repository(tmp_path / "store") as repository,
        subprocess.Popen(
            ["python3", "-c", program, str(target / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder,
    ):
        checksum = stored(repository, tmp_path / "source")
        assert holder.stdout
        holder.stdout.readline()
        try:
            with pytest.raises(RepositoryInUseError) as caught:
                export_commit(repository, checksum, str(target))
        finally:
            holder.communicate(b"")
        assert caught.value.exit_code is ExitCode.LOCKED
        export_commit(repository, checksum, str(target))
