"""Results that the library composes itself; the others come from the rooms that do the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    MetadataValue = str | int | bool | list[str]

    from cfsctl.library.ids import Checksum, ObjectID
    from cfsctl.ostree.tree.composefs_digest import DigestCheck
    from cfsctl.ostree.trust.verdict import ValidSignature


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitInfo:
    """What a commit says about itself.

    Attributes:
        commit: The commit.
        parent: The commit before it, or None.
        timestamp_s: When it was made, in seconds since 1970.
        subject: One line.
        body: More lines, or empty.
        root_dirtree: Its tree.
        root_dirmeta: Metadata of its root directory.
        metadata: Its metadata: keys, and values as text, in the order of the commit.
        metadata_values: The same with values of JSON: texts, numbers, booleans and lists of texts are
            themselves, all other types are as in `metadata`.
        signatures: The signatures that were found good when it was stored.
        is_partial: Whether it is a partial commit.
        composefs_digest: How the digest that libostree has recorded compares with the tree; None if there is
            none, or if it was not asked for.
    """

    commit: Checksum
    parent: Checksum | None
    timestamp_s: int
    subject: str
    body: str
    root_dirtree: Checksum
    root_dirmeta: Checksum
    metadata: tuple[tuple[str, str], ...]
    metadata_values: tuple[tuple[str, MetadataValue], ...]
    signatures: tuple[ValidSignature, ...]
    is_partial: bool
    composefs_digest: DigestCheck | None


class RemoteRef(NamedTuple):
    """A ref of an OSTree repository.

    Attributes:
        name: The ref.
        commit: The commit that it names.
        timestamp_s: When the commit was made, in seconds since 1970, if the summary says so; or None.
        version: Its version, if the summary has it; or None.
    """

    name: str
    commit: Checksum
    timestamp_s: int | None = None
    version: str | None = None


class RefChange(NamedTuple):
    """What became of a ref.

    Attributes:
        name: The ref.
        old: What it named before, or None if it is new: ``sha512:<ID>`` of an image, the ID of a commit, or
            the digest of a manifest.
        new: What it names now, or None if it was removed.
        forgotten: How many earlier targets are no longer kept.
    """

    name: str
    old: str | None
    new: str | None
    forgotten: int = 0


class KeptTarget(NamedTuple):
    """What a ref names, or named before.

    Attributes:
        target: Its ID, as in `RefChange`.
        set_s: When the ref was set to it, in seconds since 1970.
        is_current: Whether the ref names it now.
        is_stored: Whether it is still there.
    """

    target: str
    set_s: float
    is_current: bool
    is_stored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefSize:
    """What a ref needs.

    Attributes:
        size: Bytes of all objects that it leads to.
        own: Those of the objects that no other ref leads to: what a collection frees if the ref is removed.
    """

    size: int
    own: int

    @property
    def shared(self) -> int:
        """Bytes of the objects that other refs lead to as well."""
        return self.size - self.own


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """A ref of an image.

    Attributes:
        name: The ref.
        image_id: The image, or None if the ref leads to none.
        set_s: When the ref was set to it, in seconds since 1970.
        kept: How many images that it named before are kept.
        sizes: What it needs, if that was asked for.
    """

    name: str
    image_id: ObjectID | None
    set_s: float
    kept: int
    sizes: RefSize | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCommit:
    """A tag of a commit.

    Attributes:
        name: The tag.
        commit: The commit.
        is_partial: Whether only some of its paths are stored.
        timestamp_s: When it was made, in seconds since 1970; None if it cannot be read, or was not asked for.
        version: What its metadata has as its version.
        subject: Its first line.
        kept: How many commits that the tag named before are kept.
        sizes: What it needs, if that was asked for.
    """

    name: str
    commit: Checksum
    is_partial: bool
    timestamp_s: int | None
    version: str | None
    subject: str | None
    kept: int
    sizes: RefSize | None
