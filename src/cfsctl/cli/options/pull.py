"""Options and helpers of the commands that pull."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import click

import cfsctl
from cfsctl.cli.help import OUTPUT, SOURCE, TRUST, section
from cfsctl.cli.metrics import MEASURED
from cfsctl.cli.options.common import TEXT, json_option, xattr_names_option
from cfsctl.cli.options.groups import option_group
from cfsctl.cli.options.keeping import keep_option
from cfsctl.cli.options.trust import tell_unsigned
from cfsctl.cli.output import print_document, print_line, print_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.cli.context import Session
    from cfsctl.library.sources import Location, SourceOptions


class PullRequest(NamedTuple):
    """What is pulled, how, and what is printed.

    Attributes:
        refs: Refs, or IDs of commits; None is all refs that the source lists.
        options: How commits are pulled.
        keep: How many earlier targets of each tag are kept; None keeps none and removes none.
        only_plan: Only say what would be fetched.
        as_json: Print a JSON document.
    """

    refs: tuple[str, ...] | None
    options: cfsctl.PullOptions
    keep: int | None
    only_plan: bool
    as_json: bool


def _make_request(
    *,
    refs: tuple[str, ...],
    mirror: bool,
    subpaths: tuple[str, ...],
    requires_composefs_digest: bool,
    base_name: str | None,
    allow_downgrade: bool,
    allow_unverified: bool,
    ostree_xattr_names: str,
    keep: int | None,
    only_plan: bool,
    as_json: bool,
) -> PullRequest:
    """Return what the command line asks for.

    Raises:
        click.UsageError: Options that exclude each other, or need each other.
        InvalidSubpathError: A subpath cannot be one.
    """
    if bool(refs) is mirror:
        raise click.UsageError(
            "name at least one REF after the repository, or use --mirror without a REF;"
            " `cfsctl ostree list-refs URL` lists those of a server"
        )
    if subpaths and requires_composefs_digest:
        raise click.UsageError("--require-composefs-digest needs all of the commit, not a --subpath")
    options = cfsctl.PullOptions(
        base_name=base_name,
        subpaths=subpaths,
        requires_composefs_digest=requires_composefs_digest,
        allow_downgrade=allow_downgrade,
        allow_unverified=allow_unverified,
        xattr_names=cfsctl.XattrNames(ostree_xattr_names),
    )
    return PullRequest(refs=refs or None, options=options, keep=keep, only_plan=only_plan, as_json=as_json)


pull_options = option_group(
    "request",
    _make_request,
    (
        json_option(),
        section(
            OUTPUT,
            click.option(
                "--plan",
                "only_plan",
                is_flag=True,
                help="Only print what would be fetched, and whether there is room; exit with 12 if there is "
                "not.",
            ),
        ),
        xattr_names_option,
        section(
            TRUST,
            click.option(
                "--require-composefs-digest",
                "requires_composefs_digest",
                is_flag=True,
                help="Refuse a commit that has no composefs digest by libostree, or does not match it.",
            ),
            click.option(
                "--allow-unverified",
                is_flag=True,
                help="Allow a tag to move from a verified commit to one that is not verified; with --mirror, "
                "also to one that is signed by other keys.",
            ),
            click.option(
                "--allow-downgrade",
                is_flag=True,
                help="Allow the tag to move to an older commit, and accept a signed summary older than the "
                "last one.",
            ),
        ),
        keep_option,
        section(
            SOURCE,
            click.option(
                "--subpath",
                "subpaths",
                metavar="PATH",
                multiple=True,
                help="Pull only this path. Repeatable. The commit is partial until all of it is pulled.",
            ),
            click.option("--mirror", is_flag=True, help="Pull all refs that the repository lists."),
            click.option(
                "--base-name",
                metavar="TAG",
                help="A stored commit that has much in common with the new one; its objects are reused. By "
                "default, similar commits are found by the tag, the parent, and other tags.",
            ),
        ),
        click.argument("refs", metavar="REF...", type=TEXT, nargs=-1),
    ),
)
"""Adds the argument REF and the options of every command that pulls, as `request`."""


def run_request(
    session: Session,
    request: PullRequest,
    source: Location,
    source_options: SourceOptions,
    trust: cfsctl.TrustPolicy | None,
) -> int:
    """Pull, or plan to; print each result as soon as it is known. As JSON there is one document, at the end.

    Returns:
        The exit status.
    """
    options = replace(request.options, trust=trust)
    if request.only_plan:
        from cfsctl.cli.options.plan import print_estimates  # most pulls just pull

        with session.open() as repository:
            estimates = repository.estimate_pull(
                source, request.refs, options, source_options=source_options, progress=session.progress
            )
            return print_estimates(estimates, as_json=request.as_json)
    with session.open() as repository:
        results = repository.pull_refs(
            source,
            request.refs,
            options,
            source_options=source_options,
            keep=request.keep,
            progress=session.progress,
        )
        _print_results(_measured(results), as_json=request.as_json)
    if source.is_url and source.find_directory() is None and not request.as_json:  # a document lists them
        tell_unsigned(session, source.text, trust, request.refs)
    return 0


def _measured(results: Iterator[cfsctl.PullResult]) -> Iterator[cfsctl.PullResult]:
    """Yield results, and count what they have brought."""
    for result in results:
        MEASURED.add(
            commits=1,
            objects_fetched=result.metadata_fetched + result.files_fetched,
            received_bytes=result.received_bytes,
            objects_stored=result.stored_objects,
            stored_bytes=result.stored_bytes,
        )
        yield result


def _print_results(results: Iterator[cfsctl.PullResult], *, as_json: bool) -> None:
    if as_json:
        show_documents([result_document(result) for result in results])
        return
    for number, result in enumerate(results):
        if number:
            print_line()
        print_lines(result_lines(result))


def commit_lines(result: cfsctl.PullResult) -> Iterator[str]:
    """Yield the lines that say what the repository has now."""
    yield f"commit  {result.commit.hex()}"
    yield f"verity  {result.stream_id.hex()}"
    yield f"image   {result.image_id.hex()}"
    if result.tag is not None:
        yield f"tagged  {result.tag}"
    for one in result.verified:
        yield f"signed  {one.describe()}"


def show_documents(documents: list[dict[str, object]]) -> None:
    """Print results as one JSON document."""
    print_document({"commits": documents})


def result_document(result: cfsctl.PullResult) -> dict[str, object]:
    """Return what the repository has now, for a JSON document."""
    from cfsctl.digest import qualified

    return {
        "commit": result.commit.hex(),
        "stream": qualified(result.stream_id),
        "image": qualified(result.image_id),
        "tag": result.tag,
        "signatures": [one.as_dict() for one in result.verified],
        "partial": result.is_partial,
        "metadata_fetched": result.metadata_fetched,
        "files_fetched": result.files_fetched,
        "received_bytes": result.received_bytes,
        "stored_objects": result.stored_objects,
        "stored_bytes": result.stored_bytes,
        "delta_parts": result.delta_parts,
    }


def result_lines(result: cfsctl.PullResult) -> Iterator[str]:
    """Yield the lines that say what a pull did."""
    yield from commit_lines(result)
    how = f"via {result.delta_parts} delta parts" if result.delta_parts else "fetched"
    yield f"objects {result.metadata_fetched} metadata + {result.files_fetched} files {how}"
    if result.is_partial:
        yield "partial only some paths of the commit are here"
