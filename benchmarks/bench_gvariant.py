"""How fast OSTree objects are read: prints a rate per parser, best of five.

    python benchmarks/bench_gvariant.py

The garbage collector is off while measuring, as it is in a pull.
"""

from __future__ import annotations

import gc
import hashlib
import stat
import time
from typing import TYPE_CHECKING

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.ostree.objects import (
    Dirmeta,
    format_dirmeta,
    format_dirtree,
    format_zlib_header,
    parse_dirmeta,
    parse_dirtree,
    parse_zlib_file_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LABEL = (b"security.selinux\0", b"system_u:object_r:lib_t:s0\0")
_REGULAR = stat.S_IFREG | 0o644


def _rate(parse: Callable[[bytes], object], inputs: Sequence[bytes], items: int) -> float:
    """Return items per second."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for data in inputs:
            parse(data)
        best = min(best, time.perf_counter() - start)
    return items / best


def _checksum(number: int) -> Checksum:
    return Checksum(hashlib.sha256(number.to_bytes(4, "big")).digest())


def _tree(files: int, dirs: int, seed: int) -> bytes:
    return format_dirtree(
        [(b"libsomething%d.so" % index, _checksum(seed + index)) for index in range(files)],
        [(b"directory%d" % index, _checksum(5000 + seed + index), _checksum(0)) for index in range(dirs)],
    )


def _bench_trees() -> None:
    for files, dirs in ((7, 1), (50, 6), (1000, 100)):
        trees = [_tree(files, dirs, seed) for seed in range(1, 20_000 // files)]
        entries = len(trees) * (files + dirs)
        fast = _rate(parse_dirtree, trees, entries)
        general = _rate(lambda data: gvariant.decode("(a(say)a(sayay))", data), trees, entries)
        print(
            f"dirtree of {files + dirs:5} entries   {fast:12,.0f} entries/s   by the codec {general:12,.0f}"
        )


def _bench_headers() -> None:
    plain = [format_zlib_header(size, 0, 0, _REGULAR) for size in range(20_000)]
    labelled = [format_zlib_header(size, 0, 0, _REGULAR, b"", (_LABEL,)) for size in range(20_000)]
    links = [format_zlib_header(0, 0, 0, stat.S_IFLNK | 0o777, b"lib%d.so" % size) for size in range(20_000)]
    for name, headers in (("plain", plain), ("with a label", labelled), ("of links", links)):
        print(f"headers {name:17} {_rate(parse_zlib_file_header, headers, len(headers)):12,.0f} /s")


def _bench_metas() -> None:
    metas = [format_dirmeta(Dirmeta(0, gid, stat.S_IFDIR | 0o755, (_LABEL,))) for gid in range(20_000)]
    print(f"dirmetas with a label     {_rate(parse_dirmeta, metas, len(metas)):12,.0f} /s")


def main() -> None:
    """Print all rates."""
    gc.disable()
    _bench_trees()
    _bench_headers()
    _bench_metas()


if __name__ == "__main__":
    main()
