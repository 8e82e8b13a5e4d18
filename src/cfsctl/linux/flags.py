"""Sets of flags for open(2) that belong together."""

from __future__ import annotations

import os
from typing import Final

DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""For a directory that is to be listed, and whose name must not be a link."""
