"""Layouts whose files are links, pipes, devices or directories: one clear error, without waiting."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import ExitCode
from cfsctl.oci.source import SourceError
from cfsctl.oci.sources.files import DirectoryFiles
from tests.support.oci import Layout, directory, file, make_tar
from tests.support.programs import cfsctl, run_cfsctl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(f"{path.name}.moved")


def make_device_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_linked_directory(path: Path) -> None:
    make_link(path.parent.parent)


KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": make_pipe,
    "link": make_link,
    "link to a device": make_device_link,
    "directory": make_directory,
}


@pytest.mark.parametrize("kind", KINDS)
def test_instead_of_the_index(tmp_path: Path, kind: str) -> None:
    (tmp_path / "index.json").write_text("{}")
    KINDS[kind](tmp_path / "index.json")
    files = DirectoryFiles(str(tmp_path))
    with pytest.raises(SourceError, match=r"index\.json: expected a regular file"):
        files.open("index.json")
    files.close()


@pytest.mark.parametrize("kind", [*KINDS, "blobs below a link"])
def test_instead_of_a_blob(tmp_path: Path, kind: str) -> None:
    blob = tmp_path / "blobs" / "sha256" / "abc"
    blob.parent.mkdir(parents=True)
    blob.write_text("x")
    {**KINDS, "blobs below a link": make_linked_directory}[kind](blob)
    files = DirectoryFiles(str(tmp_path))
    with pytest.raises(SourceError, match="blobs/sha256/abc: expected a regular file"):
        files.open("blobs/sha256/abc")
    files.close()


def test_what_a_pull_says(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    layout.add_image("t", [make_tar([directory("usr"), file("usr/f", b"x" * 3000)])])
    make_pipe(layout.path / "index.json")
    cfsctl("--repo", tmp_path / "repo", "init", "--insecure")
    done = run_cfsctl("--repo", tmp_path / "repo", "oci", "pull", f"oci:{layout.path}:t", "t")
    assert done.returncode == ExitCode.INVALID_DATA
    assert f"{layout.path}/index.json: expected a regular file" in done.stderr


def test_linked_images_of_all_manifests(tmp_path: Path) -> None:
    """Two images of one tree, one of them with two tags; the original prints the first only."""
    layout = Layout(tmp_path / "layout")
    layers = [make_tar([directory("usr"), file("usr/f", b"x" * 3000)])]
    digests = [layout.add_image(tag, layers, config={"author": tag}) for tag in ("one", "two")]
    repo = tmp_path / "repo"
    cfsctl("--repo", repo, "init", "--insecure")
    for tag in ("one", "two"):
        cfsctl("--repo", repo, "oci", "pull", f"oci:{layout.path}:{tag}", tag)
    cfsctl("--repo", repo, "oci", "tag", "two", "again")
    image = json.loads(cfsctl("--repo", repo, "oci", "inspect", "one"))["composefs_erofs"]
    listed = json.loads(cfsctl("--repo", repo, "oci", "linked-erofs-images", "--all", image))["manifests"]
    found = {manifest["manifest"]: manifest["tags"] for manifest in listed}
    assert found == {digests[0]: ["one"], digests[1]: ["again", "two"]}
    assert all(manifest["images"][0]["id"] == f"sha512:{image}" for manifest in listed)
    absent = run_cfsctl("--repo", repo, "oci", "linked-erofs-images", "--all", "ab" * 64)
    assert (absent.returncode, absent.stdout) == (ExitCode.NOT_FOUND, "")
