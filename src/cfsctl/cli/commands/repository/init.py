"""``cfsctl init``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_directories
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import algorithm_option, erofs_version_option, json_option
from cfsctl.cli.output import print_document, print_line
from cfsctl.erofs.format import FormatVersion

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm


@click.command("init", cls=Command)
@click.argument("path", required=False, shell_complete=complete_directories)
@algorithm_option
@click.option("--insecure", is_flag=True, help="Do not require fs-verity.")
@click.option(
    "--reset-metadata", is_flag=True, help="First remove all images, streams and refs, but not objects."
)
@click.option("--ensure", is_flag=True, help="Do not change an existing repository.")
@erofs_version_option("Format of images made in the repository (default: 1).")
@json_option()
@pass_session
def command(
    session: Session,
    *,
    path: str | None,
    algorithm: Algorithm,
    insecure: bool,
    reset_metadata: bool,
    ensure: bool,
    erofs_version: FormatVersion | None,
    as_json: bool,
) -> None:
    """Create a repository at PATH; without PATH, where the global options say.

    For an existing repository, this succeeds if its configuration matches the options.
    """
    from cfsctl.library.setup import InitStatus, init_repository

    if path == "":
        raise click.BadParameter("expected a path, found nothing", param_hint="PATH")
    where = session.repository_path() if path is None else path
    insecure = insecure or session.insecure
    versions = (erofs_version, session.format_version, FormatVersion.V1)
    status = init_repository(
        where,
        algorithm=algorithm,
        erofs_version=next(version for version in versions if version is not None),
        insecure=insecure,
        exist_ok=ensure,
        reset_metadata=reset_metadata,
        lock_timeout_s=session.lock_timeout_s,
        progress=session.progress,
    )
    if as_json:
        print_document({"path": where, "status": status.name.lower()})
        return
    match status:
        case InitStatus.CREATED:
            print_line(f"Initialized composefs repository at {where}")
            print_line(f"  algorithm: {algorithm.label}")
            print_line(f"  verity:    {'not required (insecure)' if insecure else 'required'}")
        case InitStatus.EXISTED:
            print_line(f"Repository already initialized at {where}")
        case InitStatus.PRESERVED:
            print_line(f"Repository already initialized at {where} (existing configuration preserved)")
        case InitStatus.UPGRADED:
            print_line(f"Upgraded legacy repository at {where}")
