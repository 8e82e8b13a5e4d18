"""How the commands that look into a tree find and read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cfsctl.cli.context import Session
    from cfsctl.cli.options.diff import RepositoryOpener
    from cfsctl.library.contents import TreeReading


def tree_reading(session: Session, opener: RepositoryOpener) -> TreeReading:
    """Return how trees are read: directories and attributes as they are, and notes on standard error."""
    from cfsctl.library.contents import as_stored

    return as_stored(opener, session.progress)
