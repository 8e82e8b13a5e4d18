"""The deltas of a repository on a server.

    summary                          every delta with the digest of its superblock, if the server lists them
    delta-indexes/XX/REST.index      the deltas that lead to one commit
    deltas/…/superblock, 0, 1, …     a delta

A superblock is compared with its digest in the list. Whether the list itself is trusted depends on the
summary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from cfsctl import gvariant
from cfsctl.ostree.delta.format import (
    MAX_INDEX_BYTES,
    MAX_SUPERBLOCK_BYTES,
    DeltaError,
    delta_directory,
    index_path,
    parse_delta_name,
)
from cfsctl.ostree.delta.store import MAX_OFFERS, DeltaInfo, Readable
from cfsctl.ostree.delta.views import Scratch
from cfsctl.ostree.summary.format import find_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.digest import Checksum
    from cfsctl.ostree.sources.remote import RemoteSource
    from cfsctl.repository.objects.store import ObjectStore

DELTAS_KEY: Final = "ostree.static-deltas"
"""What a summary and an index call their list: ``a{sv}``, name to digest."""

_MAX_INDEX_VALUES: Final = 100_000


class RemoteDeltas:
    """The deltas of a server; see `DeltaStore`."""

    def __init__(self, source: RemoteSource) -> None:
        """Share the connections and the summary of a source."""
        self._source = source

    @property
    def round_trip_s(self) -> float | None:
        """How long the server takes to answer, as far as known; see `choice.choose_way`."""
        return self._source.round_trip_s

    def find(self, to_checksum: Checksum) -> list[DeltaInfo]:
        """Return the deltas that the summary lists, or else the index.

        Raises:
            DeltaError: The index is invalid.
            SummaryError: The summary is invalid.
            TransferError: The server did not answer as it should.
        """
        summary = self._source.find_summary()
        metadata = () if summary is None else summary.metadata
        listed = find_values(metadata, DELTAS_KEY)
        # An index is not signed. It need not be: the output of a delta is verified by checksums, starting
        # from that of the commit, which the signatures are about.
        if not listed:
            listed = self._read_index(to_checksum)
        offers = [offer for value in listed for offer in _iter_offers(value)]
        return [offer for offer in offers if offer.to_checksum == to_checksum][:MAX_OFFERS]

    def _read_index(self, to_checksum: Checksum) -> list[gvariant.Variant]:
        name = f"delta index of {to_checksum.hex()}"
        data = self._source.find_optional(index_path(to_checksum), name, MAX_INDEX_BYTES)
        if data is None:
            return []
        try:
            value = gvariant.decode("a{sv}", data, max_values=_MAX_INDEX_VALUES)
        except gvariant.GVariantError as error:
            raise DeltaError(f"{name}: {error}", offset=error.offset, field=error.field) from error
        pairs = cast("list[tuple[str, gvariant.Variant]]", value)
        return [listed for key, listed in pairs if key == DELTAS_KEY]

    def fetch_superblock(self, offer: DeltaInfo, objects: ObjectStore) -> Readable:
        """Return a superblock.

        Raises:
            TransferError: The server did not answer as it should.
        """
        return self._fetch(
            offer, "superblock", f"{offer.description}: superblock", MAX_SUPERBLOCK_BYTES, objects
        )

    def fetch_part(self, offer: DeltaInfo, number: int, limit_bytes: int, objects: ObjectStore) -> Readable:
        """Return a part.

        Raises:
            TransferError: The server did not answer as it should, or the part is larger than announced.
        """
        return self._fetch(offer, str(number), f"{offer.description}: part {number}", limit_bytes, objects)

    def _fetch(
        self, offer: DeltaInfo, file: str, name: str, limit_bytes: int, objects: ObjectStore
    ) -> Readable:
        path = f"{delta_directory(offer.from_checksum, offer.to_checksum)}/{file}"
        return self._source.fetch_file(path, name, limit_bytes, lambda: _ScratchSink(objects))

    def close(self) -> None:
        """Close the connections of this process."""
        self._source.close()


class _ScratchSink:
    """Takes a body into a scratch, which is also the result."""

    def __init__(self, objects: ObjectStore) -> None:
        self._scratch = Scratch(objects)
        self.write = self._scratch.write
        self.abort = self._scratch.close

    def finish(self) -> Readable:
        return self._scratch


def _iter_offers(listed: gvariant.Variant) -> Iterable[DeltaInfo]:
    """Yield the deltas in a list; invalid entries are skipped."""
    if listed.type != "a{sv}" or not isinstance(listed.value, list):
        return
    for name, digest in cast("list[tuple[str, gvariant.Variant]]", listed.value):
        ends = parse_delta_name(name)
        if ends is not None and digest.type == "ay" and isinstance(digest.value, bytes):
            yield DeltaInfo(*ends, digest.value)
