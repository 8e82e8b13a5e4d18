"""``cfsctl remote add``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import TRUST, Command, section
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.trust import remotes_option
from cfsctl.cli.output import print_document
from cfsctl.progress import Message


def _parse_options(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    options = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{text!r}: expected KEY=VALUE")
        options[key] = value
    return options


@click.command("add", cls=Command)
@click.argument("name", type=TEXT)
@click.argument("url", type=TEXT)
@section(
    TRUST,
    click.option(
        "--gpg-key",
        metavar="FILE",
        multiple=True,
        help="Require a GPG signature by a key in this keyring (binary or armored; copied). Repeatable.",
    ),
    click.option(
        "--verify-key",
        metavar="TYPE=inline:KEY|file:PATH",
        type=TEXT,
        multiple=True,
        help="Require a signature by this ed25519 or spki key, or one of those in the file.",
    ),
    click.option(
        "--no-gpg-verify",
        is_flag=True,
        help="Require no GPG signature. Without any key, one by a key of the system is required.",
    ),
    click.option("--verify-summary", is_flag=True, help="Require the same signatures of the summary."),
    click.option(
        "--collection-id", metavar="ID", type=TEXT, help="Collection ID that commits must be bound to."
    ),
)
@remotes_option
@click.option(
    "--set",
    "options",
    metavar="KEY=VALUE",
    type=TEXT,
    multiple=True,
    callback=_parse_options,
    help="Set another option of libostree. Repeatable.",
)
@click.option("--if-not-exists", is_flag=True, help="Do nothing if there is a remote of this name.")
@click.option("--force", is_flag=True, help="Replace a remote of this name.")
@json_option()
@pass_session
def command(
    session: Session,
    *,
    name: str,
    url: str,
    gpg_key: tuple[str, ...],
    verify_key: tuple[str, ...],
    no_gpg_verify: bool,
    verify_summary: bool,
    collection_id: str | None,
    remotes: str | None,
    options: dict[str, str],
    if_not_exists: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Configure the remote NAME at URL.

    Afterwards, NAME can stand in place of a URL: cfsctl ostree pull NAME REF. Pulls from it are
    verified as its configuration requires.
    """
    from cfsctl.library.remotes import NewRemote, add_remote, list_remotes

    if no_gpg_verify and gpg_key:
        raise click.UsageError("--no-gpg-verify and --gpg-key cannot be used together")
    if if_not_exists and force:
        raise click.UsageError("--if-not-exists and --force cannot be used together")
    if if_not_exists and name in list_remotes(remotes):
        _show(name, is_new=False, as_json=as_json)
        return
    new = NewRemote(
        name=name,
        url=url,
        gpg_keyrings=gpg_key,
        sign_keys=verify_key,
        verifies_gpg=False if no_gpg_verify else None,
        verifies_summary=verify_summary,
        collection_id=collection_id,
        options=options,
    )
    remote = add_remote(new, remotes, replace=force)
    if not remote.policy.commits:
        text = f"remote '{name}' requires no signatures: its commits are not verified"
        session.progress(Message(text, is_warning=True))
    _show(name, is_new=True, as_json=as_json)


def _show(name: str, *, is_new: bool, as_json: bool) -> None:
    if as_json:
        print_document({"name": name, "changed": is_new})
