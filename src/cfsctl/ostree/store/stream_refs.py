"""Names under which a commit's stream keeps what belongs to the commit; without what reads streams."""

from __future__ import annotations

from typing import Final

IMAGE_REF: Final = "composefs.image"
"""Name under which a commit stream keeps its image."""

DETACHED_REF: Final = "ostree.commitmeta"
"""Name under which a commit stream keeps detached metadata."""

RECORD_REF: Final = "cfsctl.signatures"
"""Name under which a commit stream keeps the record of the signatures that were found good."""
