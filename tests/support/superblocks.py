"""Making superblocks and parts, right and wrong."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.gvariant import Variant
from cfsctl.ostree.objects import Commit, format_commit

if TYPE_CHECKING:
    from collections.abc import Sequence

FROM = Checksum(b"a" * 32)
COMMIT = format_commit(Commit((), FROM, "subject", "", 1, Checksum(b"t" * 32), Checksum(b"m" * 32)))
TO = Checksum(hashlib.sha256(COMMIT).digest())


def make_superblock(
    *,
    metadata: Sequence[tuple[str, Variant]] = (),
    endianness: str | None = "l",
    order: str = "little",
    start: bytes = FROM,
    target: bytes = TO,
    commit: bytes = COMMIT,
    first: bytes = b"",
    parts: Sequence[tuple[bytes, int, int, Sequence[tuple[int, bytes]]]] = (),
    fallbacks: Sequence[tuple[int, bytes, int, int]] = (),
    version: int = 0,
) -> bytes:
    """Return a superblock; parts are (checksum, size, content size, objects)."""

    def swap(value: int) -> int:
        return value if order == "little" else int.from_bytes(value.to_bytes(8, "little"), "big")

    entries = list(metadata)
    if endianness is not None:
        entries.insert(0, ("ostree.endianness", Variant("y", ord(endianness))))
    return gvariant.encode(
        "(a{sv}tayay(a{sv}aya(say)sstayay)aya(uayttay)a(yaytt))",
        (
            entries,
            0,
            start,
            target,
            gvariant.decode("(a{sv}aya(say)sstayay)", commit),
            first,
            [
                (
                    version,
                    checksum,
                    swap(size),
                    swap(content),
                    b"".join(bytes([kind]) + name for kind, name in objects),
                )
                for checksum, size, content, objects in parts
            ],
            [(kind, checksum, swap(size), swap(content)) for kind, checksum, size, content in fallbacks],
        ),
    )
