"""Errors that say what they are about: image, layer, entry."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cfsctl.errors import CfsError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Prefix the messages of our errors that leave the block with `what`.

    The class stays, and so does the exit status; what the kernel refuses names its path already.
    """
    try:
        yield
    except CfsError as error:
        if not isinstance(error, OSError):
            error.args = (f"{what}: {error}", *error.args[1:])
        raise
