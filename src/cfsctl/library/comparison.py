"""Comparing trees, and finding out how an image was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeAlias

from cfsctl.errors import CfsError
from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.opened import store_of
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.inspection.diff import Attribute, Difference
    from cfsctl.inspection.explain import Explanation, Nearest
    from cfsctl.inspection.sources import SourceFinder, TreeInput
    from cfsctl.library.events import Progress
    from cfsctl.library.opened import OpenedRepository
    from cfsctl.ostree.tree.xattr_names import XattrNames
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository as Store
    from cfsctl.tree.model import FileSystem
    from cfsctl.tree.transform import XattrFilter

    OpenRepository: TypeAlias = Callable[[], OpenedRepository]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """How trees are read that are compared.

    Attributes:
        as_root: Take directories as `Repository.create_image` does.
        xattrs: Extended attributes of directories that stay; None is ``security.capability``.
        xattr_names: How names of extended attributes in commits are read; None is without the NUL at their
            ends.
    """

    as_root: bool = True
    xattrs: XattrFilter | None = None
    xattr_names: XattrNames | None = None


DEFAULT_READING = ReadingOptions()


@cancellable
def diff(
    old: str,
    new: str,
    *,
    open_repository: OpenRepository | None = None,
    ignore: Collection[Attribute] = (),
    options: ReadingOptions = DEFAULT_READING,
    algorithm: Algorithm | None = None,
    progress: Progress | None = None,
) -> Iterator[Difference]:
    """Return what is different between two trees, as `Repository.diff` does; a repository is not needed.

    Args:
        old: A directory, an image, a dump or an OSTree commit.
        new: The same.
        open_repository: Returns a repository, which has to stay open; called if a name stands for something
            in one. None if there is no repository.
        ignore: Attributes that do not count.
        options: How trees are read.
        algorithm: Hash to name objects by where any will do; None is SHA-512.
        progress: Told how many entries of a directory have been seen, and how sources were read.

    Raises:
        CfsError: A name leads to nothing, or to what cannot be read.
    """
    from cfsctl.inspection.diff import iter_differences

    before, after = read_pair((old, new), open_repository, options, algorithm, make_reporter(progress))
    return iter_differences(before.tree, after.tree, ignored=ignore)


def iter_text(differences: Iterable[Difference]) -> Iterator[str]:
    """Return an iterator over differences as lines of text."""
    from cfsctl.inspection import report  # every command loads this module

    return report.iter_text(differences)


def to_document(differences: Iterable[Difference]) -> dict[str, object]:
    """Return differences as a JSON document."""
    from cfsctl.inspection import report

    return report.to_document(differences)


class ReadTree(NamedTuple):
    """A tree that was read, and from what."""

    source: TreeInput
    tree: FileSystem


def read_pair(
    names: tuple[str, str],
    open_repository: OpenRepository | None,
    options: ReadingOptions,
    algorithm: Algorithm | None,
    report: Reporter,
) -> tuple[ReadTree, ReadTree]:
    """Return two trees whose objects are named by the same hash; arguments as for `diff`.

    Raises:
        CfsError: A name leads to nothing, or to what cannot be read.
    """
    from cfsctl.inspection.sources import common_algorithm

    finder = _make_finder(open_repository, options, report)
    old, new = (finder.find(name) for name in names)
    common = common_algorithm((old, new), algorithm)
    found = ReadTree(old, old.read(common)), ReadTree(new, new.read(common))
    _report_notes((old, new), report)
    return found


def _make_finder(
    open_repository: OpenRepository | None, options: ReadingOptions, report: Reporter
) -> SourceFinder:
    from cfsctl.inspection.sources import SourceFinder
    from cfsctl.kinds.kind import Reading
    from cfsctl.ostree.tree.xattr_names import XattrNames
    from cfsctl.tree.transform import XattrFilter

    reading = Reading(
        options.as_root,
        options.xattrs or XattrFilter.ALLOWLIST_ONLY,
        options.xattr_names or XattrNames.STRIPPED,
        report,
    )
    return SourceFinder(_no_repository if open_repository is None else _Opener(open_repository), reading)


class _Opener:
    """Opens a repository once, for the room below."""

    def __init__(self, open_repository: OpenRepository) -> None:
        self._open = open_repository

    def __call__(self) -> Store:
        return store_of(self._open())


def _no_repository() -> NoReturn:
    raise CfsError("no repository was named")


def find_source(
    name: str, open_repository: OpenRepository | None, options: ReadingOptions, report: Reporter
) -> TreeInput:
    """Return the tree that a name stands for; arguments as for `diff`.

    Raises:
        CfsError: It leads to nothing, or to more than one.
    """
    return _make_finder(open_repository, options, report).find(name)


def _report_notes(sources: Iterable[TreeInput], report: Reporter) -> None:
    for source in sources:
        for note in source.notes:
            report(Message(note))


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestExplanation:
    """How an image of a tree with some ID is made.

    Attributes:
        source: The tree.
        expected: The ID.
        explanation: How it is made, or None if that was not found.
        nearest: The most similar tree, if no explanation was found but the image is available.
    """

    source: TreeInput
    expected: ObjectID
    explanation: Explanation | None
    nearest: Nearest | None

    @property
    def is_explained(self) -> bool:
        """Whether it is known how the image is made."""
        return self.explanation is not None

    def lines(self) -> Iterator[str]:
        """Return what was found out as text."""
        from cfsctl.inspection.explanation import iter_explanation

        return iter_explanation(self.source, self.expected, self.explanation, self.nearest)

    def as_dict(self) -> dict[str, object]:
        """Return the same as it is printed in JSON."""
        from cfsctl.inspection.explanation import explanation_document

        return explanation_document(self.expected, self.explanation, self.nearest)


@cancellable
def explain_digest(
    source: str,
    expected: ObjectID,
    *,
    image: str | None = None,
    open_repository: OpenRepository | None = None,
    progress: Progress | None = None,
) -> DigestExplanation:
    """Find out how an image of a tree with this ID is made.

    Args:
        source: The tree, named as for `diff`.
        expected: The ID.
        image: An image of that ID, to show what is different; None is the one in the repository, if it is
            there.
        open_repository: As for `diff`.
        progress: Told how many entries of a directory have been seen.

    Raises:
        CfsError: A name leads to nothing, or to what cannot be read.
    """
    from cfsctl.digest import Algorithm
    from cfsctl.inspection.explain import explain, find_nearest, read_bases
    from cfsctl.inspection.sources import check_algorithm

    algorithm = Algorithm.of_digest(expected)
    finder = _make_finder(open_repository, ReadingOptions(as_root=False), make_reporter(progress))
    found = finder.find(source)
    target = _find_target(finder, image, expected)
    for each in filter(None, (found, target)):
        check_algorithm(each, algorithm)
    bases = read_bases(found, algorithm)
    explanation = explain(bases, expected)
    nearest = None
    if explanation is None and target is not None:
        nearest = find_nearest(bases, target.read(algorithm))
    return DigestExplanation(source=found, expected=expected, explanation=explanation, nearest=nearest)


def _find_target(finder: SourceFinder, image: str | None, expected: ObjectID) -> TreeInput | None:
    """Return the image that is to be explained, if it is available."""
    if image is not None:
        return finder.find_image(image)
    try:
        return finder.find_image(expected.hex())
    except (CfsError, OSError):
        return None
