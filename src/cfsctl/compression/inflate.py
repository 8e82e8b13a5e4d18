"""Inflate with the fastest available implementation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Inflater(Protocol):
    """Unpacks one stream: what the objects of zlib and isal have in common."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def unused_data(self) -> bytes:
        """Input behind its end."""

    @property
    def unconsumed_tail(self) -> bytes:
        """Input that did not fit into the output."""

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        """Return at most so many bytes of output; 0 means no limit."""


class Inflate(NamedTuple):
    """An implementation of inflate.

    Attributes:
        make: Return a decompression object for this `wbits`, as `zlib.decompressobj` does.
        error: What that raises.
    """

    make: Callable[[int], Inflater]
    error: type[Exception]


def load_inflate() -> Inflate:
    """Return the fastest inflate there is; loads its module, so call it once before forking."""
    for name in ("isal.isal_zlib", "zlib"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return Inflate(module.decompressobj, module.error)
    raise AssertionError("the standard library has zlib")
