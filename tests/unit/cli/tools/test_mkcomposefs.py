"""The mkcomposefs program, run in this process."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.errors import run_tool
from cfsctl.cli.tools.mkcomposefs import main
from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.read.tree import read_image
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.tree.model import Directory, ExternalFile
from tests.support.vectors import differences, golden, image_digest, random_trees

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROOT = "/ 0 40755 2 0 0 0 5.0 - - -\n"
HEX = "ab" + "cd" * 31
DUMP = f"{ROOT}/f 100 100644 1 0 0 0 7.0 ab/{HEX[2:]} - {HEX} user.a=1 security.b=2\n"
WHITEOUT = f"{DUMP}/gone 0 20644 1 0 0 0 5.0 - - -\n"


@pytest.fixture
def dump(tmp_path: Path) -> str:
    path = tmp_path / "dump"
    path.write_text(DUMP)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error."""
    status = run_tool(main, [str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def digest_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what asks the program for the digest of the image of a dump."""

    def ask(text: str, *options: str) -> str:
        path = tmp_path / "given"
        path.write_text(text, "latin-1")
        status, out, _ = run(capsys, "--from-file", "--print-digest-only", *options, path)
        assert status == 0
        return out.removesuffix("\n")

    return ask


def test_writes_an_image_and_prints_its_digest(
    dump: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "--from-file", "--print-digest", dump, tmp_path / "image")
    image = (tmp_path / "image").read_bytes()
    assert (status, out, err) == (0, f"{compute_digest(image, Algorithm.SHA256).hex()}\n", "")
    assert sorted(os.listdir(tmp_path)) == ["dump", "image"]
    assert out == f"{image_digest(DUMP, FormatVersion.V0)}\n"


def test_options_may_follow_and_be_shortened(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, dump, "--from-f", "--print-digest-o")[0] == 0


@pytest.mark.parametrize(
    ("options", "plain", "whiteouts"),
    [
        ((), "c_v0", "c_v1"),
        (("--min-version=0",), "c_v0", "c_v0"),
        (("--max-version=0",), "c_v0", "c_v0"),
        (("--max-version", "1"), "c_v0", "c_v1"),
        (("--max-version", "7"), "c_v0", "c_v1"),
        (("--min-version", "0", "--max-version", "1"), "c_v0", "c_v1"),
        (("--min-version", "1"), "c_v1", "c_v1"),
        (("--erofs-version", "0"), "c_v0", "c_v0"),
        (("--erofs-version", "1"), "c_v1", "c_v1"),
    ],
)
def test_formats(options: tuple[str, ...], plain: str, whiteouts: str, digest_of: Callable[..., str]) -> None:
    trees = {tree["name"]: tree for tree in differences()}
    for name, expected in (("link to a link", plain), ("whiteout", whiteouts)):
        tree = trees[name]
        recorded = {"c_v0": tree["c_v0"], "c_v1": tree["c_v1"]}
        assert digest_of(tree["dump"], *options) == recorded[expected]


@pytest.mark.parametrize("tree", differences(), ids=lambda tree: tree["name"])
def test_images_are_those_of_the_c_tool(tree: dict[str, str], digest_of: Callable[..., str]) -> None:
    assert digest_of(tree["dump"]) == tree["c"]


def test_our_own_formats_and_hashes(digest_of: Callable[..., str]) -> None:
    tree = golden()[2]
    assert digest_of(tree["dump"], "--erofs-version=2") == tree["sha256"][2]
    recorded = next(tree for tree in random_trees() if tree.algorithm is Algorithm.SHA512)
    for version, expected in recorded.digests.items():
        options = ["--hash=sha512", f"--erofs-version={version.value}"]
        assert digest_of(recorded.read().decode("latin-1"), *options) == expected


def test_format_2_warns_of_what_it_cannot_hold(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_text(f"{ROOT}/f 9 100644 1 0 0 0 0.0 - - -\n")
    status, _, err = run(capsys, "--from-file", "--print-digest-only", "--erofs-version=2", path)
    assert (status, err.startswith("warning: there are files without digest")) == (0, True)


def image_of(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, *options: str) -> Directory:
    path = tmp_path / "given"
    path.write_text(text)
    assert run(capsys, "--from-file", *options, path, tmp_path / "image") == (0, "", "")
    return read_image((tmp_path / "image").read_bytes(), Algorithm.SHA256).root


def test_options_that_change_the_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = image_of(capsys, tmp_path, WHITEOUT, "--use-epoch", "--skip-devices", "--user-xattrs")
    assert list(root.entries) == [b"f"]
    assert [node.mtime_s for node in (root, root.entries[b"f"])] == [0, 0]
    assert dict(root.entries[b"f"].xattrs) == {b"user.a": b"1"}
    root = image_of(capsys, tmp_path, WHITEOUT, "--skip-xattrs", "--user-xattrs")
    assert sorted(root.entries) == [b"f", b"gone"]
    assert not root.entries[b"f"].xattrs


def test_standard_input_and_output(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(DUMP.encode())))
    assert main(["--from-file", "--print-digest", "-", "-"]) == 0
    sys.stdout.flush()
    image, digest = capfdbinary.readouterr().out[:-65], image_digest(DUMP, FormatVersion.V0)
    assert compute_digest(image, Algorithm.SHA256).hex() == digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    (root / "d" / "small").write_bytes(b"x" * 64)
    (root / "d" / "large").write_bytes(b"y" * 5000)
    (root / "d" / "huge").write_bytes(b"z" * 3_000_000)
    (root / "linked").hardlink_to(root / "d" / "large")
    (root / "link").symlink_to("d/small")
    return root


def test_directories(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "parents" / "store"
    assert run(capsys, "--digest-store", store, "--threads=1", tree, tmp_path / "image") == (0, "", "")
    root = read_image((tmp_path / "image").read_bytes(), Algorithm.SHA256).root
    linked = root.entries[b"linked"]
    assert isinstance(linked, ExternalFile)
    directory = root.entries[b"d"]
    assert isinstance(directory, Directory)
    assert directory.entries[b"large"] is not linked
    text = linked.object_id.hex()
    stored = store / text[:2] / text[2:]
    assert stored.read_bytes() == b"y" * 5000
    files = [path for path in store.rglob("*") if path.is_file()]
    assert sorted(path.stat().st_size for path in files) == [5000, 3_000_000]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}
    for path in files:
        expected = compute_digest(path.read_bytes(), Algorithm.SHA256).hex()
        assert str(path.relative_to(store)) == f"{expected[:2]}/{expected[2:]}"


def test_hard_links_are_kept_when_asked_for(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "--hardlinks", tree, tmp_path / "image") == (0, "", "")
    root = read_image((tmp_path / "image").read_bytes(), Algorithm.SHA256).root
    directory = root.entries[b"d"]
    assert isinstance(directory, Directory)
    assert directory.entries[b"large"] is root.entries[b"linked"]


def test_print_only_fills_the_store(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--print-digest-only", "--digest-store", tmp_path / "store", tree)
    assert (status, len(out)) == (0, 65)
    assert len(os.listdir(tmp_path / "store")) == 2
    inodes = [path.stat().st_ino for path in sorted((tmp_path / "store").rglob("*"))]
    assert run(capsys, "--digest-store", tmp_path / "store", tree, tmp_path / "image") == (0, "", "")
    assert [path.stat().st_ino for path in sorted((tmp_path / "store").rglob("*"))] == inodes


def test_a_store_without_a_directory_is_pointed_out(
    dump: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(
        capsys, "--from-file", "--print-digest-only", "--digest-store", tmp_path / "store", dump
    )
    assert (status, err) == (0, "warning: --digest-store is ignored when --from-file is specified\n")
    assert not (tmp_path / "store").exists()


# What is there already


def test_an_image_is_replaced_whole_and_keeps_its_mode(
    dump: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, link = tmp_path / "image", tmp_path / "link"
    image.write_bytes(b"old")
    image.chmod(0o640)
    link.symlink_to("image")
    with open(image, "rb") as old:
        assert run(capsys, "--from-file", dump, link)[0] == 0
        assert old.read() == b"old"
    assert link.is_symlink()
    assert stat.S_IMODE(image.stat().st_mode) == 0o640
    assert image.stat().st_size % 4096 == 0


def test_a_failure_leaves_the_old_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, dump = tmp_path / "image", tmp_path / "given"
    image.write_bytes(b"old")
    dump.write_text(
        f"{ROOT}/f 0 100644 1 0 0 0 0.0 - - - user.a={'v' * 300}\n/f/g 0 100644 1 0 0 0 0.0 - - -\n"
    )
    assert run(capsys, "--from-file", dump, image)[0] == 1
    assert image.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["given", "image"]


def test_devices_and_pipes_are_written_to(
    dump: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "--from-file", dump, "/dev/null") == (0, "", "")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    assert run(capsys, "--from-file", dump, pipe) == (0, "", "")
    output, _ = reader.communicate(timeout=120)
    assert compute_digest(output, Algorithm.SHA256).hex() == image_digest(DUMP, FormatVersion.V0)


def test_new_images_follow_the_umask(dump: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = os.umask(0o027)
    try:
        assert run(capsys, "--from-file", dump, tmp_path / "image")[0] == 0
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "image").stat().st_mode) == 0o640


# Refusals

WRONG = {
    "no image": (["tree"], 1, "IMAGE is required (or use --print-digest-only)"),
    "image besides print-only": (
        ["--print-digest-only", "tree", "image"],
        1,
        "IMAGE must be omitted when using --print-digest-only",
    ),
    "empty range": (
        ["--min-version=1", "--max-version=0", "tree", "image"],
        1,
        "Invalid version range: --min-version (1) must not exceed --max-version (0)",
    ),
    "lowest format too high": (
        ["--min-version=2", "tree", "image"],
        1,
        "--min-version 2 is not supported; the maximum C-compatible version is 1",
    ),
    "no number": (["--min-version=x", "tree", "image"], 1, "Invalid min version x"),
    "no threads": (["--threads=0", "tree", "image"], 1, "Invalid threads count 0"),
    "source missing": (["nowhere", "image"], 1, 'Failed to access source directory: "nowhere": No such file'),
    "source is a file": (["given", "image"], 1, 'Source path is not a directory: "given"'),
    "source is a link": (["link", "image"], 1, "Failed to read directory tree: "),
    "dump missing": (
        ["--from-file", "nowhere", "image"],
        1,
        'Failed to open dumpfile: "nowhere": No such file',
    ),
    "broken dump": (["--from-file", "given", "image"], 1, "dump line 1, "),
    "no place for the image": (
        ["tree", "nowhere/image"],
        1,
        'Failed to create image file: "nowhere/image": ',
    ),
    "store is a file": (
        ["--digest-store=given", "tree", "image"],
        1,
        'Failed to create flat digest store: "given": ',
    ),
    "unknown option": (["--compress", "tree", "image"], 2, "option --compress not recognized"),
    "ambiguous option": (["--print", "tree", "image"], 2, "option --print not a unique prefix"),
    "no source": ([], 2, "no source specified"),
    "too many arguments": (["tree", "image", "more"], 2, "unexpected argument 'more'"),
    "unknown format": (["--erofs-version=3", "tree", "image"], 2, "--erofs-version: expected 0, 1 or 2"),
    "two formats": (
        ["--erofs-version=1", "--min-version=1", "tree", "i"],
        2,
        "--erofs-version cannot be used",
    ),
    "unknown hash": (["--hash=md5", "tree", "image"], 2, "--hash: unsupported hash algorithm 'md5'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refusals(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "given").write_text("garbage\n")
    (tmp_path / "link").symlink_to("tree")
    arguments, expected, message = WRONG[name]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (expected, "")
    assert message in err
    assert not (tmp_path / "image").exists()


def test_no_image_on_a_terminal(
    dump: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    status, out, err = run(capsys, "--from-file", dump, "-")
    assert (status, out) == (1, "")
    assert "Refusing to write binary image to terminal" in err


def test_strictness_is_asked_for_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "given"
    path.write_text(DUMP.removesuffix("\n"))
    assert run(capsys, "--from-file", "--print-digest-only", path)[0] == 0
    monkeypatch.setenv("CFS_PARSE_STRICT", "1")
    assert run(capsys, "--from-file", "--print-digest-only", path)[0] == 1


@pytest.mark.parametrize("option", ["-h", "--help", "-V", "--version"])
def test_help_and_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, option)
    assert (status, err) == (0, "")
    assert out.startswith(("Usage: mkcomposefs", "mkcomposefs "))
