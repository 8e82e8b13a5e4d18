"""Measurements of one run in the text format of Prometheus, for node_exporter's textfile collector.

A command that has ``--metrics-file`` writes the file when it ends, however it ends but by SIGKILL. The file
is replaced as a whole. The time of the last success is taken over from the file that is replaced, so that an
alert can say how long ago the last good run was.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from typing import TYPE_CHECKING, Final, TypeVar, cast

import click

from cfsctl.cli.errors import exit_status
from cfsctl.cli.help import OUTPUT, assign_section, parameters_of
from cfsctl.cli.interruption import TerminatedError, status_of
from cfsctl.cli.output import tell
from cfsctl.errors import CfsError, ExitCode, describe
from cfsctl.linux.error_paths import relative_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cfsctl.cli.context import Session

F = TypeVar("F", bound="Callable[..., object]")

_PREFIX: Final = "cfsctl_"
_MAX_OLD_BYTES: Final = 1 << 20
_MODE: Final = 0o644

_HELP: Final = {
    "last_run_timestamp_seconds": "When the last run ended, in seconds since 1970.",
    "last_run_duration_seconds": "How long the last run took.",
    "last_run_exit_status": "Exit status of the last run.",
    "last_success_timestamp_seconds": "When the last run with exit status 0 ended, in seconds since 1970.",
    "objects_removed": "Objects that the last collection removed.",
    "removed_bytes": "Bytes of these objects.",
    "objects_kept": "Objects that the last collection kept.",
    "objects_checked": "Objects that the last check has read.",
    "errors": "Errors that the last check found.",
    "commits": "Commits, or container images, of the last pull.",
    "objects_fetched": "Objects that the last pull fetched.",
    "received_bytes": "Bytes that the last pull received.",
    "objects_stored": "Objects that the last pull stored.",
    "stored_bytes": "Bytes of these objects.",
}
"""All measurements; all are gauges, as they are of one run."""


class Measurements:
    """What the command that runs has measured."""

    def __init__(self) -> None:
        """Start empty."""
        self.values: dict[str, float] = {}

    def add(self, **values: float) -> None:
        """Add to measurements, by their names in the table of this module."""
        for name, value in values.items():
            assert name in _HELP, name
            self.values[name] = self.values.get(name, 0) + value


MEASURED: Final = Measurements()
"""Of this process, which runs one command. Commands add to it whether or not a file is asked for."""


def metrics_option(command: str) -> Callable[[F], F]:
    """Return what adds ``--metrics-file`` to a command that takes a session.

    Args:
        command: Name of the command, for the label.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(session: Session, *, metrics_file: str | None, **arguments: object) -> object:
            if metrics_file is None:
                return function(session, **arguments)
            with _writing(metrics_file, _labels(session, command)) as ended:
                result = function(session, **arguments)
                ended(result if isinstance(result, int) else ExitCode.OK)
                return result

        before = len(parameters_of(call))
        add = click.option(
            "--metrics-file",
            metavar="FILE",
            callback=_check_place,
            help="When the command ends, write measurements to this file in the text format of Prometheus.",
        )
        grouped = add(call)
        assign_section(parameters_of(grouped)[before:], OUTPUT)
        return cast("F", grouped)

    return decorate


def _check_place(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a file that cannot be written, before anything is done."""
    if value is None:
        return None
    directory = os.path.dirname(value) or "."
    if not os.path.basename(value) or not os.path.isdir(directory) or not _is_replaceable(value):
        raise click.BadParameter(f"{value!r}: expected a file in a directory that exists")
    return value


def _is_replaceable(path: str) -> bool:
    """Return whether nothing is lost if a new file takes this name: not that of /dev/null or /dev/stdout."""
    if os.path.islink(path) and os.readlink(path).startswith("/proc/"):
        return False
    return os.path.isfile(path) or not os.path.exists(path)


def _labels(session: Session, command: str) -> dict[str, str]:
    labels = {"command": command}
    with contextlib.suppress(CfsError):
        labels["repository"] = os.path.abspath(session.repository_path())
    return labels


@contextlib.contextmanager
def _writing(path: str, labels: Mapping[str, str]) -> Iterator[Callable[[int], None]]:
    """Write the file at the end of the block, which says how it has ended."""
    began = time.monotonic()
    status: int = ExitCode.ERROR

    def ended(result: int) -> None:
        nonlocal status
        status = result

    try:
        yield ended
    except (CfsError, OSError) as error:
        status = exit_status(error)
        raise
    except click.exceptions.Exit as error:
        status = error.exit_code
        raise
    except click.UsageError:
        status = ExitCode.USAGE
        raise
    except (KeyboardInterrupt, TerminatedError) as error:
        status = status_of(error.signal_number if isinstance(error, TerminatedError) else 2)
        raise
    finally:
        MEASURED.add(last_run_exit_status=status, last_run_duration_seconds=time.monotonic() - began)
        _write(path, labels)


def _write(path: str, labels: Mapping[str, str]) -> None:
    """Replace the file; a file that cannot be written is no reason for the command to fail."""
    now = time.time()
    MEASURED.add(last_run_timestamp_seconds=now)
    if MEASURED.values["last_run_exit_status"] == ExitCode.OK:
        MEASURED.add(last_success_timestamp_seconds=now)
    elif (before := _read_last_success(path, labels)) is not None:
        MEASURED.add(last_success_timestamp_seconds=before)
    try:
        _replace(path, "".join(iter_lines(MEASURED.values, labels)).encode())
    except OSError as error:
        tell(f"cfsctl: --metrics-file: {describe(error)}")


def _replace(path: str, data: bytes) -> None:
    """Replace a file as a whole, by one that the exporter may read whatever the umask is."""
    from cfsctl.linux.files import AnonymousFile, write_all  # only where a file is asked for

    directory = os.path.dirname(path) or "."
    with relative_to(directory):
        dirfd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with AnonymousFile(dirfd, _MODE) as file:
                write_all(file.fd, data)
                file.replace(dirfd, os.path.basename(path))
        finally:
            os.close(dirfd)


def iter_lines(values: Mapping[str, float], labels: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the file."""
    text = _format_labels(labels)
    for name, help_text in _HELP.items():
        if name in values:
            full = _PREFIX + name
            yield f"# HELP {full} {help_text}\n# TYPE {full} gauge\n"
            yield f"{full}{text} {_format_value(values[name])}\n"


def _format_value(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"


def _format_labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    """Return a label's value; bytes that are not text are replaced, as the format has only UTF-8."""
    text = value.encode("utf8", "surrogateescape").decode("utf8", "replace")
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _read_last_success(path: str, labels: Mapping[str, str]) -> float | None:
    """Return the time of the last success that the file has for the same command and repository."""
    name = _PREFIX + "last_success_timestamp_seconds" + _format_labels(labels)
    try:
        with open(path, encoding="utf8") as file:
            text = file.read(_MAX_OLD_BYTES)
    except (OSError, UnicodeDecodeError):
        return None
    match = re.search(rf"^{re.escape(name)} (\d{{1,15}}(?:\.\d{{1,9}})?)$", text, re.MULTILINE)
    return float(match[1]) if match else None
