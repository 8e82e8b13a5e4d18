"""Find the known way of making an image that gives an expected ID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.inspection.diff import Changed, iter_differences
from cfsctl.inspection.sources import StreamSource
from cfsctl.inspection.variants import Treatment, Variant, apply_treatment, iter_forms, iter_treatments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.inspection.diff import Difference
    from cfsctl.inspection.sources import TreeInput
    from cfsctl.tree.dialect import Dialect
    from cfsctl.tree.model import FileSystem

VERSIONS: Final = (FormatVersion.V1, FormatVersion.V2, FormatVersion.V0)
"""Formats in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Base:
    """A tree to start from.

    Attributes:
        filesystem: The tree as it is.
        reading: How it was read, where there are several ways; else empty.
    """

    filesystem: FileSystem
    reading: str = ""


def read_bases(source: TreeInput, algorithm: Algorithm) -> list[Base]:
    """Return the trees that a source may be read as.

    A commit has two, as the original reads names of attributes in another way.

    Raises:
        CfsError: The source cannot be read.
        OSError: The source cannot be read.
    """
    bases = [Base(source.read(algorithm))]
    if isinstance(source, StreamSource):
        bases += [Base(tree, reading) for reading, tree in source.iter_others(algorithm)]
    return bases


@dataclass(frozen=True, slots=True)
class Explanation:
    """A way that gives the expected ID.

    Attributes:
        base: What it starts from.
        variant: What is done.
    """

    base: Base
    variant: Variant

    def describe(self) -> str:
        """Return both on one line."""
        return ", ".join(filter(None, (self.variant.describe(), self.base.reading)))


@dataclass(frozen=True, slots=True)
class Nearest:
    """The treated tree that is least different from a given one.

    Attributes:
        base: What it starts from.
        treatment: What is done.
        differences: From the treated tree to the given one.
    """

    base: Base
    treatment: Treatment
    differences: tuple[Difference, ...]

    def describe(self) -> str:
        """Return how the tree comes about on one line."""
        phrases = [*self.treatment.describe(), self.base.reading]
        return ", ".join(filter(None, phrases)) or "the tree as it is"


def explain(
    bases: Sequence[Base],
    expected: ObjectID,
    *,
    versions: Sequence[FormatVersion] = VERSIONS,
    report: Callable[[Variant], None] = lambda _: None,
) -> Explanation | None:
    """Return the first known way that gives an image of the expected ID; None if none does.

    Args:
        bases: Trees to start from, with objects named by the hash that the ID is of.
        expected: The ID.
        versions: Formats to try, in this order.
        report: Told each way before it is tried.
    """
    for base in bases:
        for treatment in iter_treatments(base.filesystem):
            treated = apply_treatment(base.filesystem, treatment)
            if treated is None:
                continue
            for version, dialect in iter_forms(treated, versions):
                variant = Variant(treatment, version, dialect)
                report(variant)
                if _compute_id(treated, version, dialect, Algorithm.of_digest(expected)) == expected:
                    return Explanation(base, variant)
    return None


def _compute_id(
    filesystem: FileSystem, version: FormatVersion, dialect: Dialect, algorithm: Algorithm
) -> ObjectID | None:
    """Return the ID of an image; None if this format cannot hold the tree."""
    try:
        return compute_digest(build_image(filesystem, version, dialect), algorithm)
    except ErofsError:
        return None


def find_nearest(bases: Iterable[Base], target: FileSystem) -> Nearest:
    """Return what comes nearest to a tree: that with the fewest entries, then attributes, different.

    Args:
        bases: Trees to start from, at least one.
        target: The tree to come near to.
    """
    candidates = (
        Nearest(base, treatment, tuple(iter_differences(treated, target)))
        for base in bases
        for treatment in iter_treatments(base.filesystem)
        if (treated := apply_treatment(base.filesystem, treatment)) is not None
    )
    return min(candidates, key=lambda candidate: _distance(candidate.differences))


def _distance(differences: Sequence[Difference]) -> tuple[int, int]:
    changes = sum(len(difference.changes) for difference in differences if isinstance(difference, Changed))
    return len(differences), changes
