"""Entry point: choose the program by its name, run it, and convert its result to an exit status."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Program = Callable[[Sequence[str]], int]

TOOLS = ("mkcomposefs", "composefs-info", "mount.composefs", "composefs-setup-root")
"""Programs that share this entry point; reached by argv[0] or as the first argument."""


_MANY_CONTAINERS: Final = 50_000
"""New containers after which to look for cycles of garbage. By default, these are 700, and imports alone make
so many that the search takes a tenth of a short command."""


def main() -> int:
    """Run the program that argv names, and end the process.

    Returns:
        The exit status, if the process cannot be ended yet.
    """
    gc.set_threshold(_MANY_CONTAINERS)
    _end_quietly_on_interrupt()
    # Imported here, to keep the import of this module free.
    from cfsctl.cli.encoding import restart_in_utf8_mode
    from cfsctl.cli.streams import prepare_streams

    prepare_streams()
    restart_in_utf8_mode()
    from cfsctl.cli.errors import STYLE, run_guarded
    from cfsctl.cli.interruption import end_at_once

    status = run_guarded(_run)
    if STYLE.ended_by is not None:
        # The interpreter would wait for threads, which may wait for a server.
        end_at_once(STYLE.ended_by)
    _end(status)
    return status


def _end(status: int) -> None:
    """End the process and leave its memory to the kernel, unless something is left to be waited for.

    The interpreter would free all modules and objects one by one, which takes a sixth of a short command.
    Only what it does before that matters: to wait for threads, to run exit handlers, and to flush streams.
    """
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        return
    import atexit  # as in `main`

    from cfsctl.cli.streams import flush_streams

    atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing does; there is no public name
    if flush_streams():  # otherwise the interpreter says what is wrong
        os._exit(status)


def _end_quietly_on_interrupt() -> None:
    """Let an interrupt end the process until handlers are there, instead of a traceback from an import."""
    import signal  # as in `main`

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run() -> int:
    """Run the program that was requested."""
    name = os.path.basename(sys.argv[0])
    arguments = sys.argv[1:]
    if name not in TOOLS and arguments and arguments[0] in TOOLS:
        name, arguments = arguments[0], arguments[1:]
    if shell := os.environ.get("_CFSCTL_COMPLETE"):
        from cfsctl.cli import completion  # only when a key is pressed in a shell

        return completion.main(shell, arguments, name if name in TOOLS else "cfsctl")
    if name in TOOLS:
        from cfsctl.cli.errors import STYLE, run_tool  # as in `main`

        STYLE.command = name
        return run_tool(_program(name), arguments)
    if arguments in (["--version"], ["-V"]) and not any(key.startswith("CFSCTL_") for key in os.environ):
        from cfsctl.cli.version import print_version  # in half the time of all options

        print_version(is_verbose=False, as_json=False)
        return 0
    return _program(name)(arguments)


def _program(name: str) -> Program:
    """Import and return the program called `name`; anything unknown is cfsctl itself."""
    # Imported here, so that no program pays for the start of another.
    if name == "mkcomposefs":
        from cfsctl.cli.tools import mkcomposefs

        return mkcomposefs.main
    if name == "composefs-info":
        from cfsctl.cli.tools import composefs_info

        return composefs_info.main
    if name == "mount.composefs":
        from cfsctl.cli.tools import mount_composefs

        return mount_composefs.main
    if name == "composefs-setup-root":
        from cfsctl.cli.tools import setup_root

        return setup_root.main
    from cfsctl.cli import app

    return app.main
