"""Our digests against those of `fsverity digest`."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.fsverity.merkle import compute_file_digest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.compat,
    pytest.mark.skipif(
        shutil.which("fsverity") is None, reason="fsverity is not installed (package fsverity)"
    ),
]

_BLOCK = 4096
_SIZES = [
    0,
    1,
    4095,
    4096,
    4097,
    1 << 20,
    *(count * _BLOCK + more for count in (64, 128, 64 * 64, 128 * 128) for more in (-1, 0, 1)),
]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_digests_are_equal(algorithm: Algorithm, tmp_path: Path) -> None:
    block = os.urandom(1 << 20)
    path = tmp_path / "file"
    for size in _SIZES:
        path.write_bytes((block * (size // len(block) + 1))[:size])
        output = subprocess.check_output(
            ["fsverity", "digest", "--compact", f"--hash-alg={algorithm.hash_name}", path], text=True
        )
        with path.open("rb") as file:
            digest, found = compute_file_digest(file.fileno(), algorithm)
        assert (digest.hex(), found) == (output.strip(), size)
