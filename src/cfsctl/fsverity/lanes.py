"""Hash several blocks at once with vector instructions, if the optional extension is installed and faster.

fs-verity hashes each block of 4096 bytes by itself, so eight or sixteen of them can share the lanes of vector
registers. The extension is ``_lanes.c``; an installation without it computes the same digests with OpenSSL,
one block after the other. docs/adr/0008-hashing-in-lanes.md has the figures.

The extension is checked against `hashlib` before it is used. If a digest differs, it is not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import Algorithm

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

BLOCK_SIZE: Final = 4096

_MIN_BLOCKS: Final[dict[tuple[str, Algorithm], int]] = {
    ("avx512", Algorithm.SHA256): 9,
    ("avx512", Algorithm.SHA512): 3,
    ("avx2", Algorithm.SHA256): 3,
    ("avx2", Algorithm.SHA512): 3,
}
"""Number of blocks from which the lanes beat OpenSSL, measured; sets that are not named here never do.

All lanes are always processed, so a few blocks cost as much as a full set.
"""

_LANES: Final[dict[tuple[str, Algorithm], int]] = {
    ("avx512", Algorithm.SHA256): 16,
    ("avx512", Algorithm.SHA512): 8,
    ("avx2", Algorithm.SHA256): 8,
    ("avx2", Algorithm.SHA512): 4,
}


class Lanes(NamedTuple):
    """How to hash several blocks at once.

    Attributes:
        name: The instruction set, as users know it: "avx512" or "avx2".
        width: Blocks that are hashed together.
        min_blocks: Number of blocks from which this is worth it.
        hash_blocks: Takes whole blocks and returns their digests, one after the other. Releases the
            interpreter lock.
        hash_files: Takes small files, each filled up with zeros to whole blocks, and their sizes; returns
            their fs-verity digests, one after the other. No file may have more blocks than one tree block
            holds digests of. Releases the interpreter lock.
    """

    name: str
    width: int
    min_blocks: int
    hash_blocks: Callable[[bytes | bytearray | memoryview], bytes]
    hash_files: Callable[[bytes | bytearray | memoryview, list[int]], bytes]


def find_lanes(algorithm: Algorithm) -> Lanes | None:
    """Return the fastest way for an algorithm; None if OpenSSL is as fast, or all there is."""
    extension = _load()
    if extension is None:
        return None
    for index, name in enumerate(extension.NAMES):
        if name is not None and _is_worth_it(extension, name, algorithm):
            lanes = make_lanes(extension, index, algorithm)
            return lanes if is_right(lanes, algorithm) else None
    return None


def describe_lanes() -> dict[str, str] | None:
    """Return the code path by the name of the hash; None if the extension is not installed."""
    if _load() is None:
        return None
    found = {algorithm.hash_name: find_lanes(algorithm) for algorithm in Algorithm}
    return {
        name: "OpenSSL" if lanes is None else f"{lanes.name}, {lanes.width} blocks at once"
        for name, lanes in found.items()
    }


def _load() -> ModuleType | None:
    try:
        from cfsctl.fsverity import _lanes  # optional
    except ImportError:
        return None
    # A checkout may still have the extension of an older commit.
    return _lanes if hasattr(_lanes, "hash_files") else None


def _is_worth_it(extension: ModuleType, name: str, algorithm: Algorithm) -> bool:
    # For SHA-256, eight lanes of AVX2 are not faster than the processor's own instructions.
    if name == "avx2" and algorithm is Algorithm.SHA256 and extension.HAS_SHA256_INSTRUCTIONS:
        return False
    return (name, algorithm) in _MIN_BLOCKS


def make_lanes(extension: ModuleType, index: int, algorithm: Algorithm) -> Lanes:
    """Return the lanes of one instruction set, by its index in the extension's ``NAMES``."""
    run, run_files, number = extension.hash_blocks, extension.hash_files, algorithm.value
    name = extension.NAMES[index]
    key = (name, algorithm)
    return Lanes(
        name,
        _LANES.get(key, 1),
        _MIN_BLOCKS.get(key, 1),
        lambda data: run(index, number, data),
        lambda data, sizes: run_files(index, number, data, sizes),
    )


def is_right(lanes: Lanes, algorithm: Algorithm) -> bool:
    """Return whether these lanes compute what `hashlib` computes, for one block more than fit the lanes."""
    import hashlib  # loading OpenSSL takes milliseconds

    function = hashlib.sha256 if algorithm is Algorithm.SHA256 else hashlib.sha512
    count = lanes.width + 1
    # Each block has other bytes, so that lanes that are mixed up show.
    blocks = [bytes((7 * number + at) & 0xFF for at in range(256)) * 16 for number in range(count)]
    digests = [function(block).digest() for block in blocks]
    data = b"".join(blocks)
    if lanes.hash_blocks(data) != b"".join(digests):
        return False
    # One file of two blocks, and one of each other block.
    roots = [function(b"".join(digests[:2]).ljust(BLOCK_SIZE, b"\0")).digest(), *digests[2:]]
    sizes = [2 * BLOCK_SIZE, *[BLOCK_SIZE] * (count - 2)]
    heads = [b"\1%c\x0c" % algorithm.value + bytes(5) + size.to_bytes(8, "little") for size in sizes]
    described = [(head + root).ljust(256, b"\0") for head, root in zip(heads, roots, strict=True)]
    return lanes.hash_files(data, sizes) == b"".join([function(each).digest() for each in described])
