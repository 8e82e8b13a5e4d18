"""Options that select trusted keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import click

import cfsctl
from cfsctl.cli.help import TRUST, section
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.options.groups import option_group
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.cli.context import Session


_COMMIT_ID: Final = re.compile(r"[0-9a-f]{64}")


class TrustArguments(NamedTuple):
    """What `trust_options` adds to a command.

    Attributes:
        gpg_key: Keyrings of which a signature is demanded.
        verify_key: Keys of which a signature is demanded.
        collection_id: Collection that the commit must be bound to, or None.
        remote: Remote whose configuration counts, or None.
        remotes: Directory where remotes are configured, or None for the system's.
    """

    gpg_key: tuple[str, ...]
    verify_key: tuple[str, ...]
    collection_id: str | None
    remote: str | None
    remotes: str | None

    @property
    def has_keys(self) -> bool:
        """Whether there are keys on the command line."""
        return bool(self.gpg_key or self.verify_key)


remotes_option = click.option(
    "--remotes",
    metavar="DIR",
    help="Directory with *.conf files and keyrings of remotes, or an OSTree repository; the default is "
    "/etc/ostree/remotes.d.",
)
"""Says where remotes are configured."""

trust_options = option_group(
    "trusting",
    TrustArguments,
    (
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
    ),
    TRUST,
)
"""Adds the options that say which keys count, and which remote's configuration, as `trusting`."""


verify_summary_option = section(
    TRUST,
    click.option("--verify-summary", is_flag=True, help="Require the same signatures on the summary."),
)
"""Demands a signed summary, from which names are taken then."""


def load_policy(
    trusting: TrustArguments,
    *,
    remote: cfsctl.Remote | None = None,
    summary: bool = False,
    delta: bool = False,
) -> cfsctl.TrustPolicy | None:
    """Return what the options demand, or None if they demand nothing.

    Args:
        trusting: The options.
        remote: A remote that was found already.
        summary: Whether the summary must be signed as commits must.
        delta: Whether a delta must be signed by one of the keys of an engine.
    """
    remote = _choose_remote(trusting, remote)
    if remote is not None:
        if trusting.has_keys or trusting.collection_id is not None:
            raise click.UsageError(
                "a remote's configuration and keys on the command line cannot be used together"
            )
        return remote.policy.with_demands(f"remote '{remote.name}'", summaries=summary, deltas=delta)
    if (summary or delta) and not trusting.has_keys:
        raise click.UsageError("nothing can be verified without --gpg-key, --verify-key or --remote")
    if not trusting.has_keys and trusting.collection_id is None:
        return None

    try:
        return cfsctl.trust_keys(
            gpg_keyrings=trusting.gpg_key,
            sign_keys=trusting.verify_key,
            collection_id=trusting.collection_id,
            summaries=summary,
            deltas=delta,
            where="command line",
        )
    except cfsctl.KeySpellingError as error:
        raise click.UsageError(str(error)) from error


def tell_unsigned(
    session: Session, source: str, trust: cfsctl.TrustPolicy | None, refs: Sequence[str] | None
) -> None:
    """Tell that what was pulled from a server was not compared with any signature, and how to demand one.

    Args:
        session: Where to tell it.
        source: URL of the repository.
        trust: What was demanded.
        refs: What was pulled; None is everything. A user who names commits by ID knows which ones are wanted.
    """
    from cfsctl.library.sources import redact_url

    if trust is not None and (trust.commits or trust.summaries):
        return
    if refs is not None and all(_COMMIT_ID.fullmatch(ref) for ref in refs):
        return
    session.progress(
        Message(
            f"{redact_url(source)}: no signatures were verified; --gpg-key and --verify-key demand them,"
            " and so does a remote with keys (cfsctl remote add)",
            is_warning=True,
        )
    )


def _choose_remote(trusting: TrustArguments, found: cfsctl.Remote | None) -> cfsctl.Remote | None:
    """Return the remote whose configuration counts, of the one that is pulled from and what options say."""
    name, directory = trusting.remote, trusting.remotes
    if found is not None and name not in {None, found.name}:
        raise click.UsageError(
            f"'{found.name}' is the source, but --remote names '{name}': use only one of them"
        )
    if found is None and name is None and directory is not None:
        raise click.UsageError("--remotes needs a remote: name one with --remote, or in place of URL")
    if found is not None or name is None:
        return found
    from cfsctl.library.sources import find_remote

    return find_remote(name, directory)
