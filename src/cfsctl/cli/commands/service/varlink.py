"""``cfsctl varlink``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

import cfsctl
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.errors import CfsError
from cfsctl.progress import Message

if TYPE_CHECKING:
    from cfsctl.varlink.options import ServiceOptions


class NoAddressError(CfsError):
    """Nowhere to serve: no address, and no socket from whoever started the program."""


@click.command("varlink", cls=Command)
@click.option(
    "--address",
    metavar="PATH",
    help="Socket to create and serve; only its owner can connect. An old socket where no service answers is "
    "replaced.",
)
@click.option("--stdio", is_flag=True, help="Serve one client on standard input and output.")
@pass_session
def command(session: Session, *, address: str | None, stdio: bool) -> None:
    """Serve the varlink interfaces org.composefs.Repository and org.composefs.Oci.

    Without options, serves the sockets that systemd or varlinkctl passes; cfsctl alone, without a
    command, does the same then. Calls name repositories themselves: of the global options, only
    --insecure, --require-verity, --no-upgrade, --lock-timeout and --fsync have an effect. Ends on SIGTERM
    and SIGINT with exit status 0, after running calls have been cancelled.
    """
    from cfsctl.varlink.service import serve_address, serve_passed, serve_stdio
    from cfsctl.varlink.sockets import is_activated, is_asked_for_stdio

    if stdio and address is not None:
        raise click.UsageError("--address and --stdio cannot be used together")
    options = _make_options(session)
    if stdio:
        serve_stdio(options)
    elif address is not None:
        serve_address(address, options, lambda: session.progress(Message(f"serving {address}")))
    elif is_activated(os.environ):
        serve_passed(os.environ, options)
    elif is_asked_for_stdio(os.environ):
        serve_stdio(options)
    else:
        raise NoAddressError(
            "no --address given and not socket-activated",
            hint="name a socket with --address, or start this from a systemd socket unit",
        )


def _make_options(session: Session) -> ServiceOptions:
    from cfsctl.varlink.options import ServiceOptions

    return ServiceOptions(
        insecure=session.insecure,
        require_verity=session.require_verity,
        upgrade=not session.no_upgrade,
        lock_timeout_s=session.lock_timeout_s,
        durability=cfsctl.Durability(session.fsync),
    )
