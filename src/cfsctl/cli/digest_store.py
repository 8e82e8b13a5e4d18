"""Content of files below their digests in a plain directory, as mkcomposefs keeps it."""

from __future__ import annotations

import os

from cfsctl.repository.objects import ObjectStore


class DigestStore(ObjectStore):
    """Objects lie right in the directory: ``DIR/xx/rest``, without ``objects`` and without metadata."""

    def objects_fd(self, *, create: bool = False) -> int:  # noqa: ARG002 - it is there already
        """Return the directory itself, borrowed."""
        if self._objects < 0:
            self._objects = os.dup(self._root)
        return self._objects
