"""Summaries survive the way there and back; damaged ones raise the one documented error."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cfsctl.digest import Checksum
from cfsctl.gvariant import Variant
from cfsctl.ostree.summary.format import Summary, SummaryError, SummaryRef, format_summary, parse_summary

REAL = (Path(__file__).parents[1] / "vectors/ostree/summary/three-refs.summary").read_bytes()

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
METADATA = st.lists(
    st.tuples(
        NAMES, st.builds(Variant, st.just("s"), NAMES) | st.builds(Variant, st.just("t"), st.integers(0, 9))
    ),
    max_size=3,
)
REFS = st.builds(
    SummaryRef, NAMES, st.binary(min_size=32, max_size=32).map(Checksum), st.integers(0, 2**64 - 1), METADATA
)


@given(st.lists(REFS, max_size=8, unique_by=lambda ref: ref.name), METADATA)
def test_there_and_back(refs: list[SummaryRef], metadata: list[tuple[str, Variant]]) -> None:
    summary = Summary({ref.name: ref for ref in refs}, metadata)
    assert plain(parse_summary(format_summary(summary))) == plain(summary)


def plain(summary: Summary) -> object:
    """Return all of a summary, whose parts are decoded when they are asked for."""
    refs = {
        name: (ref.name, ref.checksum, ref.commit_size, list(ref.metadata))
        for name, ref in summary.refs.items()
    }
    return refs, list(summary.metadata)


@given(
    st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(REAL)),
)
def test_damage_is_refused_or_harmless(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(REAL)
    for position, value in changes:
        data[position] = value
    for candidate in (bytes(data), bytes(data[:length])):
        try:
            summary = parse_summary(candidate)
        except SummaryError:
            continue
        assert format_summary(summary) == candidate
