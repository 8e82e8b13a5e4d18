"""Names of files that a later pull goes on with, and that a collection removes."""

from __future__ import annotations

from typing import Final

JOURNAL_PREFIX: Final = ".cfsctl-pull-"
"""Start of the name of a pull's journal; a commit's ID follows. Of use only while nothing was collected."""

PARTIAL_BLOB_PREFIX: Final = ".cfsctl-blob-"
"""Start of the name of the first part of a blob; its SHA-256 follows."""
