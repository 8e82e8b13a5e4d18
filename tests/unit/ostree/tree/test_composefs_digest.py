"""libostree's composefs digest: by which rules, and what becomes of a comparison."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from cfsctl.cli.app import cfsctl
from cfsctl.digest import Algorithm
from cfsctl.dumpfile import iter_dump
from cfsctl.errors import ExitCode
from cfsctl.gvariant import Variant
from cfsctl.ostree.objects import Dirmeta
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.store.refs import find_tag, open_commit
from cfsctl.ostree.tree.composefs_digest import (
    DIGEST_KEY,
    ComposefsDigestError,
    Verdict,
    check_composefs_digest,
    compute_composefs_digest,
    make_libostree_tree,
)
from tests.fakes.ostree_repository import FakeOstreeRepository, Tree
from tests.support.programs import c_program
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import Checksum
    from cfsctl.repository import Repository

TREE: Tree = {
    "usr": {"bin": {"tool": b"#!/bin/sh\n" * 50, "link": "tool", "small": b"s"}, "empty": b""},
    "a": b"the same content" * 10,
    "b": b"the same content" * 10,
    "large": bytes(range(256)) * 300,
}


@pytest.fixture(params=list(Algorithm), ids=lambda algorithm: algorithm.hash_name)
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Repository]:
    with make_repository(tmp_path / "store", request.param) as repository:
        yield repository


def commit(fake: FakeOstreeRepository, digest: object = None, type_: str = "ay") -> Checksum:
    metadata = () if digest is None else ((DIGEST_KEY, Variant(type_, digest)),)  # type: ignore[arg-type]
    return fake.commit(TREE, "main", metadata=metadata)


def digest_of(repository: Repository, fake: FakeOstreeRepository) -> bytes:
    plain = commit(fake)
    pull(repository, fake, plain.hex(), PullOptions(workers=0))
    return compute_composefs_digest(open_commit(repository, plain), repository.objects)


def test_the_tree_is_that_of_libostree(repository: Repository) -> None:
    fake = FakeOstreeRepository()
    result = pull(repository, fake, commit(fake).hex(), PullOptions(workers=0))
    tree = make_libostree_tree(open_commit(repository, result.commit), repository.objects)
    text = b"".join(iter_dump(tree)).decode()
    lines = {line.split()[0]: line.split() for line in text.splitlines()}
    assert {"/boot", "/etc", "/sysroot", "/var", "/usr"} < lines.keys()
    file = fake.add_file(b"the same content" * 10).hex()
    for name in ("/a", "/b"):
        fields = lines[name]
        assert fields[3] == "1"  # A link count of its own
        assert fields[8] == f"{file[:2]}/{file[2:]}.file"
        assert len(fields[10]) == 64
    assert lines["/usr/empty"][8] == "-"
    assert lines["/usr/bin/small"][8].endswith(".file")
    assert lines["/usr/bin/link"][8] == "tool"


@pytest.mark.compat
def test_the_c_tool_makes_the_same_image(repository: Repository, tmp_path: Path) -> None:
    program = c_program("mkcomposefs")
    fake = FakeOstreeRepository()
    result = pull(repository, fake, commit(fake).hex(), PullOptions(workers=0))
    stream = open_commit(repository, result.commit)
    dump = b"".join(iter_dump(make_libostree_tree(stream, repository.objects)))
    (tmp_path / "dump").write_bytes(dump)
    done = subprocess.run(
        [
            program,
            "--from-file",
            "--print-digest-only",
            "--min-version=0",
            "--max-version=1",
            tmp_path / "dump",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == compute_composefs_digest(stream, repository.objects).hex()


def test_verdicts(repository: Repository) -> None:
    fake = FakeOstreeRepository()
    right = digest_of(repository, fake)
    cases: list[tuple[object, str, Verdict | None]] = [
        (None, "ay", None),
        (right, "ay", Verdict.MATCHES),
        (bytes(32), "ay", Verdict.DIFFERS),
        (right[:31], "ay", Verdict.INVALID),
        (right.hex(), "s", Verdict.INVALID),
    ]
    for digest, type_, verdict in cases:
        checksum = commit(fake, digest, type_)
        pull(repository, fake, checksum.hex(), PullOptions(workers=0))
        found = check_composefs_digest(open_commit(repository, checksum), repository.objects)
        assert (found and found.verdict) is verdict
        if verdict is Verdict.DIFFERS:
            assert found is not None
            assert found.computed == right.hex()


def test_every_change_of_the_tree_changes_the_digest(repository: Repository) -> None:
    fake = FakeOstreeRepository()
    found = set()
    trees: list[Tree] = [{"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": "1"}, {"a": {}}, {"usr": {}}]
    for tree in trees:
        checksum = fake.commit(tree)
        pull(repository, fake, checksum.hex(), PullOptions(workers=0))
        found.add(compute_composefs_digest(open_commit(repository, checksum), repository.objects))
    owned = fake.add_tree({"a": b"1"}, Dirmeta(1, 0, 0o40755, ((b"user.x\0", b"1"),)))
    checksum = fake.commit(owned)
    pull(repository, fake, checksum.hex(), PullOptions(workers=0))
    found.add(compute_composefs_digest(open_commit(repository, checksum), repository.objects))
    assert len(found) == 7


def test_a_required_digest(repository: Repository) -> None:
    fake = FakeOstreeRepository()
    right = digest_of(repository, fake)
    for digest, message in ((None, "expected one, found none"), (b"x" * 32, f"expected {right.hex()}")):
        commit(fake, digest)
        for _ in range(2):
            with pytest.raises(ComposefsDigestError, match=message) as caught:
                pull(repository, fake, "main", PullOptions(workers=0, requires_composefs_digest=True))
            assert caught.value.exit_code is ExitCode.POLICY
        assert find_tag(repository, "main") is None
    checksum = commit(fake, right)
    for _ in range(2):
        pull(repository, fake, "main", PullOptions(workers=0, requires_composefs_digest=True))
    assert find_tag(repository, "main") == checksum


def test_inspect_shows_the_verdict(repository: Repository) -> None:
    fake = FakeOstreeRepository()
    right = digest_of(repository, fake)
    lines = []
    for digest in (right, bytes(32)):
        checksum = commit(fake, digest)
        pull(repository, fake, checksum.hex(), PullOptions(workers=0))
        outcome = CliRunner().invoke(cfsctl, ["--repo", repository.path, "ostree", "inspect", checksum.hex()])
        lines += [line for line in outcome.stdout.splitlines() if line.startswith("digest ")]
    assert lines == [
        f"digest  {right.hex()} matches",
        f"digest  {bytes(32).hex()} differs, the tree gives {right.hex()}",
    ]
