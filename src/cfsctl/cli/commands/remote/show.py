"""``cfsctl remote show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_remotes
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.trust import remotes_option
from cfsctl.cli.output import print_document, print_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@click.command("show", cls=Command)
@click.argument("name", type=TEXT, shell_complete=complete_remotes)
@remotes_option
@json_option()
def command(*, name: str, remotes: str | None, as_json: bool) -> None:
    """Print the configuration of the remote NAME, and the keys that are accepted."""
    from cfsctl.library.remotes import describe_remote
    from cfsctl.library.sources import find_remote, redact_url

    remote = find_remote(name, remotes)
    options = {key: redact_url(value) if "://" in value else value for key, value in remote.options.items()}
    document = {"name": name, "options": options, **describe_remote(remote)}
    if as_json:
        print_document(document)
    else:
        print_lines(_lines(document))


def _lines(document: Mapping[str, object]) -> Iterator[str]:
    options = document["options"]
    assert isinstance(options, dict)
    yield from (f"{key}: {value}" for key, value in options.items())
    for key, label in (("commits", "signatures of commits"), ("summaries", "signatures of the summary")):
        kinds = document[key]
        assert isinstance(kinds, list)
        yield f"{label}: {' and '.join(kinds) if kinds else 'not required'}"
    for key in ("gpg_keys", "sign_keys"):
        found = document[key]
        assert isinstance(found, list)
        prefix = "gpg " if key == "gpg_keys" else ""
        yield from (f"accepted key: {prefix}{each}" for each in found)
