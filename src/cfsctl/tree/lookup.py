"""Paths within a tree, with symbolic links resolved inside the tree and nowhere else."""

from __future__ import annotations

from typing import Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.tree.model import Directory, Leaf, Symlink

MAX_LINKS: Final = 40
"""Symbolic links that are followed on the way to one path, as many as the kernel follows."""

_MAX_COMPONENTS: Final = 4096
"""Components that are looked at for one path; links that name long paths could ask for more."""


class TreePathError(CfsError):
    """A path that leads nowhere in a tree, or to something of another kind."""

    exit_code = ExitCode.NOT_FOUND


def find_node(
    root: Directory, path: bytes, *, follow_last: bool = True
) -> tuple[Directory | Leaf, bytes] | None:
    """Return the node that a path leads to, and its path without links; None if a component is missing.

    ``..`` stops at the root, and absolute link targets begin there, as for a process whose root this is.

    Args:
        root: The root of the tree.
        path: Relative or absolute; both begin at the root.
        follow_last: Whether a symbolic link at the end of the path is followed too.

    Raises:
        TreePathError: Too many links, or a component in the middle is not a directory.
    """
    return _Walk(root, path, follow_last=follow_last).run()


class _Walk:
    """The way along one path."""

    def __init__(self, root: Directory, path: bytes, *, follow_last: bool) -> None:
        self._root = root
        self._path = path
        self._follow_last = follow_last
        self._todo = _split(path)
        self._trail: list[tuple[bytes, Directory]] = []
        self._links = 0
        self._steps = 0

    def run(self) -> tuple[Directory | Leaf, bytes] | None:
        while self._todo:
            name = self._todo.pop()
            self._steps += 1
            if self._steps > _MAX_COMPONENTS:
                raise TreePathError(f"{_show(self._path)}: too many components, or links to long paths")
            if name == b"..":
                del self._trail[-1:]
                continue
            child = self._directory().entries.get(name)
            if child is None:
                return None
            if isinstance(child, Directory):
                self._trail.append((name, child))
            elif isinstance(child, Symlink) and (self._todo or self._follow_last):
                self._follow(child)
            elif self._todo:
                raise TreePathError(f"{_show(self._join(name))} is not a directory")
            else:
                return child, self._join(name)
        return self._directory(), self._join()

    def _directory(self) -> Directory:
        return self._trail[-1][1] if self._trail else self._root

    def _follow(self, link: Symlink) -> None:
        self._links += 1
        if self._links > MAX_LINKS:
            raise TreePathError(f"{_show(self._path)}: more than {MAX_LINKS} symbolic links")
        if link.target.startswith(b"/"):
            self._trail.clear()
        self._todo += _split(link.target)

    def _join(self, *last: bytes) -> bytes:
        return b"/" + b"/".join([*(name for name, _ in self._trail), *last])


def _split(path: bytes) -> list[bytes]:
    """Return the components of a path, the first one last."""
    return [name for name in reversed(path.split(b"/")) if name not in {b"", b"."}]


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
