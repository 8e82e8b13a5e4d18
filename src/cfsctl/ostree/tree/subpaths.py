"""Filters for parts of a tree, given as paths with `ostree pull --subpath`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, ExitCode
from cfsctl.limits import MAX_DEPTH
from cfsctl.ostree.objects import Dirtree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_COMPONENTS: Final = MAX_DEPTH + 1
"""Components of one path: as many as directories may be nested, and a file."""


class SubpathNotFoundError(CfsError):
    """A path that the commit does not have."""

    exit_code = ExitCode.NOT_FOUND


class InvalidSubpathError(CfsError):
    """A text that is not a path within a tree."""

    exit_code = ExitCode.USAGE


class SubpathFilter(NamedTuple):
    """What is wanted of a directory.

    Attributes:
        entries: The entries that are wanted and what of each; None for everything.
    """

    entries: Mapping[bytes, SubpathFilter] | None

    def below(self, name: bytes) -> SubpathFilter:
        """Return what is wanted of a wanted entry."""
        return EVERYTHING if self.entries is None else self.entries[name]

    def merged(self, other: SubpathFilter) -> SubpathFilter:
        """Return what either wants."""
        if self.entries is None or other.entries is None:
            return EVERYTHING
        entries = dict(self.entries)
        for name, part in other.entries.items():
            entries[name] = entries[name].merged(part) if name in entries else part
        return SubpathFilter(entries)

    def select(self, tree: Dirtree) -> Dirtree:
        """Return the wanted entries of a directory.

        Raises:
            SubpathNotFoundError: One of them does not exist, or is a file instead of a directory.
        """
        if self.entries is None:
            return tree
        files = [entry for entry in tree.files if entry[0] in self.entries]
        dirs = [entry for entry in tree.dirs if entry[0] in self.entries]
        for name, _ in files:
            if self.entries[name].entries is not None:
                raise SubpathNotFoundError(f"{os.fsdecode(name)!r}: expected a directory, found a file")
        missing = self.entries.keys() - {entry[0] for entry in (*files, *dirs)}
        if missing:
            shown = os.fsdecode(min(missing))
            raise SubpathNotFoundError(f"{shown!r}: expected an entry of that name in a subpath, found none")
        return Dirtree(files, dirs)


EVERYTHING: Final = SubpathFilter(None)


def parse_subpaths(paths: Iterable[str]) -> SubpathFilter | None:
    """Return the part that paths name together, or None if that is the whole tree or none is given.

    Raises:
        InvalidSubpathError: A path with empty components, ``.`` or ``..``, or one that is too deep.
    """
    part: SubpathFilter | None = None
    for path in paths:
        one = _parse_subpath(path)
        part = one if part is None else part.merged(one)
    return None if part is None or part.entries is None else part


def _parse_subpath(path: str) -> SubpathFilter:
    components = path.strip("/").split("/") if path.strip("/") else []
    if any(component in {"", ".", ".."} for component in components) or len(components) > MAX_COMPONENTS:
        raise InvalidSubpathError(f"{path!r}: expected a path within the tree, such as /usr/share/locale/de")
    if not path:
        raise InvalidSubpathError("expected a path within the tree, found none")
    part = EVERYTHING
    for component in reversed(components):
        part = SubpathFilter({os.fsencode(component): part})
    return part
