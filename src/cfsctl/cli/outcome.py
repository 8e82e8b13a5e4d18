"""From what a program raised to its exit status and its words on standard error."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import FrameType

_SIGNAL_BASE = 128
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
    """

    __slots__ = ("as_json", "with_traceback")

    def __init__(self) -> None:
        """Begin as the environment says."""
        self.reset()

    def reset(self) -> None:
        """Forget what a command line has said."""
        self.as_json = False
        self.with_traceback = bool(os.environ.get("CFSCTL_DEBUG"))


STYLE: Final = ErrorStyle()


class TerminatedError(BaseException):
    """A signal asked the program to end; raised so that everything unwinds and cleans up."""

    def __init__(self, signal_number: int) -> None:
        """Keep the number of the signal."""
        super().__init__(signal_number)
        self.signal_number = signal_number


def run_guarded(program: Callable[[], int]) -> int:
    """Run `program` and turn every way out of it into an exit status.

    Errors that are meant for the user become one line on standard error, a closed standard output
    ends quietly, and SIGTERM and SIGHUP unwind the program before it ends. Any other exception is a
    fault of the program and said to be so; see `ErrorStyle` for tracebacks.
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
    """Tell the error on standard error and return the exit status of its kind."""
    status = exit_status(error)
    if STYLE.with_traceback:
        _print_traceback(error)
    if STYLE.as_json:
        _print_document(error_document(error))
    else:
        _print_lines(error_lines(error))
    return status


def report_usage(message: str, usage: str = "", hint: str | None = None) -> int:
    """Tell on standard error what is wrong with a command line and return the exit status for that.

    Args:
        message: What is wrong.
        usage: How the command is used, printed before it.
        hint: What to do about it.
    """
    if STYLE.as_json:
        _print_document(_document(ExitCode.USAGE, message, hint))
    else:
        lines = [f"Error: {printable(message)}", *([f"Hint: {printable(hint)}"] if hint else [])]
        _print_lines([usage, *lines] if usage else lines)
    return ExitCode.USAGE


def report_fault(error: Exception) -> int:
    """Tell on standard error that the program itself is wrong."""
    if STYLE.with_traceback:
        _print_traceback(error)
    message = f"internal error: {type(error).__name__}: {error}"
    hint = "run it again with CFSCTL_DEBUG=1 in the environment, and report what that prints"
    if STYLE.as_json:
        _print_document(_document(ExitCode.ERROR, message, hint))
    else:
        _print_lines([f"Error: {printable(message)}", f"Hint: {hint}"])
    return ExitCode.ERROR


def error_document(error: CfsError | OSError) -> dict[str, object]:
    """Return what programs are told about the error; the schema is error.json."""
    message = str(error) if isinstance(error, CfsError) else _os_error_text(error)
    document = _document(exit_status(error), message, getattr(error, "hint", None))
    object_id = getattr(error, "object_id", None)
    path = getattr(error, "path", None) or getattr(error, "filename", None)
    if isinstance(object_id, bytes):
        document["object"] = object_id.hex()
    if isinstance(path, (str, bytes)):
        document["path"] = os.fsdecode(path)
    return document


def _document(status: int, message: str, hint: str | None) -> dict[str, object]:
    kind = ExitCode(status).name.lower().replace("_", "-")
    return {
        "kind": kind,
        "message": message,
        "hint": hint,
        "exit_code": int(status),
        "object": None,
        "path": None,
    }


def _print_document(document: dict[str, object]) -> None:
    import json  # noqa: PLC0415 - most runs print none

    _print_lines([json.dumps(document)])


def _print_traceback(error: BaseException) -> None:
    import traceback  # noqa: PLC0415 - seldom asked for

    traceback.print_exception(error)


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201 - this is where errors are printed


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
