"""Options that select trusted keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

from cfsctl.cli.options.common import TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.ostree.trust.remotes import Remote

F = TypeVar("F", bound="Callable[..., object]")


class TrustArguments(TypedDict):
    """What `trust_options` adds to a command."""

    gpg_key: tuple[str, ...]
    verify_key: tuple[str, ...]
    collection_id: str | None
    remote: str | None
    remotes: str | None


remotes_option = click.option(
    "--remotes",
    metavar="DIR",
    help="Directory with *.conf files and keyrings of remotes, or an OSTree repository; the default is "
    "/etc/ostree/remotes.d.",
)
"""Says where remotes are configured."""


def trust_options(function: F) -> F:
    """Add the options that say which keys count, and which remote's configuration."""
    for decorate in (
        remotes_option,
        click.option(
            "--remote", metavar="NAME", type=TEXT, help="Verify as this remote's configuration requires."
        ),
        click.option(
            "--collection-id", metavar="ID", type=TEXT, help="Collection ID that the commit must be bound to."
        ),
        click.option(
            "--verify-key",
            metavar="TYPE=inline:KEY|file:PATH",
            multiple=True,
            help="Require a signature by one of the ed25519 or spki keys that are given with this option.",
        ),
        click.option(
            "--gpg-key",
            metavar="FILE",
            multiple=True,
            help="Require a GPG signature by a key in this keyring, binary or armored. Repeatable.",
        ),
    ):
        function = decorate(function)
    return function


def load_policy(
    arguments: TrustArguments, *, remote: Remote | None = None, summary: bool = False, delta: bool = False
) -> TrustPolicy | None:
    """Return what the options demand, or None if they demand nothing.

    Args:
        arguments: The options.
        remote: A remote that was found already.
        summary: Whether the summary must be signed as commits must.
        delta: Whether a delta must be signed by one of the keys of an engine.
    """
    has_keys = bool(arguments["gpg_key"] or arguments["verify_key"])
    remote = _choose_remote(arguments, remote)
    if remote is not None:
        if has_keys or arguments["collection_id"] is not None:
            raise click.UsageError(
                "a remote's configuration and keys on the command line cannot be used together"
            )
        return remote.policy.with_demands(f"remote '{remote.name}'", summaries=summary, deltas=delta)
    if (summary or delta) and not has_keys:
        raise click.UsageError("nothing can be verified without --gpg-key, --verify-key or --remote")
    if not has_keys and arguments["collection_id"] is None:
        return None
    from cfsctl.ostree.trust.from_keys import KeySpellingError, trust_keys  # noqa: PLC0415 - keeps --help quick

    try:
        return trust_keys(
            gpg_keyrings=arguments["gpg_key"],
            sign_keys=arguments["verify_key"],
            collection_id=arguments["collection_id"],
            summaries=summary,
            deltas=delta,
            where="command line",
        )
    except KeySpellingError as error:
        raise click.UsageError(str(error)) from error


def _choose_remote(arguments: TrustArguments, found: Remote | None) -> Remote | None:
    """Return the remote whose configuration counts, of the one that is pulled from and what options say."""
    name, directory = arguments["remote"], arguments["remotes"]
    if found is not None and name not in {None, found.name}:
        raise click.UsageError(
            f"'{found.name}' is the source, but --remote names '{name}': use only one of them"
        )
    if found is None and name is None and directory is not None:
        raise click.UsageError("--remotes needs a remote: name one with --remote, or in place of URL")
    return find_remote(name, directory) if found is None and name is not None else found


def find_remote(name: str, directory: str | None) -> Remote:
    """Return a configured remote, from a directory or where the system has them."""
    from cfsctl.ostree.trust.remotes import DEFAULT_DIRECTORY, load_remote  # noqa: PLC0415 - keeps --help quick

    return load_remote(name, directory or DEFAULT_DIRECTORY)
