"""``cfsctl diff`` and ``cfsctl explain-digest``, with exit statuses like those of diff(1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.app import main
from cfsctl.cli.commands.inspect.diff import ATTRIBUTES
from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.inspection.diff import Attribute
from tests.support.erofs_images import stored
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., str]

IMAGES = ("sha256-v0.img", "sha256-v1.img", "sha256-v2.img", "sha512-v1.img", "sha256.dump")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run cfsctl in a directory with images and a repository, which has one of them."""
    monkeypatch.chdir(tmp_path)
    for name in IMAGES:
        (tmp_path / name).write_bytes(stored(name))
    with make_repository(tmp_path / "repository", Algorithm.SHA256, FormatVersion.V1) as repository:
        repository.images.write(stored("sha256-v1.img"), "first")

    def run_program(*arguments: str, status: int = 0) -> str:
        capsys.readouterr()
        assert main(["--repo", "repository", *arguments]) == status
        return capsys.readouterr().out

    return run_program


def test_same(run: Run) -> None:
    for a, b in (("sha256-v0.img", "sha256-v1.img"), ("sha256.dump", "first"), ("image:first", "first")):
        assert run("diff", a, b) == ""
        assert run("diff", "--brief", a, b) == ""
        document = json.loads(run("diff", "--json", a, b))
        expected = {"schema_version": 1, "same": True, "added": [], "removed": [], "changed": []}
        assert document == expected


def test_different(run: Run) -> None:
    """V2 images have no nanoseconds."""
    lines = run("diff", "sha256-v1.img", "sha256-v2.img", status=1).splitlines()
    assert lines[0] == "! /: mtime 1500000000.000000007 -> 1500000000.000000000"
    assert all(": mtime " in line for line in lines)
    assert run("diff", "--ignore=mtime", "sha256-v1.img", "sha256-v2.img") == ""
    brief = run("diff", "-q", "sha256-v1.img", "sha256-v2.img", status=1)
    assert brief == "sha256-v1.img and sha256-v2.img are different\n"
    document = json.loads(run("diff", "--json", "sha256-v1.img", "sha256-v2.img", status=1))
    assert document["same"] is False
    assert len(document["changed"]) == len(lines)


def test_directories(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "usr").mkdir(parents=True)
        (tmp_path / name / "run").mkdir()
    (tmp_path / "b" / "usr" / "new").write_bytes(b"x" * 100)
    (tmp_path / "b" / "run" / "pid").touch()
    lines = run("diff", "--ignore=mtime", "a", "b", status=1).splitlines()
    assert lines == ["+ /usr/new (file, 100 bytes)"]
    lines = run("diff", "--ignore=mtime", "--no-propagate-usr-to-root", "a", "b", status=1).splitlines()
    assert lines == ["+ /run/pid (file, 0 bytes)", "+ /usr/new (file, 100 bytes)"]
    (tmp_path / "c").mkdir()
    main(["diff", "--ignore=mtime", "c", "c"])
    assert capsys.readouterr().err == "cfsctl: c has no /usr and is taken as it is\n" * 2


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("nothing", "first", "no image, commit or container image of that name"),
        ("sha256-v1.img", "sha512-v1.img", "contents cannot be compared"),
        ("repository/meta.json", "first", "expected a directory, an image or a dump"),
        ("dump:nothing", "first", "No such file"),
        ("dir:sha256-v1.img", "first", "Not a directory"),
    ],
)
@pytest.mark.usefixtures("run")
def test_trouble(capsys: pytest.CaptureFixture[str], a: str, b: str, message: str) -> None:
    for command in (("diff", a, b), ("diff", "--json", b, a)):
        assert main(["--repo", "repository", *command]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert message in captured.err


@pytest.mark.parametrize("arguments", [["a"], ["--ignore=nothing", "a", "b"], ["--xattrs=all", "a", "b"]])
def test_usage_errors(run: Run, arguments: list[str]) -> None:
    assert run("diff", *arguments, status=2) == ""


def test_every_attribute_can_be_ignored() -> None:
    assert set(ATTRIBUTES) == {attribute.value for attribute in Attribute}


def test_explained(run: Run) -> None:
    expected = compute_digest(stored("sha256-v2.img"), Algorithm.SHA256).hex()
    for source in ("sha256-v1.img", "sha256.dump", "first"):
        output = run("explain-digest", source, f"sha256:{expected}")
        assert output == f"sha256:{expected} is {_described(source)}: EROFS version 2\n"
    document = json.loads(run("explain-digest", "--json", "first", expected))
    assert document["explained"] is True
    assert document["options"]["erofs_version"] == 2


def _described(source: str) -> str:
    return f"{'dump' if source.endswith('.dump') else 'image'} {source}"


def test_directory_explained_with_a_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "tree" / "usr").chmod(0o711)
    expected = run("--erofs-version=0", "compute-id", "tree").strip()
    lines = run("explain-digest", "tree", expected).splitlines()
    assert lines[0].endswith("EROFS version 0, root takes over /usr, attributes allowlist-only")
    assert lines[1] == "  cfsctl --no-repo --hash sha256 --erofs-version 0 compute-id PATH"


def test_not_explained(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    output = run("explain-digest", "tree", "00" * 32, status=1)
    assert output.startswith("no known set of options gives sha256:0000")
    assert "--image" in output
    nearest = run("explain-digest", "tree", "00" * 32, "--image=first", status=1)
    assert "nearest: " in nearest
    assert "+ /ab (character device 0:0)" in nearest


def test_image_of_the_repository_is_the_one_to_explain(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    expected = compute_digest(stored("sha256-v1.img"), Algorithm.SHA256).hex()
    assert "+ /ab (character device 0:0)" in run("explain-digest", "tree", expected, status=1)
    document = json.loads(run("explain-digest", "--json", "tree", expected, status=1))
    assert document["nearest"]["differences"]["same"] is False


@pytest.mark.parametrize("expected", ["", "00", "zz" * 32, "sha256:00", "md5:" + "00" * 32])
def test_expected_that_is_no_id(run: Run, expected: str) -> None:
    assert run("explain-digest", "first", expected, status=2) == ""


@pytest.mark.usefixtures("run")
def test_expected_of_another_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--repo", "repository", "explain-digest", "first", "00" * 64]) == 2
    assert "image first names objects by sha256, expected sha512" in capsys.readouterr().err
