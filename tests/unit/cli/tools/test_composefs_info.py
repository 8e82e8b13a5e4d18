"""The composefs-info program."""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.tools.composefs_info import main
from cfsctl.erofs.format import ErofsError
from tests.support.erofs_images import stored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., str]

SMALL_OBJECT = "ab/" + "cd" + "abcd" * 15


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., str]:
    """Run the program in a directory that has the stored images."""
    monkeypatch.chdir(tmp_path)
    for name in ("sha256-v1.img", "sha256-v2.img", "sha512-v1.img", "small-sha256-v1.img"):
        (tmp_path / name).write_bytes(stored(name))

    def run_program(*arguments: str, status: int = 0) -> str:
        capfdbinary.readouterr()
        assert main(arguments) == status
        output: bytes = capfdbinary.readouterr().out
        return output.decode()

    return run_program


def test_ls(run: Run) -> None:
    assert run("ls", "small-sha256-v1.img") == f"/hi\n/ln\t-> hi\n/zz\t@ {SMALL_OBJECT}\n"


def test_several_images_one_after_the_other(run: Run) -> None:
    once = run("ls", "small-sha256-v1.img")
    assert run("ls", "small-sha256-v1.img", "small-sha256-v1.img") == once * 2


@pytest.mark.parametrize("name", ["sha256-v1.img", "sha512-v1.img"])
def test_dump(run: Run, name: str) -> None:
    assert run("dump", name).encode() == stored(name.replace("-v1.img", ".dump"))


def test_filter(run: Run) -> None:
    full = run("dump", "sha256-v1.img").splitlines()
    wanted = [line for line in full if re.match(r"/(cd|opt)[ /]", line)]
    filtered = run("dump", "--filter=cd", "sha256-v1.img", "--filter", "opt").splitlines()
    assert filtered[1:] == wanted
    assert filtered[0].startswith("/ 0 40755 ")
    listed = run("ls", "--filter=opt", "sha256-v1.img").splitlines()
    assert [line.split("\t")[0] for line in listed] == [
        "/opt/", "/opt/layer/", "/opt/layer/gone", "/opt/layer/gone2",
    ]  # fmt: skip
    assert run("objects", "--filter=cd", "sha256-v1.img") == ""
    assert run("ls", "--filter=nothing", "sha256-v1.img") == ""


def test_filter_counts_links_in_the_whole_image(run: Run) -> None:
    """/zlink is the third name of a file in /usr."""
    (line,) = run("dump", "--filter=zlink", "sha256-v1.img").splitlines()[1:]
    assert line.split()[:4] == ["/zlink", "65", "100644", "3"]


def test_objects_of_each_image(run: Run) -> None:
    one = run("objects", "sha256-v1.img").splitlines()
    assert one == sorted(set(one))
    assert run("objects", "small-sha256-v1.img").splitlines() == [SMALL_OBJECT]
    assert run("objects", "sha256-v1.img", "small-sha256-v1.img").splitlines() == [*one, SMALL_OBJECT]


def test_missing_objects_of_all_images_together(run: Run, tmp_path: Path) -> None:
    one = run("objects", "sha256-v1.img").splitlines()
    (tmp_path / "store").mkdir()
    images = ("sha256-v1.img", "small-sha256-v1.img", "sha256-v2.img")
    for directory in ("store", "nothing"):
        together = run("missing-objects", "--basedir", directory, *images).splitlines()
        assert together == sorted([*one, SMALL_OBJECT])


@pytest.mark.parametrize("position", [0, 1, 2])
def test_missing_objects(run: Run, tmp_path: Path, position: int) -> None:
    arguments = ["missing-objects", "small-sha256-v1.img"]
    arguments.insert(position, "--basedir=store")
    (tmp_path / "store").mkdir()
    assert run(*arguments) == f"{SMALL_OBJECT}\n"
    (tmp_path / "store" / SMALL_OBJECT).parent.mkdir()
    (tmp_path / "store" / SMALL_OBJECT).touch()
    assert run(*arguments) == ""


def test_measure_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "conf").write_bytes(b"key = value\n")
    # Recorded with the original.
    assert run("measure-file", "empty", "conf") == (
        "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95\n"
        "90bdc3f34cc41dcdc7e16a9bfb31a36783b31c12cbdbbd889523b4fb599a8be4\n"
    )
    assert len(run("measure-file", "--hash", "sha512", "empty")) == 129


def test_measure_file_of_a_pipe_in_pieces(run: Run) -> None:
    reading, writing = os.pipe()

    def feed() -> None:
        for piece in (b"key =", b" ", b"value\n"):
            os.write(writing, piece)
        os.close(writing)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        measured = run("measure-file", f"/dev/fd/{reading}")
    finally:
        thread.join()
        os.close(reading)
    assert measured == "90bdc3f34cc41dcdc7e16a9bfb31a36783b31c12cbdbbd889523b4fb599a8be4\n"


@pytest.mark.parametrize("command", ["ls", "dump", "objects", "measure-file"])
def test_without_files_there_is_nothing_to_print(run: Run, command: str) -> None:
    assert run(command) == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["ls", "--frobnicate"],
        ["ls", "--filter"],
        ["ls", "--filter=a/b", "small-sha256-v1.img"],
        ["--hash=md5", "ls"],
        ["missing-objects", "small-sha256-v1.img"],
    ],
)
def test_usage_errors(run: Run, arguments: list[str]) -> None:
    assert run(*arguments, status=2) == ""


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["ls", "--help"], ["help"]])
def test_help(run: Run, arguments: list[str]) -> None:
    assert "measure-file" in run(*arguments)


@pytest.mark.parametrize("argument", ["--version", "-V"])
def test_version(run: Run, argument: str) -> None:
    assert re.fullmatch(r"composefs-info \S+\n", run(argument))


def test_no_image(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    with pytest.raises(ErofsError, match=r'^Failed to parse image: "file": Invalid image: bad composefs'):
        run("ls", "file")


def test_image_of_the_other_hash_than_asked_for(run: Run) -> None:
    with pytest.raises(ErofsError, match="made for sha512, expected sha256"):
        run("ls", "--hash=sha256", "sha512-v1.img")


@pytest.mark.parametrize(("command", "what"), [("ls", "image"), ("measure-file", "file")])
def test_missing_file(run: Run, command: str, what: str) -> None:
    with pytest.raises(FileNotFoundError, match=f'Failed to open {what}: "nothing": No such file'):
        run(command, "nothing")


@pytest.mark.parametrize("command", ["ls", "dump", "objects"])
def test_output_of_what_was_good_stays(
    run: Run, command: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    good = run(command, "small-sha256-v1.img")
    with pytest.raises(FileNotFoundError):
        run(command, "small-sha256-v1.img", "nothing")
    assert capfdbinary.readouterr().out.decode() == good
