"""The digest does not depend on how the data is cut."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from cfsctl.digest import Algorithm
from cfsctl.fsverity.merkle import Hasher, compute_digest


@settings(max_examples=60)
@given(
    algorithm=st.sampled_from(Algorithm),
    seed=st.integers(0, 2**32),
    blocks=st.integers(0, 140),
    extra=st.integers(-3, 3),
    cuts=st.lists(st.integers(0, 600_000), max_size=12),
)
def test_cuts_do_not_matter(
    algorithm: Algorithm, seed: int, blocks: int, extra: int, cuts: list[int]
) -> None:
    data = random.Random(seed).randbytes(max(0, blocks * 4096 + extra))
    hasher = Hasher(algorithm)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        hasher.update(memoryview(data)[start:end])
    assert hasher.digest() == compute_digest(data, algorithm)
