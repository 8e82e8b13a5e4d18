"""Paths in errors: what is opened relative to a descriptor has a name that says nothing to the reader."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def relative_to(directory: str | bytes) -> Iterator[None]:
    """Put the path of a directory before the relative paths in an `OSError` that leaves the block.

    An error without a path gets that of the directory.

    Args:
        directory: What descriptors in the block are of, as the user named it.
    """
    try:
        yield
    except OSError as error:
        error.filename = _join(directory, "." if error.filename is None else error.filename)
        if error.filename2 is not None:
            error.filename2 = _join(directory, error.filename2)
        raise


def _join(directory: str | bytes, path: object) -> object:
    if not isinstance(path, (str, bytes)):  # a descriptor
        return path
    joined = os.path.join(os.fsdecode(directory), os.fsdecode(path))
    # Not `normpath`, to which "a/../b" is "b" even where "a" is a link.
    return joined.removesuffix("/.")
