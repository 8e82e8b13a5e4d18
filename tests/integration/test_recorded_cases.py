"""Recorded command lines of the original, played against ours in the recorded order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TypedDict

import pytest

from tests.support.archives import unpack_archive

VECTORS = Path(__file__).parents[1] / "vectors"

# One work directory is filled by all lines one after the other: a file of tests stays in one worker.


class Case(TypedDict, total=False):
    run: str
    status: int
    stdout: str
    order: str


CASES: list[Case] = json.loads((VECTORS / "cli" / "cases.json").read_text())

LATER = {
    129: "counts the dead streams of the original's pulls; ours leave none, but keep detached metadata",
    130: "the same",
    131: "the same",
    132: "the commit of line 126 leaves a fifo out, so it has an image of its own",
    134: "the same",
}
"""Cases of commands that are still to come, and cases that count what those would have made."""


def make_tree(root: Path) -> None:
    """Make the directory that the recorded lines scan: every kind of entry that needs no privilege."""

    def put(name: str, data: bytes, mode: int = 0o644) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)

    put("usr/bin/tool", b"#!/bin/sh\necho tool\n" * 20, 0o755)
    put("usr/bin/setuid", b"s" * 5000, 0o4755)
    put("usr/lib/big", bytes(range(256)) * 1024)
    put("usr/lib/empty", b"")
    put("usr/lib/64", b"x" * 64)
    put("usr/lib/65", b"y" * 65)
    put("etc/conf", b"key = value\n", 0o600)
    put("usr/lib/sp ace\n\\x", b"odd\n")
    (root / "empty").mkdir()
    (root / "usr/lib/big-link").hardlink_to(root / "usr/lib/big")
    (root / "usr/bin/link").symlink_to("../lib/big")
    os.mkfifo(root / "usr/lib/pipe", 0o600)
    os.setxattr(root / "usr/lib/65", "user.note", b"hi")
    os.setxattr(root / "usr", "user.dir", b"d")
    for base, _, files in os.walk(root, topdown=False):
        for name in files:
            os.utime(os.path.join(base, name), (1234567890, 1234567890), follow_symlinks=False)
        os.utime(base, (1234567891, 1234567891))
    os.utime(root / "etc/conf", ns=(1600000000123456789, 1600000000123456789))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, str]]:
    """Exit status, standard output and standard error of every line."""
    work = tmp_path_factory.mktemp("recorded")
    tools, fix, here = work / "bin", work / "fix", work / "t"
    for directory in (tools, fix, here):
        directory.mkdir()
    program = Path(sys.executable).parent / "cfsctl"
    for name in ("cfsctl", "mkcomposefs", "composefs-info"):
        (tools / name).symlink_to(program)
    with tarfile.open(VECTORS / "ostree" / "fixture" / "fixture.tar.xz") as archive:
        unpack_archive(archive, fix)
    old = os.umask(0o022)
    try:
        make_tree(here / "tree")
        environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(work / "home"),
            "FIX": str(fix),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }

        def clean(output: bytes) -> str:
            text = output.decode("utf-8", "backslashreplace")
            return text.replace(str(here), "$T").replace(str(fix), "$FIX")

        results = []
        for case in CASES:
            done = subprocess.run(
                ["bash", "-c", case["run"]],
                cwd=here,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=120,
            )
            results.append((done.returncode, clean(done.stdout), clean(done.stderr)))
    finally:
        os.umask(old)
    return results


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(i, marks=pytest.mark.xfail(reason=LATER[i]) if i in LATER else (), id=f"{i}")
        for i in range(len(CASES))
    ],
)
def test_line_answers_as_recorded(outcomes: list[tuple[int, str, str]], index: int) -> None:
    case = CASES[index]
    status, stdout, stderr = outcomes[index]
    expected = case["stdout"]
    if case.get("order") == "any":
        expected, stdout = ("\n".join(sorted(text.split("\n"))) for text in (expected, stdout))
    assert stdout == expected, f"{case['run']}\n{stderr}"
    # Ours tells kinds of errors apart; the original has 1 for all of them.
    assert status == case["status"] or (case["status"] == 1 and status > 2), f"{case['run']}\n{stderr}"


def test_errors_are_one_line_without_traceback(outcomes: list[tuple[int, str, str]]) -> None:
    for case, (_, _, stderr) in zip(CASES, outcomes, strict=True):
        assert "Traceback" not in stderr, case["run"]
