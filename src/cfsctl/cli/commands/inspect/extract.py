"""``cfsctl extract``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_directories, complete_sources
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.diff import RepositoryOpener
from cfsctl.cli.options.tree import tree_reading
from cfsctl.cli.output import print_document, print_line, write_bytes
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    import cfsctl


class _OptionalArgument(click.Argument):
    """An argument that may be left out although another one follows."""

    def make_metavar(self, ctx: click.Context) -> str:
        """Return how it stands in the usage."""
        del ctx
        return f"[{self.human_readable_name}]"


@click.command("extract", cls=Command)
@click.argument("source", shell_complete=complete_sources)
@click.argument("path", nargs=-1, cls=_OptionalArgument)
@click.argument("directory", required=False, shell_complete=complete_directories)
@json_option()
@click.option("--tar", "as_tar", is_flag=True, help="Write a tar archive to standard output; no DIRECTORY.")
@pass_session
def command(
    session: Session,
    *,
    source: str,
    path: tuple[str, ...],
    directory: str | None,
    as_json: bool,
    as_tar: bool,
) -> None:
    """Copy the directory PATH of the tree SOURCE to DIRECTORY, without mounting it.

    SOURCE is an image, an OSTree commit or a container image, named as for ls. PATH is / by default; a file
    is copied into DIRECTORY. DIRECTORY must be new or empty. A new one appears when it is complete. Every
    file is verified. Blocks are shared with the repository where the file system can do that.

    Root sets owners and creates devices. For other users, files belong to them, set-user-ID and set-group-ID
    bits are cleared, and devices are left out.
    """
    if as_tar and as_json:
        raise click.UsageError("--tar and --json cannot be used together")
    place, target = _choose(path, directory, as_tar=as_tar)
    with RepositoryOpener(session) as opener:
        reading = tree_reading(session, opener)
        if as_tar:
            from cfsctl.library.contents import iter_tar

            write_bytes(iter_tar(source, place, reading=reading))
            return
        from cfsctl.library.contents import extract

        counts = extract(source, target, place, reading=reading)
    for text in _notes(counts):
        session.progress(Message(text))
    if as_json:
        print_document(_document(counts))
    else:
        print_line(f"files: {counts.files}, directories: {counts.directories}, bytes: {counts.size_bytes}")


def _choose(path: tuple[str, ...], directory: str | None, *, as_tar: bool) -> tuple[str, str]:
    """Return the path in the tree and the directory on disk."""
    given = [*path, *([] if directory is None else [directory])]
    if as_tar:
        if len(given) > 1:
            raise click.UsageError("--tar takes no DIRECTORY: it writes to standard output")
        return (given or ["/"])[0], ""
    if not given:
        raise click.UsageError("Missing argument 'DIRECTORY'.")
    *places, target = given
    if len(places) > 1:
        raise click.UsageError(f"Got unexpected extra argument ({target})")
    if not target:
        raise click.BadParameter("expected a path, found nothing", param_hint="DIRECTORY")
    return (places or ["/"])[0], target


def _notes(counts: cfsctl.ExtractCounts) -> Iterator[str]:
    yield from (f"{path}: left out, only root can create devices" for path in counts.skipped)
    for name, count in counts.refused.items():
        yield f"attribute {name} of {count} files is left out: this user or file system may not set it"


def _document(counts: cfsctl.ExtractCounts) -> dict[str, object]:
    return {
        "files": counts.files,
        "directories": counts.directories,
        "links": counts.links,
        "others": counts.others,
        "bytes": counts.size_bytes,
        "reflinked_bytes": counts.reflinked_bytes,
        "skipped": counts.skipped,
        "refused_attributes": [{"name": name, "files": count} for name, count in counts.refused.items()],
    }
