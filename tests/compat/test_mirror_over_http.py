"""A repository of the real client behind nginx: mirrored, with its detached metadata, and written again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from cfsctl.cli.app import cfsctl
from cfsctl.errors import ExitCode
from tests.compat.test_ostree_modes import make_tree
from tests.support.nginx import run_nginx
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.compat


def run(store: Path, *arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(cfsctl, ["--repo", str(store), *arguments], standalone_mode=False)
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.return_value or 0, outcome.stdout


def test_a_mirror_of_a_server_comes_out_as_it_went_in(tmp_path: Path) -> None:
    require_ostree()
    make_tree(tmp_path / "tree")
    source, store, target = tmp_path / "source", tmp_path / "store", tmp_path / "target"
    run_ostree(source, "init", "--mode=archive")
    commits = {}
    for ref in ("a", "b/c", "b/d"):
        (tmp_path / "tree" / "ref").write_text(ref * 100)
        commits[ref] = run_ostree(
            source,
            "commit",
            f"--branch={ref}",
            f"--add-detached-metadata-string=note=of {ref}",
            f"--tree=dir={tmp_path / 'tree'}",
        ).strip()
    run_ostree(source, "summary", "--update")
    make_repository(store).close()
    (tmp_path / "nginx").mkdir()
    with run_nginx(source, tmp_path / "nginx") as server:
        assert run(store, "ostree", "pull", server.url, "--mirror", "--no-delta")[0] == 0
        paths = [path for _, _, path in server.read_requests()]
        files = [path for path in paths if path.endswith(".filez")]
        assert len(files) == len(set(files)) == sum(1 for _ in source.glob("objects/*/*.filez"))
        assert paths.count("/summary") == 1
        before = len(paths)
        assert run(store, "ostree", "pull", server.url, "a", "b/c", "--no-delta")[0] == 0
        assert [path for _, _, path in server.read_requests()][before:] == ["/summary"]
    run_ostree(target, "init", "--mode=archive")
    for ref, commit in commits.items():
        status, out = run(store, "ostree", "export", ref, str(target), f"--reference={ref}")
        assert (status, out) == (ExitCode.OK, f"commit  {commit}\ntagged  {ref}\n")
        note = run_ostree(target, "show", "--print-detached-metadata-key=note", ref)
        assert note == f"'of {ref}'\n"
    run_ostree(target, "fsck", "--quiet")
    assert run_ostree(target, "refs") == run_ostree(source, "refs")


def test_a_part_over_http_and_the_rest_later(tmp_path: Path) -> None:
    require_ostree()
    make_tree(tmp_path / "tree")
    source, store = tmp_path / "source", tmp_path / "store"
    run_ostree(source, "init", "--mode=archive")
    run_ostree(source, "commit", "--branch=main", f"--tree=dir={tmp_path / 'tree'}")
    make_repository(store).close()
    (tmp_path / "nginx").mkdir()
    with run_nginx(source, tmp_path / "nginx") as server:
        assert run(store, "ostree", "pull", server.url, "main", "--subpath=/usr", "--no-delta")[0] == 0
        part = [path for _, _, path in server.read_requests() if path.endswith(".filez")]
        assert len(part) == 1
        assert run(store, "ostree", "pull", server.url, "main", "--no-delta")[0] == 0
        files = [path for _, _, path in server.read_requests() if path.endswith(".filez")]
    assert len(files) == len(set(files)) == sum(1 for _ in source.glob("objects/*/*.filez"))
