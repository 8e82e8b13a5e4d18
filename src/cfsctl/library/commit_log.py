"""Entries of a commit's history as lines and as JSON documents."""

from __future__ import annotations

from cfsctl.ostree.store.history import entry_document, format_entry
from cfsctl.ostree.store.metadata_text import version_of

__all__ = ["entry_document", "format_entry", "version_of"]
