"""``cfsctl explain-digest``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_images, complete_sources
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.diff import DIFFERENT, SAME, RepositoryOpener, with_trouble_as_2
from cfsctl.cli.output import print_document, print_lines

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID


@click.command("explain-digest", cls=Command)
@click.argument("source", shell_complete=complete_sources)
@click.argument("expected", shell_complete=complete_images)
@click.option(
    "--image",
    metavar="IMAGE",
    shell_complete=complete_images,
    help="The image with the expected ID, to show the differences.",
)
@json_option()
@pass_session
def command(session: Session, *, source: str, expected: str, image: str | None, as_json: bool) -> int:
    """Find the options with which SOURCE becomes the image with the ID EXPECTED.

    SOURCE is a directory, an image, a dump, a commit or a container image, as for diff. EXPECTED is an image
    ID in hexadecimal, optionally with sha256: or sha512: before it. All known sets of options are tried:
    formats, propagation of /usr to root, attributes, times, devices, hard links, and ways to read commits.

    If none gives that ID but the image itself is available (named by --image or in the repository), the
    most similar tree is shown with its differences.

    The exit status is 0 if the ID was explained, 1 if not, and 2 on errors.
    """
    with RepositoryOpener(session) as opener:
        return with_trouble_as_2(lambda: _explain(opener, source, expected, image, as_json=as_json))


def _explain(
    opener: RepositoryOpener, source: str, expected: str, image: str | None, *, as_json: bool
) -> int:
    from cfsctl.library.comparison import explain_digest

    found = explain_digest(source, _parse_expected(expected), image=image, open_repository=opener)
    if as_json:
        print_document(found.as_dict())
    else:
        print_lines(found.lines())
    return SAME if found.is_explained else DIFFERENT


def _parse_expected(text: str) -> ObjectID:
    from cfsctl.digest import Algorithm, parse_object_id

    name, colon, digits = text.rpartition(":")
    for algorithm in Algorithm:
        if name == algorithm.hash_name or (not colon and len(digits) == 2 * algorithm.digest_size):
            return parse_object_id(digits.lower(), algorithm)
    raise click.BadParameter(f"expected 64 or 128 hexadecimal digits, found {text!r}", param_hint="EXPECTED")
