"""``cfsctl oci pull``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.commands.oci.pull_output import (
    document_of,
    document_of_index,
    document_of_outcome,
    document_of_plan,
    lines_of,
    lines_of_index,
    lines_of_plan,
)
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.errors import report_error
from cfsctl.cli.help import Command
from cfsctl.cli.metrics import MEASURED, metrics_option
from cfsctl.cli.options.common import IMAGE_REFERENCE, TEXT, json_option
from cfsctl.cli.options.keeping import keep_option
from cfsctl.cli.options.registry import registry_options
from cfsctl.cli.output import print_document, print_lines
from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cfsctl
    from cfsctl.library.oci.options import OciPullOptions, RegistryOptions
    from cfsctl.library.repository import Repository


class BootImageMissingError(CfsError):
    """The boot image is missing, or not the expected one."""

    exit_code = ExitCode.NOT_FOUND


@click.command("pull", cls=Command)
@click.argument("image", type=IMAGE_REFERENCE)
@click.argument("name", type=TEXT, nargs=-1)
@click.option("--plan", is_flag=True, help="Print what would be fetched, and change nothing.")
@click.option("--bootable", is_flag=True, help="Also create a boot image.")
@click.option(
    "--expected-digest",
    metavar="HEX",
    help="With --bootable: try all formats and xattr filters for a boot image with this ID, and fail if "
    "none has it.",
)
@click.option(
    "--platform",
    metavar="OS/ARCH[/VARIANT]",
    help="Platform to choose from an index of several images; the default is this machine's.",
)
@click.option(
    "--local-fetch",
    type=click.Choice(["disabled", "auto", "zerocopy"]),
    default="disabled",
    help="Share files with containers-storage instead of copying them: auto by reflink or hard link "
    "where possible; zerocopy fails if neither is.",
)
@click.option(
    "--keep-compressed",
    is_flag=True,
    help="Also store compressed layers as received, so that `oci push` can send the image unchanged.",
)
@click.option(
    "--all-platforms",
    is_flag=True,
    help="If IMAGE is an index, pull the images for all platforms and the index itself, with compressed "
    "layers, so that `oci push` can send them unchanged.",
)
@click.option(
    "--with-referrers",
    is_flag=True,
    help="Also pull artifacts about the image, such as signatures, from a registry or layout.",
)
@keep_option
@registry_options
@json_option()
@pass_session
@metrics_option("oci pull")
def command(
    session: Session,
    *,
    image: str,
    name: tuple[str, ...],
    plan: bool,
    bootable: bool,
    expected_digest: str | None,
    platform: str | None,
    keep_compressed: bool,
    local_fetch: str,
    all_platforms: bool,
    with_referrers: bool,
    keep: int | None,
    as_json: bool,
    registry: RegistryOptions,
) -> None:
    """Pull IMAGE and tag it with NAME, or with IMAGE if NAME is missing.

    IMAGE is docker://NAME[:TAG], oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG], dir:DIRECTORY,
    docker-archive:FILE[:NAME], docker-daemon:NAME or containers-storage:NAME; the first three also
    accept @DIGEST in place of the tag. All digests are verified during the transfer, before anything is
    named. Layers that are already stored are not read.

    Several images are pulled one after the other, and one that fails does not stop the others. The exit
    status is then 3, or that of the first error if all of them fail.
    """
    from cfsctl.library.oci.options import OciPullOptions, check_tag

    if expected_digest is not None and not bootable:
        raise click.UsageError("--expected-digest needs --bootable")
    images = _pair(image, name)
    if len(images) > 1 and expected_digest is not None:
        raise click.UsageError("--expected-digest goes with one image only")
    _check_whole(images, all_platforms=all_platforms, with_referrers=with_referrers, plan=plan)
    if all_platforms and (bootable or platform is not None):
        raise click.UsageError(
            f"--all-platforms cannot be used with {'--bootable' if bootable else '--platform'}"
        )
    for _, tag in images:
        check_tag(tag)
    options = OciPullOptions(
        platform=platform,
        bootable=bootable,
        expected_boot_image=expected_digest,
        keep_compressed=keep_compressed or all_platforms,
        local_fetch=local_fetch,
        with_referrers=with_referrers,
    )
    if plan or len(images) > 1:
        run = _plan if plan else _pull_several
        with session.open() as repository:
            status = run(session, repository, images, options, registry, as_json=as_json)
        click.get_current_context().exit(status)
    ((source, tag),) = images
    with session.open() as repository:
        methods = repository.oci
        progress = session.progress
        if all_platforms:
            index = methods.pull_index(source, tag, options, registry=registry, keep=keep, progress=progress)
            if index is not None:
                _show_index(index, as_json=as_json)
                return
        result = methods.pull(source, tag, options, registry=registry, keep=keep, progress=progress)
    _measure(result)
    if as_json:
        print_document(document_of(result))
    else:
        print_lines(lines_of(result))
    if bootable:
        _check_boot_image(result, expected_digest)


def _check_whole(
    images: Sequence[tuple[str, str]], *, all_platforms: bool, with_referrers: bool, plan: bool
) -> None:
    """Refuse what does not go with pulling more than an image."""
    if all_platforms and len(images) > 1:
        raise click.UsageError("--all-platforms goes with one image only")
    if plan and (all_platforms or with_referrers):
        option = "--all-platforms" if all_platforms else "--with-referrers"
        raise click.UsageError(f"{option} cannot be used with --plan")


def _show_index(index: cfsctl.OciIndexPullResult, *, as_json: bool) -> None:
    for member in index.members:
        _measure(member.result)
    if as_json:
        print_document(document_of_index(index))
    else:
        print_lines(lines_of_index(index))


def _pair(image: str, words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the images with their tags: the word behind an image is its tag unless it is another image."""
    from cfsctl.library.oci.transfer import is_reference

    found: list[tuple[str, str | None]] = [(image, None)]
    is_named = False
    for word in words:
        if is_reference(word) and word != found[-1][0]:
            found.append((word, None))
            is_named = False
        elif is_named:
            raise click.UsageError(f"expected an image such as oci:DIRECTORY, found {word!r}")
        else:
            found[-1] = found[-1][0], word
            is_named = True
    # An image that has no name is its own, which then has to be text.
    return [(source, TEXT.convert(source, None, None) if tag is None else tag) for source, tag in found]


def _plan(
    _session: Session,
    repository: Repository,
    images: Sequence[tuple[str, str]],
    options: OciPullOptions,
    registry: RegistryOptions,
    *,
    as_json: bool,
) -> int:
    """Print what would be done; return the exit status."""
    plans = [repository.oci.plan_pull(source, tag, options, registry=registry) for source, tag in images]
    if as_json:
        print_document({"plans": [document_of_plan(found) for found in plans]})
    else:
        for index, found in enumerate(plans):
            print_lines([*([""] if index else []), *lines_of_plan(found)])
    return ExitCode.NO_SPACE if any(found.has_room is False for found in plans) else ExitCode.OK


def _pull_several(
    session: Session,
    repository: Repository,
    images: Sequence[tuple[str, str]],
    options: OciPullOptions,
    registry: RegistryOptions,
    *,
    as_json: bool,
) -> int:
    """Pull several images and print what became of them; return the exit status."""
    documents: list[dict[str, object]] = []
    statuses: list[int] = []
    for outcome in repository.oci.pull_images(images, options, registry=registry, progress=session.progress):
        error = outcome.error
        if outcome.result is not None:
            _measure(outcome.result)
        if not as_json and outcome.result is not None:
            print_lines(
                [*([""] if documents else []), f"image    {outcome.source}", *lines_of(outcome.result)]
            )
        if options.bootable and outcome.result is not None and outcome.result.boot_image is None:
            error = _boot_problem(outcome.result, None)
        if error is not None:
            statuses.append(report_error(error))
        documents.append(document_of_outcome(outcome, error))
    if as_json:
        print_document({"images": documents})
    if not statuses:
        return ExitCode.OK
    return ExitCode.PARTIAL if len(statuses) < len(documents) else statuses[0]


def _measure(result: cfsctl.OciPullResult) -> None:
    MEASURED.add(commits=1, objects_stored=result.counts.new, stored_bytes=result.counts.new_bytes)


def _check_boot_image(result: cfsctl.OciPullResult, expected: str | None) -> None:
    if result.boot_image is None:
        raise _boot_problem(result, expected)


def _boot_problem(result: cfsctl.OciPullResult, expected: str | None) -> BootImageMissingError:
    """Return why a pull has made no boot image."""
    if result.image is None:
        return BootImageMissingError(
            f"{result.manifest_digest} is an artifact, which has no file system and cannot be booted",
            hint="it was pulled and tagged; leave --bootable out for artifacts",
        )
    return BootImageMissingError(
        f"No boot image configuration matched expected digest {expected}"
        f" (tried {result.boot_tried} mode/version combinations)"
    )
