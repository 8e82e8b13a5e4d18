"""The known ways to make an image of one tree.

An image depends on more than the tree: on the format, the treatment of the root directory, and on which
attributes, devices, links and times are kept. A `Variant` is one set of these decisions. Only variants that
make a difference for the given tree are tried.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import FormatVersion
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    FileSystem,
    Leaf,
)
from cfsctl.tree.transform import (
    TransformError,
    XattrFilter,
    apply_oci_transform,
    filter_xattrs,
    keeps_none,
    keeps_user,
    remove_devices,
    reset_times,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cfsctl.tree.model import Node


class Times(Enum):
    """What becomes of modification times."""

    KEPT = "kept"
    WHOLE_SECONDS = "whole seconds"
    EPOCH = "all zero"


class Xattrs(Enum):
    """Which extended attributes stay, where nothing else decides."""

    ALL = "all"
    USER = "only user.*"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What becomes of a tree before it is written.

    Attributes:
        propagation: With which filter root takes over the metadata of /usr, as create-image does; None
            leaves root and attributes alone.
        times: Modification times.
        xattrs: Extended attributes.
        devices: Device nodes stay.
        hard_links: Names of one file stay together.
    """

    propagation: XattrFilter | None = None
    times: Times = Times.KEPT
    xattrs: Xattrs = Xattrs.ALL
    devices: bool = True
    hard_links: bool = True

    def describe(self) -> list[str]:
        """Return what is done, a phrase each; nothing for a tree that stays as it is."""
        phrases = []
        if self.propagation is not None:
            phrases.append(f"root takes over /usr, attributes {self.propagation.value}")
        if self.times is not Times.KEPT:
            phrases.append(f"times {self.times.value}")
        if self.xattrs is not Xattrs.ALL:
            phrases.append(f"attributes {self.xattrs.value}")
        if not self.devices:
            phrases.append("without devices")
        if not self.hard_links:
            phrases.append("hard links broken")
        return phrases


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to make an image.

    Attributes:
        treatment: What becomes of the tree.
        version: Format.
        dialect: Whose choices count where the original implementations differ.
    """

    treatment: Treatment
    version: FormatVersion
    dialect: Dialect

    def describe(self) -> str:
        """Return the decisions on one line."""
        phrases = [f"EROFS version {self.version.value}", *self.treatment.describe()]
        if self.dialect is Dialect.C:
            phrases.append("as the C mkcomposefs writes it")
        return ", ".join(phrases)

    def as_dict(self) -> dict[str, object]:
        """Return the decisions as a JSON document."""
        treatment = self.treatment
        return {
            "erofs_version": self.version.value,
            "written_as": self.dialect.value,
            "propagate_usr_to_root": treatment.propagation is not None,
            "xattr_filter": None if treatment.propagation is None else treatment.propagation.value,
            "xattrs": treatment.xattrs.value,
            "times": treatment.times.value,
            "devices": treatment.devices,
            "hard_links": treatment.hard_links,
        }

    def command(self, hash_name: str) -> str | None:
        """Return a command that makes the same image of a directory PATH, or None if none does."""
        treatment = self.treatment
        if treatment.times is Times.KEPT and treatment.xattrs is Xattrs.ALL and treatment.devices:
            if treatment.hard_links and self.dialect is Dialect.RUST:
                return self._cfsctl(hash_name)
            if treatment.propagation is None and hash_name == "sha256":
                return self._mkcomposefs()
        elif treatment.propagation is None and hash_name == "sha256":
            return self._mkcomposefs()
        return None

    def _cfsctl(self, hash_name: str) -> str:
        words = ["cfsctl", "--no-repo", "--hash", hash_name, "--erofs-version", str(self.version.value)]
        words.append("compute-id")
        if self.treatment.propagation is None:
            words.append("--no-propagate-usr-to-root")
        elif self.treatment.propagation is not XattrFilter.ALLOWLIST_ONLY:
            words += ["--xattrs", self.treatment.propagation.value]
        return " ".join([*words, "PATH"])

    def _mkcomposefs(self) -> str | None:
        treatment = self.treatment
        if self.version is FormatVersion.V2 or treatment.times is Times.WHOLE_SECONDS:
            return None
        words = ["mkcomposefs", "--print-digest-only"]
        if self.version is FormatVersion.V1:
            words.append("--min-version=1")
        if treatment.times is Times.EPOCH:
            words.append("--use-epoch")
        if treatment.xattrs is not Xattrs.ALL:
            words.append("--skip-xattrs" if treatment.xattrs is Xattrs.NONE else "--user-xattrs")
        if not treatment.devices:
            words.append("--skip-devices")
        if treatment.hard_links:
            words.append("--hardlinks")
        return " ".join([*words, "PATH"])


COMMON: Final = (
    Treatment(XattrFilter.ALLOWLIST_ONLY),
    Treatment(),
    Treatment(XattrFilter.KEEP_USER),
    Treatment(hard_links=False),
    Treatment(times=Times.EPOCH),
    Treatment(times=Times.EPOCH, hard_links=False),
)
"""What is tried first."""


def iter_treatments(filesystem: FileSystem) -> Iterator[Treatment]:
    """Yield the treatments that can make a difference for a tree, the common ones first."""
    features = _Features(filesystem)
    tried: set[Treatment] = set()
    everything = (
        Treatment(*choice)
        for choice in product((None, *XattrFilter), Times, Xattrs, (True, False), (True, False))
    )
    for treatment in (*COMMON, *everything):
        if features.is_effective(treatment) and treatment not in tried:
            tried.add(treatment)
            yield treatment


class _Features:
    """What a tree has that treatments change."""

    def __init__(self, filesystem: FileSystem) -> None:
        nodes = list(_iter_nodes(filesystem))
        leaves = [node for node in nodes if isinstance(node, Leaf)]
        names = {name for node in nodes for name in node.xattrs}
        self._has_usr = isinstance(filesystem.root.entries.get(b"usr"), Directory)
        self._has_times = any(node.mtime_s or node.mtime_ns for node in nodes)
        self._has_ns = any(node.mtime_ns for node in nodes)
        self._has_xattrs = bool(names)
        self._has_user_xattrs = any(name.startswith(b"user.") for name in names)
        self._has_other_xattrs = any(not name.startswith(b"user.") for name in names)
        self._has_devices = any(isinstance(leaf, CharDevice | BlockDevice) for leaf in leaves)
        self._has_links = len({id(leaf) for leaf in leaves}) != len(leaves)

    def is_effective(self, treatment: Treatment) -> bool:
        """Return whether every choice changes something, so that no two treatments make the same tree."""
        return (
            (treatment.propagation is None or self._has_usr)
            and (treatment.propagation is not XattrFilter.KEEP_USER or self._has_user_xattrs)
            and (treatment.propagation is None or treatment.xattrs is Xattrs.ALL)
            and (treatment.times is not Times.EPOCH or self._has_times)
            and (treatment.times is not Times.WHOLE_SECONDS or self._has_ns)
            and (treatment.xattrs is not Xattrs.NONE or self._has_xattrs)
            and (treatment.xattrs is not Xattrs.USER or (self._has_user_xattrs and self._has_other_xattrs))
            and (treatment.devices or self._has_devices)
            and (treatment.hard_links or self._has_links)
        )


def _iter_nodes(filesystem: FileSystem) -> Iterator[Node]:
    """Yield every node once for each of its names."""
    stack = [filesystem.root]
    yield filesystem.root
    while stack:
        for node in stack.pop().entries.values():
            yield node
            if isinstance(node, Directory):
                stack.append(node)


def apply_treatment(filesystem: FileSystem, treatment: Treatment) -> FileSystem | None:
    """Return a treated copy of a tree; None for a tree that it cannot be applied to.

    Args:
        filesystem: The tree, which stays as it is.
        treatment: What is done.
    """
    copied = copy_tree(filesystem, hard_links=treatment.hard_links)
    if not treatment.devices:
        remove_devices(copied)
    if treatment.propagation is not None:
        try:
            apply_oci_transform(copied, treatment.propagation)
        except TransformError:
            return None
    if treatment.times is not Times.KEPT:
        reset_times(copied, keep_seconds=treatment.times is Times.WHOLE_SECONDS)
    if treatment.xattrs is not Xattrs.ALL:
        filter_xattrs(copied, keeps_user if treatment.xattrs is Xattrs.USER else keeps_none)
    return copied


def copy_tree(filesystem: FileSystem, *, hard_links: bool = True) -> FileSystem:
    """Return a tree of new nodes.

    Args:
        filesystem: The tree to copy.
        hard_links: Keep the names of one file together; otherwise each gets a node of its own.
    """
    leaves: dict[int, Leaf] = {}
    root = copy.copy(filesystem.root)
    stack = [root]
    while stack:
        directory = stack.pop()
        entries: dict[bytes, Directory | Leaf] = {}
        for name, node in directory.entries.items():
            if isinstance(node, Directory):
                entries[name] = copied = copy.copy(node)
                stack.append(copied)
            else:
                entries[name] = (
                    leaves.setdefault(id(node), copy.copy(node)) if hard_links else copy.copy(node)
                )
        directory.entries = entries
    return FileSystem(root)


def iter_forms(
    treated: FileSystem, versions: Sequence[FormatVersion]
) -> Iterator[tuple[FormatVersion, Dialect]]:
    """Yield the ways to write a tree; the C dialect only where it may make a difference."""
    for version in versions:
        yield version, Dialect.RUST
    if _differs_in_c(treated):
        for version in versions:
            if version is not FormatVersion.V2:
                yield version, Dialect.C


def _differs_in_c(filesystem: FileSystem) -> bool:
    """Return whether a tree has something that the two original implementations write differently."""
    return any(
        node.mtime_s < 0
        or (isinstance(node, CharDevice) and node.rdev == 0)
        or getattr(node, "size", 1) == 0
        or len(node.xattrs) > _C_SHARED
        for node in _iter_nodes(filesystem)
    )


_C_SHARED: Final = 120
"""Attributes from which on C may keep some of them unshared."""
