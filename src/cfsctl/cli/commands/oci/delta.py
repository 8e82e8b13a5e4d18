"""``cfsctl oci delta``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import IMAGE_REFERENCE, TEXT, json_option
from cfsctl.cli.options.registry import registry_options
from cfsctl.cli.output import print_document, print_lines

if TYPE_CHECKING:
    from cfsctl.library.oci.options import RegistryOptions


@click.command("delta", cls=Command)
@click.argument("old", type=TEXT, shell_complete=complete_oci_images)
@click.argument("new", type=TEXT, shell_complete=complete_oci_images)
@click.argument("destination", type=IMAGE_REFERENCE)
@registry_options
@json_option()
@pass_session
def command(
    session: Session, *, old: str, new: str, destination: str, as_json: bool, registry: RegistryOptions
) -> None:
    """Make a delta that updates the stored image OLD to the stored image NEW.

    The delta is written to DESTINATION (see `cfsctl oci push`) as an artifact with a patch for each layer
    that OLD lacks. Where OLD is stored, `cfsctl oci pull` of the artifact stores NEW.
    """
    with session.open() as repository:
        result = repository.oci.make_delta(
            old, new, destination, registry=registry, progress=session.progress
        )
    if as_json:
        print_document(
            {
                "manifest": str(result.manifest_digest),
                "source_config": str(result.source_config),
                "target_manifest": str(result.target_manifest),
                "patches": result.patches,
                "patch_bytes": result.patch_bytes,
                "layer_bytes": result.layer_bytes,
                "reused_layers": result.reused,
            }
        )
        return
    patches = f"{result.patches} ({result.patch_bytes} bytes) for {result.layer_bytes} bytes of layers"
    print_lines(
        (
            f"manifest {result.manifest_digest}",
            f"patches  {patches}, {result.reused} layers reused",
        )
    )
