"""Images of the recorded trees read back give the same bytes, also those that only one original makes."""

from __future__ import annotations

import pytest

from cfsctl.digest import Algorithm
from cfsctl.dumpfile import Dialect, DumpfileError
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.read.tree import check_image, read_image
from cfsctl.erofs.write.image import build_image
from tests.support.vectors import Difference, Golden, Recorded, differences, golden, parse, random_trees


@pytest.mark.parametrize("tree", random_trees(), ids=lambda tree: tree.name)
def test_random_trees(tree: Recorded) -> None:
    dialect = Dialect.RUST if FormatVersion.V2 in tree.digests else Dialect.C
    filesystem = parse(tree.read(), dialect, tree.algorithm)
    for version in tree.digests:
        image = bytes(build_image(filesystem, version, dialect))
        check_image(image, tree.algorithm)
        assert build_image(read_image(image, tree.algorithm), version, dialect) == image


@pytest.mark.parametrize("tree", golden(), ids=lambda tree: tree["name"])
@pytest.mark.parametrize("version", FormatVersion)
def test_small_trees(tree: Golden, version: FormatVersion) -> None:
    image = bytes(build_image(parse(tree["dump"]), version))
    assert build_image(read_image(image, Algorithm.SHA256), version) == image


UNREADABLE = {
    "link count of a file with one name": "on-disk nlink is 7, but found 1",
    "link count of a file with two names": "is named again, expected once",
}
"""Dumps whose wrong link counts the C program writes; the original refuses to read those images too."""

WRITTEN_OTHERWISE = {"full line is not the first name", "full line comes last"}
"""Dumps whose order of lines decides about the order of inodes in C; an image does not tell it."""


@pytest.mark.parametrize("tree", differences(), ids=lambda tree: tree["name"])
@pytest.mark.parametrize("dialect", Dialect)
def test_where_the_originals_differ(tree: Difference, dialect: Dialect) -> None:
    for version in FormatVersion:
        try:
            image = bytes(build_image(parse(tree["dump"], dialect), version, dialect))
        except (DumpfileError, ErofsError):
            continue
        if dialect is Dialect.C and version is not FormatVersion.V2 and tree["name"] in UNREADABLE:
            with pytest.raises(ErofsError) as caught:
                read_image(image, Algorithm.SHA256)
            assert UNREADABLE[tree["name"]] in str(caught.value)
            continue
        again = build_image(read_image(image, Algorithm.SHA256), version, dialect)
        if dialect is Dialect.RUST or tree["name"] not in WRITTEN_OTHERWISE:
            assert again == image
