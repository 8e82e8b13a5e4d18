"""The time that builds which are to be repeatable have in their environment.

Format: https://reproducible-builds.org/specs/source-date-epoch/
"""

from __future__ import annotations

import os

import click


def read_source_date(limit: int) -> int | None:
    """Return ``$SOURCE_DATE_EPOCH`` in seconds since 1970, or None if it is not set.

    Args:
        limit: What it has to be less than.

    Raises:
        UsageError: It is not such a number.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(limit)) and int(text) < limit):
        raise click.UsageError(f"SOURCE_DATE_EPOCH: expected seconds since 1970, found {text!r}")
    return int(text)
