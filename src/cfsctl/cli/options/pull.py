"""Options and helpers of the commands that pull."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import click

from cfsctl.cli.options.common import TEXT
from cfsctl.cli.output import print_document, print_line, print_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeVar, Unpack

    from cfsctl.cli.context import Session
    from cfsctl.digest import Checksum
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.pull.pull import PullResult
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.trust.policy import TrustPolicy

    F = TypeVar("F", bound=Callable[..., object])


_BASES = 8
"""Commits of the same run from which objects are taken that the next one shares."""


class PullArguments(TypedDict):
    """What `pull_options` adds to a command."""

    refs: tuple[str, ...]
    mirror: bool
    subpaths: tuple[str, ...]
    require_composefs_digest: bool
    base_name: str | None
    allow_downgrade: bool
    allow_unverified: bool
    ostree_xattr_names: str
    only_plan: bool
    as_json: bool


def pick(names: Iterable[str], arguments: Mapping[str, object]) -> Any:  # noqa: ANN401 - a TypedDict's
    """Return the options with the names of a TypedDict, as one."""
    return {name: arguments[name] for name in names}


def pull_options(function: F) -> F:
    """Add the argument REF and the options of every command that pulls."""
    from cfsctl.cli.options.common import json_option, xattr_names_option  # noqa: PLC0415 - parameters needs no pull

    for decorate in (
        json_option(),
        click.option(
            "--plan",
            "only_plan",
            is_flag=True,
            help="Only print what would be fetched, and whether there is room; exit with 12 if there is not.",
        ),
        xattr_names_option,
        click.option(
            "--allow-downgrade",
            is_flag=True,
            help="Allow the tag to move to an older commit, and accept a signed summary older than the last "
            "one.",
        ),
        click.option(
            "--allow-unverified",
            is_flag=True,
            help="Allow a tag to move from a verified commit to one that is not verified; with --mirror, "
            "also to one that is signed by other keys.",
        ),
        click.option(
            "--base-name",
            metavar="TAG",
            help="A stored commit that has much in common with the new one; its objects are reused.",
        ),
        click.option(
            "--require-composefs-digest",
            is_flag=True,
            help="Refuse a commit that has no composefs digest by libostree, or does not match it.",
        ),
        click.option("--mirror", is_flag=True, help="Pull all refs that the repository lists."),
        click.option(
            "--subpath",
            "subpaths",
            metavar="PATH",
            multiple=True,
            help="Pull only this path. Repeatable. The commit is partial until all of it is pulled.",
        ),
        click.argument("refs", metavar="REF...", type=TEXT, nargs=-1),
    ):
        function = decorate(function)
    return function


def pull_from(
    source: ObjectSource,
    session: Session,
    deltas: DeltaStore | None = None,
    trust: TrustPolicy | None = None,
    **arguments: Unpack[PullArguments],
) -> int:
    """Pull from a source, which is closed afterwards; print each result as soon as it is there.

    As JSON there is one document, at the end.

    Returns:
        The exit status.
    """
    from cfsctl.ostree.pull.pull import pull  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.tree.to_tree import XattrNames  # noqa: PLC0415 - the same

    if bool(arguments["refs"]) is arguments["mirror"]:
        raise click.UsageError("name at least one REF, or use --mirror without a REF")
    if arguments["subpaths"] and arguments["require_composefs_digest"]:
        raise click.UsageError("--require-composefs-digest needs all of the commit, not a --subpath")
    if arguments["only_plan"]:
        from cfsctl.cli.options.plan import plan_from  # noqa: PLC0415 - most pulls just pull

        return plan_from(source, session, deltas, trust, **arguments)
    pulled: list[Checksum] = []
    documents: list[dict[str, object]] = []
    try:
        with session.open_repository() as repository:
            for ref in arguments["refs"] or source.list_ref_names():
                result = pull(
                    repository,
                    source,
                    ref,
                    base_name=arguments["base_name"],
                    reporter=session.progress,
                    xattr_names=XattrNames(arguments["ostree_xattr_names"]),
                    allow_downgrade=arguments["allow_downgrade"],
                    allow_unverified=arguments["allow_unverified"],
                    is_mirror=arguments["mirror"],
                    deltas=deltas,
                    trust=trust,
                    subpaths=arguments["subpaths"],
                    also_bases=pulled[-_BASES:],
                    requires_composefs_digest=arguments["require_composefs_digest"],
                )
                if arguments["as_json"]:
                    documents.append(result_document(result))
                else:
                    _show(result, is_first=not pulled)
                pulled.append(result.commit)
    finally:
        source.close()
    if arguments["as_json"]:
        show_documents(documents)
    return 0


def commit_lines(result: PullResult) -> Iterator[str]:
    """Yield the lines that say what the repository has now."""
    yield f"commit  {result.commit.hex()}"
    yield f"verity  {result.stream_id.hex()}"
    yield f"image   {result.image_id.hex()}"
    if result.tag is not None:
        yield f"tagged  {result.tag}"
    for one in result.verified:
        yield f"signed  {one.describe()}"


def _show(result: PullResult, *, is_first: bool) -> None:
    if not is_first:
        print_line()
    print_lines(_lines(result))


def show_documents(documents: list[dict[str, object]]) -> None:
    """Print results as one JSON document."""
    print_document({"commits": documents})


def result_document(result: PullResult) -> dict[str, object]:
    """Return what the repository has now, for a JSON document."""
    from cfsctl.digest import qualified  # noqa: PLC0415 - keeps --help quick

    return {
        "commit": result.commit.hex(),
        "stream": qualified(result.stream_id),
        "image": qualified(result.image_id),
        "tag": result.tag,
        "signatures": [one.describe() for one in result.verified],
        "partial": result.is_partial,
        "metadata_fetched": result.metadata_fetched,
        "files_fetched": result.files_fetched,
        "received_bytes": result.received_bytes,
        "stored_objects": result.stored_objects,
        "stored_bytes": result.stored_bytes,
        "delta_parts": result.delta_parts,
    }


def _lines(result: PullResult) -> Iterator[str]:
    yield from commit_lines(result)
    how = f"via {result.delta_parts} delta parts" if result.delta_parts else "fetched"
    yield f"objects {result.metadata_fetched} metadata + {result.files_fetched} files {how}"
    if result.is_partial:
        yield "partial only some paths of the commit are here"
