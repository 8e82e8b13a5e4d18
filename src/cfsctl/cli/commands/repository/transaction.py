"""``cfsctl transaction``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command


@click.command(
    "transaction",
    cls=Command,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("program", nargs=-1, type=click.UNPROCESSED)
@pass_session
def command(session: Session, program: tuple[str, ...]) -> int:
    """Hold the repository's shared lock, to delay garbage collection.

    With PROGRAM, run it under the lock and exit with its status; otherwise wait until interrupted.
    """
    import signal  # only this command needs it
    import subprocess

    with session.open():
        if not program:
            signal.pause()
            return 0
        status = subprocess.run(program, check=False).returncode
    return 128 - status if status < 0 else status
