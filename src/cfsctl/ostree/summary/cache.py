"""Cache of fetched summaries, for conditional requests.

    DIRECTORY/<SHA-256 of the URL>         a summary, see `cfsctl.http.cache`
    DIRECTORY/<SHA-256 of the URL>.time    JSON: URL, and when the latest verified summary was made, seconds

Without it an old summary is not recognised as old.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from cfsctl.http.cache import DAMAGE, MAX_HEAD_BYTES, DocumentCache, file_name, identify
from cfsctl.ostree.summary.format import MAX_SUMMARY_SIZE, find_time_made
from cfsctl.progress import silent

if TYPE_CHECKING:
    from cfsctl.progress import Reporter

_TIME_SUFFIX: Final = ".time"


class SummaryCache(DocumentCache):
    """Summaries in a directory, which is made when it is first needed."""

    def __init__(self, directory: str, reporter: Reporter = silent) -> None:
        """Name the directory.

        Args:
            directory: Where the summaries are.
            reporter: Told if other users can write there, because the cache is then not used.
        """
        super().__init__(directory, "summary cache", MAX_SUMMARY_SIZE, reporter)

    def find_time_made(self, body: bytes) -> int | None:
        """Return when a summary says that it was made."""
        return find_time_made(body)

    def find_time(self, url: str) -> int | None:
        """Return when the latest verified summary of a URL was made, in seconds since 1970, or None."""
        try:
            entry = json.loads(self.read(file_name(url) + _TIME_SUFFIX, MAX_HEAD_BYTES))
            made_s = entry["made_s"] if entry["url"] == identify(url) else None
        except DAMAGE:
            return None
        return made_s if isinstance(made_s, int) and made_s >= 0 else None

    def save_time(self, url: str, made_s: int) -> None:
        """Keep when a verified summary was made, in place of what was kept before."""
        entry = {"url": identify(url), "made_s": made_s}
        self.write(file_name(url) + _TIME_SUFFIX, json.dumps(entry).encode())
