"""Names of images, commits and OCI images: set, moved, renamed, removed, and taken back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.integration.cli.conftest import run
from tests.support.ostree_client import require_ostree

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

KINDS: Final = {
    # What holds a name, its group of commands, and where its links are.
    "image": ("web", ["image"], "images/refs"),
    "oci": ("app", ["oci"], "streams/refs/oci"),
    "ostree": ("test", ["ostree"], "streams/refs/ostree"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "ostree":
        require_ostree()
    return str(request.param)


def do(place: Path, kind: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run(place, "--repo", "repo", *KINDS[kind][1], *words)


def target(place: Path, kind: str, name: str | None = None) -> str:
    name = name or KINDS[kind][0]
    return os.path.basename(os.readlink(place / "repo" / KINDS[kind][2] / name))


def ids(place: Path, kind: str) -> list[str]:
    """Return what the name stands for and has stood for, whole."""
    return do(place, kind, "history", KINDS[kind][0], "-q").stdout.split()


def test_rollback_goes_back_and_forth(kind: str, place: Path) -> None:
    name = KINDS[kind][0]
    now, before = ids(place, kind)
    assert now.rpartition(":")[2] in target(place, kind)
    done = do(place, kind, "rollback", name)
    assert done.returncode == 0
    assert before.rpartition(":")[2] in target(place, kind)
    assert ids(place, kind) == [before, now]
    assert do(place, kind, "rollback", name).returncode == 0
    assert ids(place, kind) == [now, before]


def test_rollback_to_what_is_named_already(kind: str, place: Path) -> None:
    """So that a script which was killed can do it again."""
    name = KINDS[kind][0]
    now, before = ids(place, kind)
    assert do(place, kind, "rollback", name, f"--to={before}").returncode == 0
    done = do(place, kind, "rollback", name, f"--to={before}")
    assert (done.returncode, "already" in done.stdout) == (0, True)
    assert ids(place, kind) == [before, now]


def test_rollback_to_a_beginning(kind: str, place: Path) -> None:
    name = KINDS[kind][0]
    _, before = ids(place, kind)
    digits = before.rpartition(":")[2]
    assert do(place, kind, "rollback", name, "--to", digits[:8]).returncode == 0
    assert digits in target(place, kind)
    done = do(place, kind, "rollback", name, "--to", "0000000")
    assert (done.returncode, done.stdout) == (17, "")
    assert "Hint: kept are " in done.stderr


def test_garbage_collection_keeps_what_is_kept_until_the_name_goes(kind: str, place: Path) -> None:
    name = KINDS[kind][0]
    assert do(place, kind, "history", name).returncode == 0
    assert run(place, "--repo", "repo", "gc").returncode == 0
    assert run(place, "--repo", "repo", "fsck", "--deep").returncode == 0
    assert do(place, kind, "rollback", name).returncode == 0
    assert do(place, kind, "untag", name).returncode == 0
    assert do(place, kind, "history", name).returncode == 17
    assert "Objects: 0 removed" not in run(place, "--repo", "repo", "gc").stdout
    assert run(place, "--repo", "repo", "fsck", "--deep").returncode == 0


def test_renaming_takes_the_history_along(kind: str, place: Path) -> None:
    name = KINDS[kind][0]
    before = ids(place, kind)
    assert do(place, kind, "rename", name, "other/name").returncode == 0
    assert do(place, kind, "history", "other/name", "-q").stdout.split() == before
    assert do(place, kind, "history", name).returncode == 17
    assert do(place, kind, "rollback", "other/name").returncode == 0


def test_renaming_replaces_nothing(kind: str, place: Path) -> None:
    name = KINDS[kind][0]
    _, before = ids(place, kind)
    assert do(place, kind, "tag", name, "copy").returncode == 0
    assert do(place, kind, "rollback", name).returncode == 0
    done = do(place, kind, "rename", name, "copy")
    assert (done.returncode, done.stdout) == (14, "")
    assert before.rpartition(":")[2] in target(place, kind)
    assert target(place, kind, "copy") != target(place, kind)
    # As after a renaming that was killed: both names are there and mean the same.
    assert do(place, kind, "tag", name, "same").returncode == 0
    assert do(place, kind, "rename", name, "same").returncode == 0


def test_a_moved_name_is_said_and_a_new_one_is_not(kind: str, place: Path) -> None:
    name = KINDS[kind][0]
    now, before = (one.rpartition(":")[2][:12] for one in ids(place, kind))
    assert do(place, kind, "tag", name, "copy").stderr == ""
    assert do(place, kind, "tag", name, "copy").stderr == ""
    done = do(place, kind, "tag", before, "copy")
    assert done.stderr == f"cfsctl: copy: moved from {now} to {before}\n"
    assert run(place, "--quiet", "--repo", "repo", *KINDS[kind][1], "tag", name, "copy").stderr == ""


def test_nothing_is_taken_with_no_clobber(kind: str, place: Path) -> None:
    name = KINDS[kind][0]
    _, before = ids(place, kind)
    old = target(place, kind)
    done = do(place, kind, "tag", before, name, "--no-clobber")
    assert (done.returncode, done.stdout) == (14, "")
    assert f"'{name}' exists" in done.stderr
    assert target(place, kind) == old
    assert do(place, kind, "tag", before, "free", "--no-clobber").returncode == 0


def test_more_than_is_to_be_kept_goes(kind: str, place: Path) -> None:
    name = KINDS[kind][0]
    now, before = ids(place, kind)
    assert do(place, kind, "tag", before, name, "--keep=5").returncode == 0
    assert ids(place, kind) == [before, now]
    assert do(place, kind, "tag", now, name).returncode == 0  # keeps nothing, and removes nothing
    assert ids(place, kind) == [now]
    assert do(place, kind, "tag", before, name, "--keep=1").returncode == 0
    assert ids(place, kind) == [before, now]
    assert do(place, kind, "tag", before, name, "--keep=0").returncode == 0
    assert ids(place, kind) == [before]


IDS = ["sha512:abc", "@sha256:" + "0" * 64, "a" * 64, "F" * 128]


@pytest.mark.parametrize("name", IDS)
def test_no_name_looks_like_an_id(kind: str, name: str, place: Path) -> None:
    known = KINDS[kind][0]
    for words in (["tag", known, name], ["rename", known, name]):
        done = do(place, kind, *words)
        assert (done.returncode, done.stdout) == (16, ""), words
        assert "Error: " in done.stderr
    assert target(place, kind)


CREATING = [
    ["create-image", "tree"],
    ["import-image"],
    ["ostree", "commit", "web", "--reference"],
    ["oci", "build", "tree"],
    ["oci", "pull", "oci:layout:app"],
    ["copy", "web", "target", "--as"],
]


@pytest.mark.parametrize("words", CREATING, ids=" ".join)
def test_nothing_is_made_under_such_a_name(words: list[str], place: Path) -> None:
    for name in (IDS[2], IDS[0]):
        with (place / "web.img").open("rb") as image:
            done = run(place, "--repo", "repo", *words, name, stdin=image)
        assert (done.returncode, done.stdout) == (16, ""), name


def test_refs_before_a_name_is_understood(place: Path) -> None:
    assert run(place, "--repo", "repo", "create-image", "bootable", "refs/site").returncode == 0
    assert (place / "repo" / "images" / "refs" / "site").is_symlink()
    for name in ("site", "refs/site"):
        assert run(place, "--repo", "repo", "image-objects", name).returncode == 0
    assert run(place, "--repo", "repo", "untag", "refs/site").returncode == 0


def test_a_ref_that_the_original_has_made_below_refs_is_found(place: Path) -> None:
    refs = place / "repo" / "images" / "refs"
    (refs / "refs").mkdir()
    (refs / "refs" / "old").symlink_to("../" + os.readlink(refs / "web"))
    for words in (["image-objects"], ["untag"]):
        assert run(place, "--repo", "repo", *words, "refs/old").returncode == 0


def test_create_image_does_not_even_read_with_no_clobber(place: Path) -> None:
    done = run(place, "--repo", "repo", "create-image", "nowhere", "web", "--no-clobber")
    assert done.returncode == 14
    done = run(place, "--repo", "repo", "create-image", "bootable", "web")
    assert "cfsctl: web: moved from " in done.stderr


def test_pull_keeps_what_its_tag_named(place: Path) -> None:
    require_ostree()
    (place / "more").mkdir()
    (place / "more" / "file").write_text("more")
    first = run(place, "--repo", "repo", "ostree", "images", "-q").stdout.strip()
    from tests.support.ostree_client import run_ostree

    run_ostree(place / "ostree-repo", "commit", "--branch=test", f"--tree=dir={place / 'more'}")
    done = run(place, "--repo", "repo", "ostree", "pull-local", "ostree-repo", "test", "--keep=3")
    assert done.returncode == 0, done.stderr
    found = run(place, "--repo", "repo", "ostree", "history", "test", "-q").stdout.split()
    assert len(found) == 3
    assert found[1] == first


def test_copies_keep_what_a_name_named(kind: str, place: Path) -> None:
    name, group, _ = KINDS[kind]
    now, before = ids(place, kind)
    assert run(place, "init", "--insecure", "other").returncode == 0

    def copy(what: str, *words: str) -> subprocess.CompletedProcess[str]:
        if kind == "oci":
            return run(place, "--repo", "other", "oci", "copy", what, "--from=repo", f"--name={name}", *words)
        return run(place, "--repo", "repo", "copy", what, "other", f"--as={name}", *words)

    def kept() -> list[str]:
        return run(place, "--repo", "other", *group, "history", name, "-q").stdout.split()

    first = copy(before)
    assert (first.returncode, first.stderr) == (0, "")
    again = copy(now, "--keep=3")
    assert again.returncode == 0
    assert (
        f"{name}: moved from {before.rpartition(':')[2][:12]} to {now.rpartition(':')[2][:12]}"
        in again.stderr
    )
    assert kept() == [now, before]
    assert copy(now, "--keep=0").returncode == 0
    assert kept() == [now]
