"""What the two headers may say."""

from __future__ import annotations

import pytest

from cfsctl.erofs.format import BLOCK_SIZE, ErofsError, FormatVersion
from cfsctl.erofs.superblock import promised_size, read_superblock
from tests.support.erofs_images import patched, stored

SUPERBLOCK = 1024

BREAKS = {
    "composefs magic": (0, "<I", 0x12345678, "bad composefs magic: expected 0xd078629a, got 0x12345678"),
    "header version": (4, "<I", 2, "bad EROFS format version in composefs header: expected 1, got 2"),
    "header flags": (8, "<I", 2, "unknown header flags 0x2"),
    "composefs version": (12, "<I", 3, "unknown composefs_version 3"),
    "EROFS magic": (SUPERBLOCK, "<I", 7, "bad EROFS magic: expected 0xe0f5e1e2, got 0x7"),
    "feature_compat": (SUPERBLOCK + 8, "<I", 0x10, "unsupported feature_compat flags: 0x10"),
    "block size 512": (SUPERBLOCK + 12, "<B", 9, "requires blkszbits=12, got 9"),
    "block size 2^200": (SUPERBLOCK + 12, "<B", 200, "requires blkszbits=12, got 200"),
    "extslots": (SUPERBLOCK + 13, "<B", 1, "extslots=1"),
    "nanoseconds": (SUPERBLOCK + 32, "<I", 1_000_000_000, "less than 1000000000 nanoseconds"),
    "blocks short": (SUPERBLOCK + 36, "<I", 13, "superblock says 13 blocks"),
    "blocks beyond": (SUPERBLOCK + 36, "<I", 0xFFFFFFFF, "superblock says 4294967295 blocks"),
    "meta_blkaddr": (SUPERBLOCK + 40, "<I", 1, "requires meta_blkaddr=0, got 1"),
    "xattr_blkaddr": (SUPERBLOCK + 44, "<I", 0x7FFFFFFF, "Offset out of bounds"),
    "feature_incompat": (SUPERBLOCK + 80, "<I", 1, "unsupported feature_incompat flags: 0x1"),
    "compression": (SUPERBLOCK + 84, "<H", 1, "does not support compression"),
    "devices": (SUPERBLOCK + 86, "<H", 3, "extra_devices=3"),
    "dirblkbits": (SUPERBLOCK + 90, "<B", 1, "dirblkbits=0, got 1"),
    "prefixes": (SUPERBLOCK + 91, "<B", 2, "custom xattr prefixes"),
    "packed inode": (SUPERBLOCK + 96, "<Q", 40, "packed_nid=40"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_refused(name: str) -> None:
    offset, layout, value, message = BREAKS[name]
    with pytest.raises(ErofsError) as caught:
        read_superblock(patched(stored("sha256-v1.img"), offset, layout, value))
    assert message in str(caught.value)
    assert caught.value.offset == offset


def test_read_as_written() -> None:
    data = stored("small-sha256-v1.img")
    superblock = read_superblock(data)
    assert superblock == (FormatVersion.V1, False, 36, 260, 1000, 0, 2 * BLOCK_SIZE)
    assert promised_size(data[:1152]) == len(data)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 1023, 1024, 1151])
def test_cut_off_in_the_headers(size: int) -> None:
    with pytest.raises(ErofsError):
        read_superblock(stored("small-sha256-v1.img")[:size])


@pytest.mark.parametrize("change", [-1, 1, -BLOCK_SIZE, BLOCK_SIZE])
def test_another_length_than_promised(change: int) -> None:
    data = stored("small-sha256-v1.img")
    with pytest.raises(ErofsError, match="superblock says 4 blocks"):
        read_superblock((data + bytes(BLOCK_SIZE))[: len(data) + change])


def test_larger_than_any_image() -> None:
    with pytest.raises(ErofsError, match="exceeds maximum 1073741824"):
        read_superblock(stored("small-sha256-v1.img"), (1 << 30) + 1)
