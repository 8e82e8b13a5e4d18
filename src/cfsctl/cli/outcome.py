"""From what a program raised to its exit status and its words on standard error."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

_SIGNAL_BASE = 128
_OS_ERROR_CODES = {
    errno.ENOSPC: ExitCode.NO_SPACE,
    errno.EDQUOT: ExitCode.NO_SPACE,
    errno.ENOENT: ExitCode.NOT_FOUND,
}


class TerminatedError(BaseException):
    """A signal asked the program to end; raised so that everything unwinds and cleans up."""

    def __init__(self, signal_number: int) -> None:
        """Keep the number of the signal."""
        super().__init__(signal_number)
        self.signal_number = signal_number


def run_guarded(program: Callable[[], int]) -> int:
    """Run `program` and turn every way out of it into an exit status.

    Errors that are meant for the user become one line on standard error, a closed standard output
    ends quietly, and SIGTERM and SIGHUP unwind the program before it ends. With ``CFSCTL_DEBUG`` set
    in the environment errors keep their traceback.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise_terminated)
    try:
        status = program()
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return _SIGNAL_BASE + signal.SIGPIPE
    except TerminatedError as ended:
        return _SIGNAL_BASE + ended.signal_number
    except KeyboardInterrupt:
        return _SIGNAL_BASE + signal.SIGINT
    except (CfsError, OSError) as error:
        if os.environ.get("CFSCTL_DEBUG"):
            raise
        return report_error(error)
    return status


def run_tool(program: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a program whose errors all have one exit status, as those of the tools of that name."""
    try:
        status = program(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (CfsError, OSError) as error:
        if os.environ.get("CFSCTL_DEBUG"):
            raise
        report_error(error)
        return ExitCode.ERROR
    return status


def report_error(error: CfsError | OSError) -> int:
    """Print the error on standard error and return the exit status of its kind."""
    for line in error_lines(error):
        print(line, file=sys.stderr)  # noqa: T201 - this is where errors are printed
    return exit_status(error)


def error_lines(error: CfsError | OSError) -> list[str]:
    """Return the lines that tell a person about the error."""
    if isinstance(error, CfsError):
        lines = [f"Error: {printable(str(error))}"]
        if error.hint:
            lines.append(f"Hint: {printable(error.hint)}")
        return lines
    return [f"Error: {printable(_os_error_text(error))}"]


def exit_status(error: CfsError | OSError) -> int:
    """Return the exit status that stands for this kind of error."""
    if isinstance(error, CfsError):
        return error.exit_code
    return _OS_ERROR_CODES.get(error.errno or 0, ExitCode.ERROR)


def escape_controls(text: str) -> str:
    """Return `text` with control characters but newline escaped, so that no name can steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def printable(text: str) -> str:
    """Return `text` on one line, with control characters escaped."""
    return escape_controls(text).replace("\n", "\\n")


def _os_error_text(error: OSError) -> str:
    reason = error.strerror or str(error)
    names = [os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, (str, bytes))]
    return f"{' -> '.join(names)}: {reason}" if names else reason


def _raise_terminated(number: int, _frame: FrameType | None) -> NoReturn:
    raise TerminatedError(number)


def _silence_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush cannot fail."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:  # nothing is left to write to, and nothing more to do about it
        return
