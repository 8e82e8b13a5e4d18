"""Images are those of the originals, to the byte."""

from __future__ import annotations

import pytest

from cfsctl.digest import Algorithm
from cfsctl.dumpfile import Dialect, DumpfileError
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.fsverity.merkle import compute_digest
from tests.support.vectors import (
    Difference,
    Golden,
    Recorded,
    differences,
    golden,
    image_digest,
    parse,
    random_trees,
)


# What only one original has an image of, only its dialect need read.
@pytest.mark.parametrize(
    ("tree", "dialect"),
    [
        pytest.param(tree, dialect, id=f"{tree.name}-{dialect.name}")
        for tree in random_trees()
        for dialect in Dialect
        if dialect is Dialect.C or FormatVersion.V2 in tree.digests
    ],
)
def test_random_trees(tree: Recorded, dialect: Dialect) -> None:
    filesystem = parse(tree.read(), dialect, tree.algorithm)
    found = {
        version: compute_digest(build_image(filesystem, version, dialect), tree.algorithm).hex()
        for version in tree.digests
    }
    assert found == tree.digests


@pytest.mark.parametrize("tree", golden(), ids=lambda tree: tree["name"])
@pytest.mark.parametrize("version", FormatVersion)
@pytest.mark.parametrize("dialect", Dialect)
def test_small_trees(tree: Golden, version: FormatVersion, dialect: Dialect) -> None:
    assert image_digest(tree["dump"], version, dialect) == tree["sha256"][version]


def test_sha512_digests_of_small_trees() -> None:
    recorded = {
        (tree["name"], int(version)): digest
        for tree in golden()
        for version, digest in tree.get("sha512", {}).items()
    }
    dumps = {tree["name"]: tree["dump"] for tree in golden()}
    found = {
        (name, version): image_digest(dumps[name], FormatVersion(version), algorithm=Algorithm.SHA512)
        for name, version in recorded
    }
    assert len(found) == 4
    assert found == recorded


@pytest.mark.parametrize("tree", differences(), ids=lambda tree: tree["name"])
@pytest.mark.parametrize("version", [FormatVersion.V0, FormatVersion.V1])
def test_where_the_originals_differ(tree: Difference, version: FormatVersion) -> None:
    of_c, of_rust = (tree["c_v0"], tree["rust_v0"]) if version == 0 else (tree["c_v1"], tree["rust_v1"])
    assert image_digest(tree["dump"], version, Dialect.C) == of_c
    if of_rust is not None:
        assert image_digest(tree["dump"], version, Dialect.RUST) == of_rust
    elif tree["name"] not in READ_ALL_THE_SAME:
        with pytest.raises((DumpfileError, ErofsError)):
            image_digest(tree["dump"], version, Dialect.RUST)


READ_ALL_THE_SAME = {"full line comes last"}
"""Dumps that one original refuses and that are read in its dialect all the same."""


def test_format_2_has_no_dialect() -> None:
    tree = next(tree for tree in differences() if tree["name"] == "whiteout like a stub")
    of_rust = image_digest(tree["dump"], FormatVersion.V2, Dialect.RUST)
    assert image_digest(tree["dump"], FormatVersion.V2, Dialect.C) == of_rust
