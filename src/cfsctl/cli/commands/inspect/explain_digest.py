"""``cfsctl explain-digest``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_images, complete_sources
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.diff import DIFFERENT, SAME, SourceOpener, with_trouble_as_2
from cfsctl.cli.output import print_document, print_lines

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.inspection.sources import SourceFinder, TreeInput


@click.command("explain-digest")
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

    SOURCE is a directory, an image, a dump or an OSTree commit, named as for diff. EXPECTED is an image
    ID in hexadecimal, optionally with sha256: or sha512: before it. All known sets of options are tried:
    formats, propagation of /usr to root, attributes, times, devices, hard links, and ways to read commits.

    If none gives that ID but the image itself is available (named by --image or in the repository), the
    most similar tree is shown with its differences.

    The exit status is 0 if the ID was explained, 1 if not, and 2 on errors.
    """
    with SourceOpener(
        session, xattrs="allowlist-only", no_propagate_usr_to_root=True, ostree_xattr_names="stripped"
    ) as opener:
        return with_trouble_as_2(lambda: _explain(opener, source, expected, image, as_json=as_json))


def _explain(
    opener: SourceOpener, source_name: str, expected_text: str, image: str | None, *, as_json: bool
) -> int:
    from cfsctl.inspection.explain import explain, find_nearest, read_bases  # noqa: PLC0415 - keeps --help quick
    from cfsctl.inspection.explanation import explanation_document, iter_explanation  # noqa: PLC0415
    from cfsctl.inspection.sources import check_algorithm  # noqa: PLC0415

    expected, algorithm = _parse_expected(expected_text)
    finder = opener.finder()
    source = finder.find(source_name)
    target = _find_target(finder, image, expected)
    for each in filter(None, (source, target)):
        check_algorithm(each, algorithm)
    bases = read_bases(source, algorithm)
    explanation = explain(bases, expected)
    nearest = None
    if explanation is None and target is not None:
        nearest = find_nearest(bases, target.read(algorithm))
    if as_json:
        print_document(explanation_document(expected, explanation, nearest))
    else:
        print_lines(iter_explanation(source, expected, explanation, nearest))
    return SAME if explanation else DIFFERENT


def _parse_expected(text: str) -> tuple[ObjectID, Algorithm]:
    from cfsctl.digest import Algorithm, parse_object_id  # noqa: PLC0415 - keeps --help quick

    name, colon, digits = text.rpartition(":")
    for algorithm in Algorithm:
        if name == algorithm.hash_name or (not colon and len(digits) == 2 * algorithm.digest_size):
            return parse_object_id(digits.lower(), algorithm), algorithm
    raise click.BadParameter(f"expected 64 or 128 hexadecimal digits, found {text!r}", param_hint="EXPECTED")


def _find_target(finder: SourceFinder, image: str | None, expected: ObjectID) -> TreeInput | None:
    """Return the image that is to be explained, if it is at hand."""
    from cfsctl.errors import CfsError  # noqa: PLC0415 - keeps --help quick

    if image is not None:
        return finder.find_image(image)
    try:
        return finder.find_image(expected.hex())
    except (CfsError, OSError):
        return None
