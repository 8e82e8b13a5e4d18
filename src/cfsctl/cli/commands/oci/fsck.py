"""``cfsctl oci fsck``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, asks_for_json, json_option
from cfsctl.cli.output import print_document, print_lines
from cfsctl.errors import ExitCode, IntegrityError


@click.command("fsck", cls=Command)
@click.argument("name", type=TEXT, required=False, shell_complete=complete_oci_images)
@click.option(
    "--deep",
    is_flag=True,
    help="Read all content, compare every layer with its digest, and rebuild the images to compare them.",
)
@json_option(
    "Print a JSON document. The exit status is then 0 even if damage is found, unless --json stands before "
    "the command or is set in the environment."
)
@pass_session
@click.pass_context
def command(context: click.Context, session: Session, *, name: str | None, deep: bool, as_json: bool) -> int:
    """Check the whole repository, then all images that have a tag, or only the image NAME."""
    with session.open() as repository:
        report = repository.oci.fsck(name, deep=deep, progress=session.progress)
    if as_json:
        print_document(report.as_dict(), is_original=asks_for_json(context))
        return ExitCode.OK if report.is_ok or asks_for_json(context) else ExitCode.CORRUPTION
    print_lines(report.lines())
    if not report.is_ok:
        raise IntegrityError("OCI integrity check failed", hint="pull the image again to repair it")
    return ExitCode.OK
