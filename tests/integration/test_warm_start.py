"""A command that is started from a process that has imported it does what its script does."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import warm_start
from tests.support.programs import CFSCTL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Outcome = tuple[int, bytes, bytes]


@pytest.fixture(autouse=True)
def _served(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CFSCTL_TESTS_REAL", raising=False)
    monkeypatch.setattr(warm_start, "_server", None)
    with warm_start.serving():
        yield


def warm(
    *arguments: str, place: Path, stdin: bytes | None = None, env: Mapping[str, str] | None = None
) -> Outcome:
    done = warm_start.run([CFSCTL, *arguments], cwd=place, stdin=stdin, env=env, limits={}, timeout_s=120)
    assert done is not None
    return done.returncode, done.stdout, done.stderr


def cold(
    *arguments: str, place: Path, stdin: bytes | None = None, env: Mapping[str, str] | None = None
) -> Outcome:
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run(
        [CFSCTL, *arguments], cwd=place, check=False, capture_output=True, env=env, **streams
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version", "--verbose"],
        ["init", "--insecure", "r"],
        ["--repo", "nowhere", "images"],
        ["no-such-command"],
        ["gc", "--help"],
        ["mkcomposefs", "--help"],
        ["compute-id", "."],
        ["create-dumpfile", os.fsdecode(b"\xff")],
    ],
    ids=lambda arguments: arguments[0],
)
def test_outcome_is_that_of_the_script(tmp_path: Path, arguments: list[str]) -> None:
    outcomes = []
    for start in (warm, cold):
        place = tmp_path / "place"
        place.mkdir()
        (place / os.fsdecode(b"\xff")).mkdir()
        outcomes.append(start(*arguments, place=place))
        place.rename(tmp_path / start.__name__)
    assert outcomes[0] == outcomes[1]


def test_more_goes_through_the_pipes_than_they_hold(tmp_path: Path) -> None:
    directories = b"".join(b"/%07d 0 40755 2 0 0 0 0.0 - - -\n" % number for number in range(20_000))
    dump = b"/ 0 40755 2 0 0 0 0.0 - - -\n" + directories
    command = ("mkcomposefs", "--from-file", "-", "-")
    (status, image, said), expected = (start(*command, place=tmp_path, stdin=dump) for start in (warm, cold))
    assert (status, image, said) == expected
    assert len(image) > 1 << 20


def test_nobody_may_read_what_is_written(tmp_path: Path) -> None:
    """The program ends without having read its standard input."""
    assert warm("--version", place=tmp_path, stdin=bytes(1 << 20))[0] == 0


def test_own_variables_and_umask(tmp_path: Path) -> None:
    assert warm("images", place=tmp_path, env={**os.environ, "CFSCTL_LOCK_TIMEOUT": "soon"})[0] == 2
    (tmp_path / "tree").mkdir()
    before = os.umask(0o057)
    try:
        for start in (warm, cold):
            assert start("mkcomposefs", "tree", start.__name__, place=tmp_path)[0] == 0
    finally:
        os.umask(before)
    assert (tmp_path / "warm").stat().st_mode == (tmp_path / "cold").stat().st_mode


@pytest.mark.parametrize("variable", ["PYTHONPATH", "LC_ALL", "TZ", "LD_PRELOAD"])
def test_what_python_reads_at_its_start_is_left_to_it(tmp_path: Path, variable: str) -> None:
    env = {**os.environ, variable: "x"}
    assert (
        warm_start.run([CFSCTL, "--version"], cwd=tmp_path, stdin=None, env=env, limits={}, timeout_s=120)
        is None
    )


def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    read, write = os.pipe()
    with pytest.raises(subprocess.TimeoutExpired):
        warm_start.run(
            [CFSCTL, "create-dumpfile", f"/proc/{os.getpid()}/fd/{read}"],
            cwd=tmp_path, stdin=None, env=None, limits={}, timeout_s=0,
        )  # fmt: skip
    os.close(read)
    os.close(write)
    assert warm("--version", place=tmp_path)[0] == 0


def test_limits_are_those_of_the_command_alone(tmp_path: Path) -> None:
    limits = {resource.RLIMIT_FSIZE: 100}
    done = warm_start.run(
        [CFSCTL, "mkcomposefs", ".", "image"],
        cwd=tmp_path,
        stdin=None,
        env=None,
        limits=limits,
        timeout_s=120,
    )
    assert done is not None
    assert b"File too large" in done.stderr
    assert warm("mkcomposefs", ".", "image", place=tmp_path)[0] == 0


def test_files_for_its_streams(tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(b"/ 0 40755 2 0 0 0 0.0 - - -\n")
    with (tmp_path / "dump").open("rb") as dump, (tmp_path / "out").open("wb") as out:
        done = warm_start.run(
            [CFSCTL, "mkcomposefs", "--from-file", "-", "-"],
            cwd=tmp_path,
            stdin=dump.fileno(),
            stdout=out.fileno(),
            env=None,
            limits={},
            timeout_s=120,
        )
    assert done is not None
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("is_full", [True, False])
def test_output_that_nobody_takes(tmp_path: Path, *, is_full: bool) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open("/dev/full", "wb") as full:
        done = warm_start.run(
            [CFSCTL, "--version"],
            cwd=tmp_path,
            stdin=None,
            stdout=full.fileno() if is_full else write_end,
            env=None,
            limits={},
            timeout_s=120,
        )
    os.close(write_end)
    assert done is not None
    assert done.returncode == (12 if is_full else 128 + signal.SIGPIPE)
