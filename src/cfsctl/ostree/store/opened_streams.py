"""Commit streams that were decoded, kept for the pulls that follow in the same run."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.ostree.store.commit_stream import CommitStream

MAX_KEPT_BYTES: Final = 64 << 20
"""Data of all streams that are kept; a commit of 60,000 files has 10 MB."""


class OpenedStreams:
    """The streams that were used last, by the splitstream object that they were read from."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._streams: OrderedDict[ObjectID, CommitStream] = OrderedDict()
        self._kept_bytes = 0

    def find(self, object_id: ObjectID) -> CommitStream | None:
        """Return the stream of an object, if it is kept."""
        stream = self._streams.get(object_id)
        if stream is not None:
            self._streams.move_to_end(object_id)
        return stream

    def keep(self, object_id: ObjectID, stream: CommitStream) -> None:
        """Keep a stream, and let go of those that were not used for the longest time."""
        if object_id not in self._streams:
            self._streams[object_id] = stream
            self._kept_bytes += stream.data_bytes
        while self._kept_bytes > MAX_KEPT_BYTES and self._streams:
            self._kept_bytes -= self._streams.popitem(last=False)[1].data_bytes
