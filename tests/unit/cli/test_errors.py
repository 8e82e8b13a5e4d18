from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from cfsctl.cli.errors import error_lines, exit_status, report_error
from cfsctl.errors import CfsError, DigestMismatchError, ExitCode, FetchError, FormatError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CfsError("x"), 1),
        (FormatError("x"), 16),
        (DigestMismatchError("x", expected="a", actual="b"), 15),
        (FetchError("x"), 13),
        (OSError(errno.ENOSPC, "full"), 12),
        (OSError(errno.EDQUOT, "full"), 12),
        (FileNotFoundError(errno.ENOENT, "none"), 17),
        (PermissionError(errno.EACCES, "no"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_status(error: CfsError | OSError, status: int) -> None:
    assert exit_status(error) == status


def test_error_and_hint_are_a_line_each() -> None:
    assert error_lines(CfsError("it broke", hint="mend it")) == ["Error: it broke", "Hint: mend it"]


def test_operating_system_errors_name_the_file() -> None:
    assert error_lines(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/a")) == [
        "Error: /a: No such file or directory",
        "Hint: check the path",
    ]


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(CfsError("a\x1b[31m\nb", hint="\x9bc\u202e")) == ExitCode.ERROR
    assert capsys.readouterr().err == "Error: a\\x1b[31m\\nb\nHint: \\x9bc\\u202e\n"


RUN = "import sys; from cfsctl.cli.errors import run_guarded; sys.exit(run_guarded(lambda: ({body})))"


def run(body: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", RUN.format(body=body)], capture_output=True, check=False, timeout=120
    )


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_signals_end_with_their_number(name: str, status: int) -> None:
    done = run(f"__import__('os').kill(__import__('os').getpid(), __import__('signal').{name})")
    assert (done.returncode, done.stderr) == (status, b"")


def test_a_command_that_keeps_something_says_so() -> None:
    body = (
        "setattr(__import__('cfsctl.cli.errors', fromlist=['STYLE']).STYLE, 'command', 'pull'), "
        "__import__('os').kill(__import__('os').getpid(), __import__('signal').SIGINT)"
    )
    done = run(body)
    assert done.returncode == 130
    assert done.stderr == (
        b"cfsctl: interrupted: what was fetched and verified is kept; "
        b"run the same command again to go on from there\n"
    )


def test_unwinding_that_takes_too_long_is_cut_short() -> None:
    body = "stubborn()"
    program = f"""
import os, signal, time
from cfsctl.cli.errors import STYLE
def stubborn():
    STYLE.command = "gc"
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        time.sleep(3600)
{RUN.format(body=body)}"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=120)
    assert done.returncode == 143
    assert done.stderr.startswith(b"cfsctl: ended by SIGTERM: ")


def test_closed_standard_output_ends_quietly() -> None:
    shell = f'"{sys.executable}" -c "$0"; echo $? >&2'
    program = RUN.format(body="[print('x' * 1000) for _ in range(10000)] and 0")
    done = subprocess.run(
        ["bash", "-c", f"{{ {shell}; }} | true", program], capture_output=True, check=False, timeout=120
    )
    assert done.stderr.strip() == b"141"


def test_debugging_keeps_the_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(body="open('/nowhere')")],
        env={**os.environ, "CFSCTL_DEBUG": "1"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert b"Traceback" in done.stderr
    assert run("open('/nowhere')").returncode == ExitCode.NOT_FOUND
