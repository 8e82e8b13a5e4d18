"""The objects in use, in memory that does not grow by much more than 8 bytes for each.

Up to a million IDs are kept as they are. Beyond that only eight bytes of each stay, sorted into one array for
each of the 256 directories that objects are in; so many bytes tell ten million objects apart. Should two of
them be equal after all, an object that is garbage counts as in use, and never the other way round.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cfsctl.digest import ObjectID

_MOST_EXACT: Final = 1 << 20
"""IDs that are kept as they are; these take some 150 MB."""

_CHUNK: Final = 1 << 16
"""IDs that are added at once, and that are kept as they are once others were packed."""

_SIZE: Final = 8
"""Bytes of an ID that are kept, after the one that its directory is named for."""

_FAN_OUT: Final = 256


class LiveObjects:
    """A set of object IDs that only grows.

    Attributes:
        exact: The IDs that were not packed yet: all of them as long as they are few.
    """

    def __init__(self, most_exact: int | None = None) -> None:
        """Start empty.

        Args:
            most_exact: How many IDs to keep as they are, at most; by default, a million.
        """
        self.exact: set[ObjectID] = set()
        self._most = _MOST_EXACT if most_exact is None else most_exact
        self._packed: list[bytearray] = []
        self._distinct: list[int] = []

    def __len__(self) -> int:
        """Return how many IDs there are; some may be counted twice where they are many."""
        return len(self.exact) + sum(map(len, self._packed)) // _SIZE

    def add(self, object_id: ObjectID) -> None:
        """Add an ID."""
        self.exact.add(object_id)

    def update(self, object_ids: Iterable[ObjectID]) -> None:
        """Add many IDs."""
        rest = iter(object_ids)
        # One stream may name millions; what is kept of them is cut down in between.
        while chunk := list(islice(rest, _CHUNK)):
            self.exact.update(chunk)
            if len(self.exact) > (min(_CHUNK, self._most) if self._packed else self._most):
                self._pack()

    def find(self, object_ids: Collection[ObjectID]) -> set[ObjectID]:
        """Return which of some IDs are there; one call for many is faster than many calls."""
        if not self._packed:
            return self.exact.intersection(object_ids)
        self._pack()
        groups: dict[int, list[ObjectID]] = {}
        for object_id in object_ids:
            groups.setdefault(object_id[0], []).append(object_id)
        found: set[ObjectID] = set()
        for first, group in groups.items():
            known = _split(self._packed[first])
            found.update(object_id for object_id in group if object_id[1 : 1 + _SIZE] in known)
        return found

    def drop_from(self, names: list[str], fan_out: str, length: int) -> list[str]:
        """Return the names that are not those of objects that are there.

        Args:
            names: All names in a directory of objects.
            fan_out: The directory's own name.
            length: Length of the name of an object.
        """
        if not self._packed:
            return self._drop_exact(names, fan_out)
        self._pack()
        digits, step = self._packed[int(fan_out, 16)].hex(), 2 * _SIZE
        known = {digits[start : start + step] for start in range(0, len(digits), step)}
        return [name for name in names if name[:step] not in known or len(name) != length]

    def _drop_exact(self, names: list[str], fan_out: str) -> list[str]:
        from_hex, exact = bytes.fromhex, self.exact
        try:
            return [name for name in names if from_hex(fan_out + name) not in exact]
        except ValueError:  # something that is not an object; look at each name
            return [name for name in names if not self._is_exact(fan_out + name)]

    def _is_exact(self, digits: str) -> bool:
        try:
            return bytes.fromhex(digits) in self.exact
        except ValueError:
            return False

    def _pack(self) -> None:
        """Keep a part of each ID only."""
        if not self._packed:
            self._packed = [bytearray() for _ in range(_FAN_OUT)]
            self._distinct = [0] * _FAN_OUT
        parts: list[list[bytes]] = [[] for _ in range(_FAN_OUT)]
        adders = [group.append for group in parts]
        end = 1 + _SIZE
        for object_id in self.exact:
            adders[object_id[0]](object_id[1:end])
        self.exact = set()
        for first, group in enumerate(parts):
            self._extend(first, b"".join(group))

    def _extend(self, first: int, added: bytes) -> None:
        """Add packed IDs to those of a directory; drop equal ones when it has twice as many as it had."""
        packed = self._packed[first]
        packed += added
        if len(packed) > 2 * self._distinct[first]:
            self._packed[first] = bytearray().join(_split(packed))
            self._distinct[first] = len(self._packed[first])


def _split(packed: bytearray) -> set[bytes]:
    whole = bytes(packed)
    return {whole[start : start + _SIZE] for start in range(0, len(whole), _SIZE)}
