"""What a kind of stream says about itself, so that the commands for a whole repository know it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.ostree.tree.xattr_names import XattrNames
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.check.links import ContentCheck
    from cfsctl.repository.copying import CopyCounts
    from cfsctl.repository.repair.sources import RepairSource
    from cfsctl.tree.model import FileSystem
    from cfsctl.tree.transform import XattrFilter


class Reading(NamedTuple):
    """How trees are read where there is a choice.

    Attributes:
        propagate_usr: Directories go through what create-image does to them.
        xattr_filter: Extended attributes that this leaves.
        xattr_names: How names of attributes in OSTree commits are read.
        reporter: Told how many entries of a directory have been seen.
    """

    propagate_usr: bool
    xattr_filter: XattrFilter
    xattr_names: XattrNames
    reporter: Reporter = silent


class StoredTree(ABC):
    """A tree that a stream holds."""

    @abstractmethod
    def read(self, reading: Reading, note: Callable[[str], object]) -> FileSystem:
        """Return the tree.

        Args:
            reading: How it is read where there is a choice.
            note: Told what the user should know about how it was read.

        Raises:
            CfsError, OSError: It cannot be read.
        """

    def iter_others(self, _note: Callable[[str], object]) -> Iterator[tuple[str, FileSystem]]:
        """Yield the other trees that a program may read in the stream, each with what is different."""
        return iter(())


class StoredVersion(NamedTuple):
    """What a stream says about itself as one version of something.

    Attributes:
        name: Its ID as users know it.
        made_s: When it was made, in seconds since 1970, as it says; or None.
        version: Its version, if it has one.
        title: A line about it, or empty.
        parent: The content identifier of the version before it, if it names one; that may not be stored.
        tree: Its tree.
    """

    name: str
    made_s: float | None
    version: str | None
    title: str
    parent: str | None
    tree: StoredTree


class NamedCopy(NamedTuple):
    """What a copy did.

    Attributes:
        ids: What the copy is called in the target, by what it is (``commit``, ``stream``, ``image``); None
            for what it lacks.
        ref: The ref or tag that names it there, or None.
        counts: What became of its objects.
    """

    ids: dict[str, str | None]
    ref: str | None
    counts: CopyCounts


class Copyable(ABC):
    """Something in the repository that can be copied to another one.

    Attributes:
        ref: The ref or tag by which it was found, or None.
        needs_ref: Whether a collection removes the copy if no ref names it.
    """

    ref: str | None = None
    needs_ref: bool = True

    @abstractmethod
    def copy(
        self, target: Repository, ref: str | None, reporter: Reporter, *, allow_unverified: bool = False
    ) -> NamedCopy:
        """Copy it with everything it needs.

        Args:
            target: Where it goes.
            ref: The ref or tag to give it there, or None.
            reporter: Told about progress.
            allow_unverified: Move a tag regardless of its requirements, for kinds that have them.

        Raises:
            CfsError, OSError: It could not be copied; nothing names it in the target.
        """


class Remarks(NamedTuple):
    """What `fsck` and `gc` say about the streams of a kind besides what they found and removed.

    Attributes:
        lines: For people.
        document: What it adds to a JSON document.
    """

    lines: list[str]
    document: dict[str, object]


class StreamKind:
    """A kind of stream. Its methods do what is right for one that nothing special is known about.

    Attributes:
        noun: What a stream of this kind is called in messages.
        content_types: Numbers that its streams have as their content type.
        tree_prefix: What stands before the name of one in front of a colon where a tree is named; empty for
            a kind without trees.
        named_by: What names one, for a hint.
    """

    noun: str = "stream"
    content_types: frozenset[int] = frozenset()
    tree_prefix: str = ""
    named_by: str = "content identifier"

    def claims(self, _name: str) -> bool:
        """Return whether a content identifier may belong to nothing but a stream of this kind."""
        return False

    def find_check(self, _repository: Repository, *, is_deep: bool) -> ContentCheck | None:  # noqa: ARG002 - for other kinds
        """Return what checks the content of a stream of one of `content_types`.

        Args:
            repository: The repository that is checked.
            is_deep: Check again what was proven before.
        """
        return None

    def list_names(self, _repository: Repository, _word: str) -> Iterable[tuple[str, str]]:
        """Yield what a user may type to name one, each with what it is, for completion.

        Args:
            repository: The repository.
            word: What has been typed; IDs need not be offered before some of one is.
        """
        return ()

    def find_tree(self, _repository: Repository, name: str) -> StoredTree:
        """Return the tree that a user means; only called if there is a `tree_prefix`.

        Raises:
            RepositoryError: Nothing of this kind has that name, or more than one thing.
        """
        raise NotImplementedError(name)

    def find_version(self, _repository: Repository, _entry: str) -> StoredVersion | None:
        """Return what a stream with a tree says about itself, or None for one without.

        Args:
            repository: The repository.
            entry: A content identifier that this kind claims.

        Raises:
            CfsError, OSError: It cannot be read.
        """
        return None

    def find_copyable(self, _repository: Repository, _name: str) -> Copyable | None:
        """Return what `copy` copies by a name, or None if that is not left to this kind.

        A kind that claims names returns something for those as well, unless its streams are copied as any.

        Raises:
            RefNotFoundError: Nothing of this kind has that name; other kinds are asked.
            RepositoryError: It names more than one thing.
        """
        return None

    def restore_stream(self, source: Repository, target: Repository, name: str) -> None:
        """Copy a stream that the target has lost, and whose name this kind claims.

        Raises:
            CfsError, FileNotFoundError: The source has no undamaged one.
        """
        from cfsctl.repository.copying import copy_stream  # few repairs come so far

        copy_stream(source, target, name)

    def identify(self, _repository: Repository, _stream_id: ObjectID) -> str | None:
        """Return the content identifier of a stream of one of `content_types`, if its content says it."""
        return None

    def name_of_ref(self, ref: str) -> str:
        """Return what a user calls a ref: for kinds with tags that is the tag."""
        return ref

    def name_fetched(
        self,
        repository: Repository,
        name: str,
        stream_id: ObjectID,
        ref: str | None,
        images: Iterable[ObjectID],
        reporter: Reporter,  # noqa: ARG002 - for other kinds
    ) -> ObjectID:
        """Name a stream that has come from elsewhere and is stored with everything it needs.

        Args:
            repository: Where it is stored.
            name: Its content identifier.
            stream_id: The splitstream object.
            ref: The ref or tag to move to it, or None.
            images: Images that it leads to.
            reporter: Told about progress.

        Returns:
            The splitstream object that has the name.

        Raises:
            IntegrityError: It is not what its name says; nothing was named.
        """
        from cfsctl.repository.certified import check_certified  # only fetches come so far
        from cfsctl.repository.publish import NewStream, publish

        check_certified(repository, name, stream_id)
        publish(repository, images=images, streams=[NewStream(name, stream_id, ref)])
        return stream_id

    def list_repair_sources(self, _repository: Repository) -> list[RepairSource]:
        """Return what can be made again from the streams of this kind that are stored."""
        return []

    def open_repair_source(
        self, _repository: Repository, _path: str, _reporter: Reporter
    ) -> RepairSource | None:
        """Return a directory as a place to restore lost content from, or None if it is not of this kind.

        Args:
            repository: The repository that is repaired.
            path: The directory, which is not a composefs repository.
            reporter: Told what the user should know.
        """
        return None

    def prepare_collection(self, repository: Repository) -> None:
        """Remove names that are no longer needed; the caller is alone in the repository."""

    def find_remarks(self, _repository: Repository) -> Remarks | None:
        """Return what `fsck` and `gc` say about the streams of this kind, or None."""
        return None
