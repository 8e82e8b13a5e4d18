"""Retention: what `prune` removes of tags and of what was kept of them, and what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.cli.conftest import environment, locked, run
from tests.support.ostree_client import require_ostree
from tests.support.programs import CFSCTL
from tests.support.repositories import view

if TYPE_CHECKING:
    from pathlib import Path

DAYS = [f"2026-02-{day:02}" for day in (1, 2, 3, 4, 9, 16, 23)]


@pytest.fixture
def series(place: Path) -> Path:
    """Return the place with a commit for each day, a tag each, and an image ref each."""
    for number, day in enumerate(DAYS):
        commit = ["ostree", "commit", "web", f"--timestamp={day}T03:00:00Z", f"--subject={day}"]
        assert run(place, "--repo", "repo", *commit, f"--reference=nightly/{day}").returncode == 0
        ref = place / "repo" / "images" / "refs" / f"build-{number}"
        shutil.copy(place / "repo" / "images" / "refs" / "web", ref, follow_symlinks=False)
        seconds = 1_760_000_000 + number * 86400
        os.utime(ref, (seconds, seconds), follow_symlinks=False)
    return place


def prune(place: Path, *words: str, status: int = 0) -> dict[str, Any]:
    done = run(place, "--repo", "repo", "prune", *words, "--json")
    assert done.returncode == status, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def removed(document: dict[str, Any]) -> set[str]:
    return {one["name"] for one in document["removed"]}


def tags(place: Path) -> set[str]:
    found = json.loads(run(place, "--repo", "repo", "ostree", "images", "--json").stdout)
    return {one["name"] for one in found["images"]}


def images(place: Path) -> set[str]:
    found = json.loads(run(place, "--repo", "repo", "images", "--json").stdout)
    return {one["name"] for one in found["images"]}


def test_the_last_ones_of_a_pattern_stay(series: Path) -> None:
    before = tags(series)
    document = prune(series, "nightly/*", "--keep-last=2")
    assert removed(document) == {f"nightly/{day}" for day in DAYS[:-2]}
    assert tags(series) == before - removed(document)
    reasons = {one["name"]: one["reasons"] for one in document["kept"]}
    assert reasons == {f"nightly/{day}": ["last"] for day in DAYS[-2:]}
    assert prune(series, "nightly/*", "--keep-last=2")["removed"] == []


RULES = [
    (["--keep-daily=3"], DAYS[:-3]),
    (["--keep-weekly=3"], [*DAYS[:3], DAYS[3]]),
    (["--keep-monthly=5"], DAYS[:-1]),
    (["--keep-last=1", "--keep-tag=nightly/*-0[12]"], DAYS[2:-1]),
    (["--keep-within=1s"], DAYS[:-1]),
    (["--keep-within=5200w"], []),
]


@pytest.mark.parametrize(("rules", "gone"), RULES, ids=str)
def test_rules_by_time(rules: list[str], gone: list[str], series: Path) -> None:
    document = prune(series, "commit:nightly/*", "--dry-run", *rules)
    assert removed(document) == {f"nightly/{day}" for day in gone}


def test_a_dry_run_changes_nothing_and_says_the_same(series: Path) -> None:
    before = view(series)
    dry = prune(series, "nightly/*", "--keep-last=1", "--gc", "-n")
    assert dry["dry_run"]
    assert view(series) == before
    wet = prune(series, "nightly/*", "--keep-last=1", "--gc")
    assert dry["removed"] == wet["removed"]
    for key in ("objects_removed", "bytes_removed"):
        assert dry["gc"][key] == wet["gc"][key] > 0
    assert run(series, "--repo", "repo", "fsck").returncode == 0


def test_images_are_dated_by_their_refs(series: Path) -> None:
    assert removed(prune(series, "build-*", "--keep-last=3")) == {f"build-{n}" for n in range(4)}
    assert images(series) == {"web", "build-4", "build-5", "build-6"}


def test_names_without_a_pattern_are_one_series(series: Path) -> None:
    document = prune(series, "build-1", "build-3", "image:build-5", "--keep-last=1")
    assert removed(document) == {"build-1", "build-3"}


def test_a_single_name_stays_whatever_its_age(series: Path) -> None:
    document = prune(series, "build-1", "--keep-within=1s")
    assert removed(document) == set()
    assert [one["reasons"] for one in document["kept"]] == [["newest"]]


def test_without_a_pattern_only_what_was_kept_goes(series: Path) -> None:
    before = tags(series), images(series)
    document = prune(series, "--keep-last=1")
    assert {(one["kind"], one["name"]) for one in document["removed"]} == {
        ("image", "web"),
        ("oci", "app"),
        ("commit", "test"),
    }
    assert all(one["earlier"] for one in document["removed"])
    assert (tags(series), images(series)) == before
    for words in (["image", "history", "web"], ["oci", "history", "app"], ["ostree", "history", "test"]):
        assert len(run(series, "--repo", "repo", *words, "-q").stdout.split()) == 1


def test_oci_tags(place: Path) -> None:
    for name in ("app-1", "app-2", "app-3"):
        assert run(place, "--repo", "repo", "oci", "tag", "app", name).returncode == 0
    # The layout says nothing of a date; so the times of the tags count.
    document = prune(place, "oci:app-*", "--keep-last=1")
    assert removed(document) == {"app-1", "app-2"}


def test_a_removed_tag_loses_its_history(series: Path) -> None:
    tag = ["ostree", "tag", f"nightly/{DAYS[0]}", f"nightly/{DAYS[1]}", "--keep=3"]
    assert run(series, "--repo", "repo", *tag).returncode == 0
    document = prune(series, "nightly/*", "--keep-last=1")
    assert [one["earlier"] for one in document["removed"] if one["name"] == f"nightly/{DAYS[1]}"].count(
        True
    ) == 1
    assert run(series, "--repo", "repo", "ostree", "history", f"nightly/{DAYS[1]}").returncode == 17


def test_the_text_has_a_reason_for_each(series: Path) -> None:
    done = run(series, "--repo", "repo", "prune", "nightly/*", "--keep-last=1", "--keep-daily=2", "-n")
    lines = done.stdout.splitlines()
    assert len(lines) == len(DAYS) + 2
    assert lines[-2].split()[0] == "keep"
    assert lines[-2].endswith("  last, daily")
    assert lines[1].split()[0] == "remove"
    assert lines[1].endswith("  no rule keeps it")
    assert lines[-1] == "Dry run: 5 would be removed, 2 kept"


USAGE = [
    ([], "say what is to be kept"),
    (["*"], "say what is to be kept"),
    (["--keep-last=-1"], "--keep-last"),
    (["--keep-within=soon"], "not a valid duration"),
]


@pytest.mark.parametrize(("words", "text"), USAGE, ids=str)
def test_wrong_use(words: list[str], text: str, place: Path) -> None:
    before = view(place)
    done = run(place, "--repo", "repo", "prune", *words)
    assert done.returncode == 2
    assert text in done.stderr
    assert view(place) == before


def test_a_name_that_is_not_there(place: Path) -> None:
    done = run(place, "--repo", "repo", "prune", "wbe", "--keep-last=1")
    assert done.returncode == 17
    assert "did you mean web?" in done.stderr


def test_a_lock_is_waited_for(place: Path) -> None:
    with locked(place):
        done = run(place, "--repo", "repo", "--lock-timeout=0", "prune", "--keep-last=1")
    assert done.returncode == 11


def image_of(place: Path, name: str) -> str:
    return os.path.basename(os.readlink(place / "repo" / "images" / "refs" / name))


@pytest.mark.parametrize("form", ["entry", "uki"])
def test_what_is_deployed_stays(form: str, place: Path) -> None:
    image = run(place, "--repo", "repo", "image", "history", "web", "-q").stdout.split()[1].partition(":")[2]
    argument = f"composefs.digest=v1-sha512-12:{image}"
    boot = place / "boot"
    if form == "entry":
        (boot / "loader" / "entries").mkdir(parents=True)
        (boot / "loader" / "entries" / "old.conf").write_text(f"title Old\noptions quiet {argument}\n")
    else:
        (boot / "EFI" / "Linux").mkdir(parents=True)
        (boot / "EFI" / "Linux" / "old.efi").write_bytes(make_uki(f"quiet {argument}"))
    words = ["image:web", "--keep-last=1", "--boot", "boot"]
    document = prune(place, *words)
    assert document["removed"] == []
    assert any(
        reason.startswith("deployed by boot/") for one in document["kept"] for reason in one["reasons"]
    )
    shutil.rmtree(boot)
    assert removed(prune(place, *words)) == {"web"}


def make_uki(cmdline: str) -> bytes:
    """Return a PE executable with a section for the command line and nothing else."""
    data = cmdline.encode() + b"\0"
    header = b"MZ".ljust(0x3C, b"\0") + (0x40).to_bytes(4, "little")
    coff = b"PE\0\0" + b"\x64\x86" + (1).to_bytes(2, "little") + bytes(16)
    start = 0x40 + len(coff) + 40
    section = b".cmdline".ljust(8, b"\0") + len(data).to_bytes(4, "little") + bytes(4)
    section += len(data).to_bytes(4, "little") + start.to_bytes(4, "little") + bytes(16)
    return header + coff + section + data


def test_what_cannot_be_read_below_boot_is_said(place: Path) -> None:
    entries = place / "boot" / "loader" / "entries"
    entries.mkdir(parents=True)
    (entries / "bad.conf").write_text("options composefs.digest=v1-sha512-12:xyz\n")
    (entries / "bytes.conf").write_bytes(b"options \xff\n")
    os.mkfifo(entries / "pipe.conf")
    document = prune(place, "image:web", "--keep-last=1", "--boot", "boot", "-n")
    assert len(document["problems"]) == 3


@pytest.mark.privileged
def test_what_is_mounted_stays(series: Path) -> None:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("mounting needs root and unshare")
    require_ostree()
    script = (
        f"{CFSCTL} --repo repo mount build-0 mountpoint && "
        f"{CFSCTL} --repo repo prune --json 'build-*' --keep-last=1 && umount mountpoint"
    )
    assert run(series, "--repo", "repo", "create-image", "bootable", "build-0").returncode == 0
    ref = series / "repo" / "images" / "refs" / "build-0"
    os.utime(ref, (0, 0), follow_symlinks=False)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        cwd=series,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert removed(document) == {f"build-{number}" for number in range(1, 6)}
    kept = {one["name"]: one["reasons"] for one in document["kept"]}
    assert kept["build-0"][0].startswith("mounted at ")
    assert kept["build-6"] == ["last"]
