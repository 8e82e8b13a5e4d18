"""Convert exceptions to exit statuses and error messages."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from cfsctl.cli.interruption import (
    SIGNAL_BASE,
    Interruption,
    TerminatedError,
    closing_line,
    status_of,
)
from cfsctl.cli.output import Level, tell_document, tell_lines
from cfsctl.cli.streams import StandardStreamError, silence_stdout
from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OS_ERROR_CODES = {
    errno.ENOSPC: ExitCode.NO_SPACE,
    errno.EDQUOT: ExitCode.NO_SPACE,
    errno.ENOENT: ExitCode.NOT_FOUND,
}


class ErrorStyle:
    """How this process tells errors; there is one standard error, so there is one style.

    Attributes:
        as_json: One JSON object instead of lines.
        with_traceback: Show where in the program the error came from.
        command: Name of the command that runs, once that is known.
        ended_by: Number of the signal that has ended the program, or None.
    """

    __slots__ = ("as_json", "command", "ended_by", "with_traceback")

    def __init__(self) -> None:
        """Begin as the environment says."""
        self.reset()

    def reset(self) -> None:
        """Forget what a command line has said."""
        self.as_json = False
        self.command: str | None = None
        self.ended_by: int | None = None
        self.with_traceback = bool(os.environ.get("CFSCTL_DEBUG"))


STYLE: Final = ErrorStyle()


def run_guarded(program: Callable[[], int]) -> int:
    """Run `program` and turn every way out of it into an exit status.

    Errors that are meant for the user become one line on standard error, a closed standard output
    ends quietly, and SIGINT, SIGTERM and SIGHUP unwind the program before it ends. Any other exception is a
    fault of the program and said to be so; see `ErrorStyle` for tracebacks.
    """
    interruption = Interruption(report_interruption)
    try:
        return _run(program)
    except (TerminatedError, KeyboardInterrupt) as ended:
        number = ended.signal_number if isinstance(ended, TerminatedError) else signal.SIGINT
        interruption.take_turn()
        report_interruption(number)
        STYLE.ended_by = number
        return status_of(number)
    finally:
        interruption.close()


def _run(program: Callable[[], int]) -> int:
    try:
        status = program()
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
        return SIGNAL_BASE + signal.SIGPIPE
    except (CfsError, OSError) as error:
        return report_error(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the user is told in one line
        return report_fault(error)
    return status


def run_tool(program: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a program whose errors all have one exit status, as those of the tools of that name."""
    try:
        status = program(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (CfsError, OSError) as error:
        report_error(error)
        return ExitCode.ERROR
    return status


def report_error(error: CfsError | OSError) -> int:
    """Report an error on standard error and return the exit status of its kind."""
    status = exit_status(error)
    if isinstance(error, StandardStreamError):
        silence_stdout()  # what is left in the buffer has nowhere to go
    if STYLE.with_traceback:
        _print_traceback(error)
    if STYLE.as_json:
        tell_document(error_document(error))
    else:
        tell_lines(error_lines(error), Level.ERROR)
    return status


def report_usage(message: str, usage: str = "", hint: str | None = None) -> int:
    """Report a usage error on standard error and return its exit status.

    Args:
        message: What is wrong.
        usage: How the command is used, printed before it.
        hint: What to do about it.
    """
    if STYLE.as_json:
        tell_document(_document(ExitCode.USAGE, message, hint))
    else:
        lines = [f"Error: {message}", *([f"Hint: {hint}"] if hint else [])]
        tell_lines([*usage.splitlines(), *lines], Level.ERROR)
    return ExitCode.USAGE


def report_fault(error: Exception) -> int:
    """Report an internal error on standard error."""
    if STYLE.with_traceback:
        _print_traceback(error)
    message = f"internal error: {type(error).__name__}: {error}"
    hint = "run it again with CFSCTL_DEBUG=1 in the environment, and report what that prints"
    if STYLE.as_json:
        tell_document(_document(ExitCode.ERROR, message, hint))
    else:
        tell_lines([f"Error: {message}", f"Hint: {hint}"], Level.ERROR)
    return ExitCode.ERROR


def report_interruption(number: int) -> None:
    """Report on standard error what an interrupted program has left behind."""
    message = closing_line(number, STYLE.command)
    if message is None:
        return
    if STYLE.as_json:
        kind = "timeout" if number == signal.SIGALRM else "interrupted"
        tell_document(_document(status_of(number), message, None) | {"kind": kind})
    else:
        program = STYLE.command if STYLE.command == "mkcomposefs" else "cfsctl"
        tell_lines([f"{program}: {message}"], Level.WARNING)


def error_document(error: CfsError | OSError) -> dict[str, object]:
    """Return what programs are told about the error; the schema is error.json."""
    message = str(error) if isinstance(error, CfsError) else _os_error_text(error)
    document = _document(exit_status(error), message, hint_of(error))
    object_id = getattr(error, "object_id", None)
    path = getattr(error, "path", None) or getattr(error, "filename", None)
    if isinstance(object_id, bytes):
        from cfsctl.digest import ObjectID, qualified  # few errors have one

        document["object"] = qualified(ObjectID(object_id))
    if isinstance(path, (str, bytes)):
        document["path"] = os.fsdecode(path)
    return document


def _document(status: int, message: str, hint: str | None) -> dict[str, object]:
    known = status in ExitCode.__members__.values()
    return {
        "kind": ExitCode(status).name.lower().replace("_", "-") if known else "other",
        "message": message,
        "hint": hint,
        "exit_code": int(status),
        "object": None,
        "path": None,
    }


def _print_traceback(error: BaseException) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    tell_lines(text.rstrip("\n").split("\n"), Level.DEBUG)


def error_lines(error: CfsError | OSError) -> list[str]:
    """Return the lines that tell a person about the error."""
    if isinstance(error, CfsError):
        lines = [f"Error: {error}"]
        if hint := hint_of(error):
            lines.append(f"Hint: {hint}")
        return lines
    hint = hint_of(error)
    return [f"Error: {_os_error_text(error)}", *([f"Hint: {hint}"] if hint else [])]


_OS_ERROR_HINTS: Final = {
    errno.EACCES: "check the permissions, or run it as the owner or as root",
    errno.EPERM: "this needs more rights: run it as root",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a directory is expected here: check the path",
    errno.EISDIR: "a file is expected here: check the path",
    errno.ELOOP: "links are not followed here: name the file or directory itself",
    errno.EROFS: "the file system is read-only: mount it for writing, or use another place",
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "the quota is used up: free some space and run the same command again",
    errno.EMFILE: "allow more open files: ulimit -n",
    errno.ENFILE: "the system has too many open files: end some programs, or raise fs.file-max",
    errno.ENOMEM: "the machine is out of memory: end other programs and try again",
    errno.EIO: "the disk or the network file system fails: see the messages of the kernel (dmesg)",
    errno.ESTALE: "the network file system has lost the file: mount it again",
}
"""What to do about errors of system calls that no room has explained better."""


def hint_of(error: CfsError | OSError) -> str | None:
    """Return what to do about an error, or None."""
    hint = getattr(error, "hint", None)
    if isinstance(hint, str):
        return hint
    return _OS_ERROR_HINTS.get(error.errno or 0) if isinstance(error, OSError) else None


def exit_status(error: CfsError | OSError) -> int:
    """Return the exit status that stands for this kind of error."""
    if isinstance(error, CfsError):
        return error.exit_code
    return _OS_ERROR_CODES.get(error.errno or 0, ExitCode.ERROR)


def _os_error_text(error: OSError) -> str:
    reason = error.strerror or str(error)
    names = [os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, (str, bytes))]
    return f"{' -> '.join(names)}: {reason}" if names else reason
