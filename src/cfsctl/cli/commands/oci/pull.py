"""``cfsctl oci pull``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import IMAGE_REFERENCE, TEXT, json_option
from cfsctl.cli.options.registry import registry_options
from cfsctl.cli.output import print_document, print_lines
from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.library.oci.options import RegistryOptions
    from cfsctl.oci.pull import PullResult
    from cfsctl.oci.store.layers import ImportCounts

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


class BootImageMissingError(CfsError):
    """The boot image is missing, or not the expected one."""

    exit_code = ExitCode.NOT_FOUND


@click.command("pull", cls=Command)
@click.argument("image", type=IMAGE_REFERENCE)
@click.argument("name", type=TEXT, required=False)
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
@registry_options
@json_option()
@pass_session
def command(
    session: Session,
    *,
    image: str,
    name: str | None,
    bootable: bool,
    expected_digest: str | None,
    platform: str | None,
    keep_compressed: bool,
    local_fetch: str,
    as_json: bool,
    registry: RegistryOptions,
) -> None:
    """Pull IMAGE and tag it with NAME, or with IMAGE if NAME is missing.

    IMAGE is docker://NAME[:TAG], oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG], dir:DIRECTORY,
    docker-archive:FILE[:NAME], docker-daemon:NAME or containers-storage:NAME; the first three also
    accept @DIGEST in place of the tag. All digests are verified during the transfer, before anything is
    named. Layers that are already stored are not read.
    """
    from cfsctl.library.oci.options import OciPullOptions, check_tag  # noqa: PLC0415 - keeps --help quick

    if expected_digest is not None and not bootable:
        raise click.UsageError("--expected-digest needs --bootable")
    tag = check_tag(TEXT.convert(image, None, None) if name is None else name)
    options = OciPullOptions(
        platform=platform,
        bootable=bootable,
        expected_boot_image=expected_digest,
        keep_compressed=keep_compressed,
        local_fetch=local_fetch,
    )
    with session.open() as repository:
        result = repository.oci.pull(image, tag, options, registry=registry, progress=session.progress)
    if as_json:
        print_document(document_of(result))
    else:
        print_lines(lines_of(result))
    if bootable:
        _check_boot_image(result, expected_digest)


def lines_of(result: PullResult) -> Iterator[str]:
    """Yield what a pull has done, for people."""
    counts = result.counts
    yield f"manifest {result.manifest_digest}"
    yield f"config   {result.config_digest}"
    yield f"verity   {result.manifest_id.hex()}"
    if result.tag is not None:
        yield f"tagged   {result.tag}"
    yield f"objects  {describe_counts(counts)}"
    if result.boot_image is not None:
        how = "" if result.boot_match is None else f" ({result.boot_match.describe()})"
        yield f"Boot image: {result.boot_image.hex()}{how}"


def describe_counts(counts: ImportCounts) -> str:
    """Return what became of the contents of layers, as the original prints it."""
    inlined = f"{format_size(counts.inline_bytes)} inlined"
    if not counts.reflinked and not counts.hardlinked:
        stored = f"{format_size(counts.new_bytes)} stored"
        return f"{counts.new} new + {counts.present} already present objects; {stored}, {inlined}"
    shared = [
        (counts.reflinked, counts.reflinked_bytes, "reflinked"),
        (counts.hardlinked, counts.hardlinked_bytes, "hardlinked"),
    ]
    copied = counts.new - counts.reflinked - counts.hardlinked
    copied_bytes = counts.new_bytes - counts.reflinked_bytes - counts.hardlinked_bytes
    numbers = [f"{number} {how}" for number, _, how in shared if number]
    sizes = [f"{format_size(size)} {how}" for number, size, how in shared if number]
    objects = " + ".join([*numbers, f"{copied} copied", f"{counts.present} already present objects"])
    return f"{objects}; {', '.join([*sizes, f'{format_size(copied_bytes)} copied', inlined])}"


def _check_boot_image(result: PullResult, expected: str | None) -> None:
    if result.image is None:
        raise BootImageMissingError(
            f"{result.manifest_digest} is an artifact, which has no file system and cannot be booted",
            hint="it was pulled; leave --bootable out for artifacts",
        )
    if result.boot_image is None and expected is not None:
        raise BootImageMissingError(
            f"No boot image configuration matched expected digest {expected}"
            f" (tried {result.boot_tried} mode/version combinations)"
        )


def format_size(size: int) -> str:
    """Return a number of bytes as the original prints it: ``800 B``, ``4.22 KiB``."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS))
    return f"{size / 1024**power:.2f} {_UNITS[power - 1]}"


def document_of(result: PullResult) -> dict[str, object]:
    """Return what a pull has done, for programs."""
    counts = result.counts
    return {
        "manifest": str(result.manifest_digest),
        "config": str(result.config_digest),
        "stream": result.manifest_id.hex(),
        "tag": result.tag,
        "image": None if result.image is None else result.image.hex(),
        "boot_image": None if result.boot_image is None else result.boot_image.hex(),
        "new_objects": counts.new,
        "present_objects": counts.present,
        "stored_bytes": counts.new_bytes,
        "inlined_bytes": counts.inline_bytes,
        "reflinked_objects": counts.reflinked,
        "hardlinked_objects": counts.hardlinked,
        "reflinked_bytes": counts.reflinked_bytes,
        "hardlinked_bytes": counts.hardlinked_bytes,
    }
