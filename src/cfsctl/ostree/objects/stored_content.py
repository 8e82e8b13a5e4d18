"""An object of a commit as it is stored: what streams, journals, deltas and plans hand to each other."""

from __future__ import annotations

from typing import TypeAlias

from cfsctl.digest import ObjectID

StoredContent: TypeAlias = tuple[bytes, ObjectID | None]
"""Data, and the ID of the object that has the rest, or None.

For commits, dirtrees and dirmetas the data are the object. For files they are the header, followed by the
content if there is no ID. A plain tuple: millions are made, and pickled between processes.
"""
