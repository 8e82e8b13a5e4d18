"""Digests as the library returns them: bytes whose text is hexadecimal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # For type checkers there is one type: what comes from here goes into the rooms below as it is.
    from cfsctl.digest import Checksum as Checksum  # noqa: PLC0414 - exported from here
    from cfsctl.digest import ObjectID as ObjectID  # noqa: PLC0414 - the same
else:
    # The rooms below have plain bytes, which are made, compared and pickled faster.

    class _Digest(bytes):
        """Raw digest; `str` and `format` give it in lower-case hexadecimal."""

        __slots__ = ()

        def __str__(self) -> str:
            return self.hex()

        def __format__(self, spec: str) -> str:
            return format(self.hex(), spec)

        def __repr__(self) -> str:
            return f"{type(self).__name__}({self.hex()!r})"

    class ObjectID(_Digest):
        """fs-verity digest of an object: 32 bytes for SHA-256, 64 for SHA-512."""

        __slots__ = ()

    class Checksum(_Digest):
        """Name of an OSTree object: 32 bytes of SHA-256."""

        __slots__ = ()
