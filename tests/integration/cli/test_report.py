"""The pages of `report` and `diff --html`: what is in them, and how they are written."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

import cfsctl
from tests.integration.cli.conftest import environment, run
from tests.support.packages import RpmPackage, rpm_database, rpm_header
from tests.support.repositories import view

if TYPE_CHECKING:
    from pathlib import Path

DATE = {"SOURCE_DATE_EPOCH": "1700000000"}


def write(path: Path, size: int, seed: int = 0) -> None:
    """Write a file that no other has the content of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((f"{path.name} {seed} ".encode() * (size // 8 + 1))[:size])


def status(**versions: str) -> str:
    return "\n".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n"
        for name, version in versions.items()
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a place with a repository that has versions, packages, names of all kinds, and garbage."""
    place = tmp_path_factory.mktemp("report")
    tree = place / "tree"
    write(tree / "usr" / "lib" / "big", 300_000)
    write(tree / "usr" / "share" / "docs", 100_000)
    (tree / "var" / "lib" / "dpkg").mkdir(parents=True)
    (tree / "var" / "lib" / "dpkg" / "status").write_text(status(bash="5.1", gone="1") + "x" * 2000)
    assert run(place, "--repo", "repo", "init", "--insecure").returncode == 0
    assert run(place, "--repo", "repo", "create-image", "tree", "web/<b>").returncode == 0
    write(tree / "usr" / "lib" / "new", 200_000)
    (tree / "usr" / "share" / "docs").unlink()
    (tree / "var" / "lib" / "dpkg" / "status").write_text(status(bash="5.2", fresh="2") + "x" * 2000)
    rpm = tree / "usr" / "share" / "rpm"
    rpm.mkdir()
    (rpm / "rpmdb.sqlite").write_bytes(rpm_database([rpm_header(RpmPackage("kernel", "6.1"))]))
    (tree / "usr" / os.fsdecode(b"not-utf8-\xff\"'><img src=x onerror=alert(1)>")).write_bytes(b"n" * 5000)
    assert run(place, "--repo", "repo", "create-image", "tree", "web/<b>", "--keep=3").returncode == 0
    write(place / "other" / "usr" / "left", 50_000)
    assert run(place, "--repo", "repo", "create-image", "other", "lost").returncode == 0
    assert run(place, "--repo", "repo", "untag", "lost").returncode == 0
    return place


def report(place: Path, *options: str) -> str:
    done = run(place, "--repo", "repo", "report", "-", *options, env=environment() | DATE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_the_page_says(made: Path) -> None:
    page = report(made)
    text = html.unescape(re.sub(r"<[^>]*>", " ", page))
    stats = json.loads(run(made, "--repo", "repo", "stats", "--json").stdout)
    assert f'data value="{stats["bytes"]}"' in page
    assert f'data value="{stats["garbage_bytes"]}"' in page
    assert "/usr/lib/big" in text
    assert "web/<b>" in text
    assert re.search(r"streams/|images/", text), "what the garbage is called"
    for package, before, after in (("bash", "5.1", "5.2"), ("fresh", "\u2013", "2"), ("gone", "1", "\u2013")):
        assert re.search(rf"{package}\s+all\s+\S+ \w+\s+{before}\s+{after}\s", text), package
    assert re.search(r"kernel\s+x86_64\s+\+ added\s+\u2013\s+6\.1-1\s", text)
    assert "2023-11-14 22:13" in text
    assert "not-utf8-\\xff\"'><img src=x onerror=alert(1)>" in text
    assert "<img" not in page
    assert "<script" not in page


def test_the_same_repository_gives_the_same_page(made: Path) -> None:
    page = report(made)
    again = run(made, "--repo", "repo", "report", "-", env=environment() | DATE | {"TZ": "Asia/Tokyo"})
    assert again.stdout == page


def test_only_reads(made: Path) -> None:
    before = view(made / "repo")
    draw(made)
    assert view(made / "repo") == before


def draw(place: Path, **limits: int) -> str:
    """Return the page of the repository, drawn in this process."""
    with cfsctl.Repository.open(place / "repo", insecure=True) as repository:
        found = repository.report(cfsctl.ReportLimits(**limits), made_s=1)
        return b"".join(cfsctl.draw_report(found, rows=limits.get("rows", 50))).decode()


def test_limits(made: Path) -> None:
    full = draw(made)
    assert "What changed in" in full
    less = draw(made, comparisons=0, trees=0, rows=1)
    assert "What changed in" not in less
    assert "2 smaller ones were not" in less
    assert "more names" in less
    assert len(less) < len(full)
    assert "1 or more earlier versions" in draw(made, versions=1)


def test_json(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run(made, "--repo", "repo", "report", "--json", str(page))
    document = json.loads(done.stdout)
    assert document["page_bytes"] == page.stat().st_size
    assert document["path"] == str(page)
    assert document["histories"] == 1
    done = run(made, "--repo", "repo", "report", "--json", "-")
    assert (done.returncode, done.stdout) == (2, "")


def test_the_file_is_replaced_as_a_whole(made: Path, tmp_path: Path) -> None:
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.write_text("old")
    os.link(page, tmp_path / "same")
    link.symlink_to("page.html")
    done = run(made, "--repo", "repo", "report", str(link))
    assert (done.returncode, done.stderr) == (0, "")
    assert link.is_symlink()
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")
    assert (tmp_path / "same").read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.html", "page.html", "same"]


@pytest.mark.parametrize("name", ["directory", "fifo", "missing/page.html", "page.html/", ""])
@pytest.mark.parametrize("command", [["report"], ["diff", "dir:tree", "dir:other", "--html"]])
def test_places_that_no_page_is_written_to(made: Path, tmp_path: Path, name: str, command: list[str]) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = sorted(tmp_path.iterdir())
    done = run(made, "--repo", "repo", *command, f"{tmp_path}/{name}" if name else "")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


@pytest.mark.parametrize("date", ["x", "9" * 20])
def test_wrong_date(made: Path, tmp_path: Path, date: str) -> None:
    page = str(tmp_path / "page.html")
    done = run(made, "--repo", "repo", "report", page, env=environment() | {"SOURCE_DATE_EPOCH": date})
    assert (done.returncode, os.listdir(tmp_path)) == (2, [])
    assert "SOURCE_DATE_EPOCH" in done.stderr


def test_damage_is_told_and_not_fatal(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "repo", tmp_path / "repo", symlinks=True)
    image = (tmp_path / "repo" / "images" / "refs" / "web" / "<b>").resolve().resolve()
    image.chmod(0o644)
    image.write_bytes(b"no image at all")
    done = run(tmp_path, "--repo", "repo", "report", "page.html")
    assert done.returncode == 0
    assert "Warning: " in done.stderr
    page = (tmp_path / "page.html").read_text()
    assert "Not everything could be read" in page
    assert "A collection would remove nothing" in page


def test_empty_repository(tmp_path: Path) -> None:
    cfsctl.Repository.init(tmp_path / "repo", insecure=True).close()
    page = draw(tmp_path)
    assert "Nothing is stored." in page
    assert "There are no names" in page


def test_differences(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ("--repo", "repo", "diff", "dir:other", "dir:tree", "--html")
    done = run(made, *arguments, str(page), env=environment() | DATE)
    assert (done.returncode, done.stdout) == (1, "")
    text = html.unescape(re.sub(r"<[^>]*>", " ", page.read_text()))
    assert "dir:other" in text
    assert "/usr/lib/big" in text
    assert re.search(r"bash\s+all\s+\+ added\s+\u2013\s+5\.2\s", text)
    assert "<img" not in page.read_text()
    again = run(made, *arguments, "-", "--rows=1")
    assert "more entries" in again.stdout


def test_no_differences(made: Path) -> None:
    done = run(made, "--repo", "repo", "diff", "image:web/<b>", "image:web/<b>", "--html", "-")
    assert done.returncode == 0
    assert "The trees are the same." in done.stdout


@pytest.mark.parametrize("options", [["--json"], ["--brief"]])
def test_differences_as_a_page_alone(made: Path, options: list[str]) -> None:
    done = run(made, "diff", "dir:tree", "dir:other", "--html", "-", *options)
    assert (done.returncode, done.stdout) == (2, "")
    done = run(made, "diff", "dir:tree", "dir:other", "--rows=3")
    assert (done.returncode, done.stdout) == (2, "")


def test_error_of_a_comparison(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run(made, "--repo", "repo", "diff", "image:none", "dir:other", "--html", str(page))
    assert (done.returncode, page.exists()) == (2, False)


def test_report_as_data(made: Path) -> None:
    with cfsctl.Repository.open(made / "repo", insecure=True) as repository:
        found = repository.report(cfsctl.ReportLimits(rows=5), made_s=1)
        assert sum(block.size_bytes for block in found.space.parts) == found.stats.bytes
        assert {block.kind for block in found.space.parts} >= {
            cfsctl.BlockKind.DIRECTORY,
            cfsctl.BlockKind.GARBAGE,
            cfsctl.BlockKind.METADATA,
        }
        (history,) = found.histories
        assert [version.is_current for version in history.versions] == [True, False]
        changes = history.versions[0].changes
        assert changes is not None
        assert changes.entries[0].path == b"/usr/lib/new"
        assert [one.name for one in changes.packages] == ["bash", "fresh", "gone", "kernel"]
        assert sum(group.size_bytes for group in found.garbage) == found.stats.garbage_bytes
        kept = sum(reason.only_bytes for reason in found.reasons)
        assert kept == found.stats.bytes - found.stats.garbage_bytes
        assert b"".join(cfsctl.draw_report(found)).startswith(b"<!DOCTYPE html>")


def test_ends_when_told(made: Path) -> None:
    def end(_event: cfsctl.Event) -> None:
        raise cfsctl.CancelledError

    repository = cfsctl.Repository.open(made / "repo", insecure=True)
    with repository, pytest.raises(cfsctl.CancelledError):
        repository.report(progress=end)


def test_versions_of_commits_and_container_images(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write(tree / "usr" / "old", 30_000)
    with cfsctl.Repository.init(tmp_path / "repo", insecure=True) as repository:
        for number, name in enumerate(("first", "second", "third")):
            write(tree / "usr" / name, 20_000 + number)
            repository.create_image(tree, "web")
            parent, subject = "some/ref" if number else None, f"<i>{name}</i>"
            repository.commit("web", "some/ref", subject=subject, parent=parent, timestamp_s=number, keep=1)
            repository.oci.build(f"dir:{tree}", "app", keep=2)
        found = repository.report(made_s=1)
    by_kind = {history.kind: history for history in found.histories}
    commits, images = by_kind["commit"].versions, by_kind["oci"].versions
    assert [one.title for one in commits] == ["<i>third</i>", "<i>second</i>", "<i>first</i>"]
    assert [(one.is_current, one.is_kept) for one in commits] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert [one.made_s for one in commits] == [2, 1, 0]
    assert len(images) == 3
    for versions in (commits, images):
        for version, path in zip(versions, (b"/usr/third", b"/usr/second"), strict=False):
            assert version.changes is not None
            assert version.changes.entries[0].path == path
            assert version.new_bytes is not None
            assert version.size_bytes is not None
            assert 20_000 <= version.new_bytes < version.size_bytes
        assert versions[-1].changes is None
    assert "&lt;i&gt;third&lt;/i&gt;" in b"".join(cfsctl.draw_report(found)).decode()
