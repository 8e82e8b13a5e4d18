"""What a check of a repository found, and the two forms in which the original prints it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID

MAX_FINDINGS: Final = 100_000
"""Findings that are listed; more are counted. One hostile stream can name a million missing objects."""


@dataclass(slots=True)
class Tally:
    """Counts and findings of one part of a check; parts add up.

    Attributes:
        checked: Things looked at, by kind: ``objects``, ``streams``, ``images``.
        corrupted: Of those, the bad ones.
        broken_links: Symbolic links that lead nowhere.
        missing_objects: References to objects that are not there.
        findings: One line each, without the leading ``fsck: ``; no more than `MAX_FINDINGS`.
        omitted: Findings beyond these.
        damaged: Paths below ``objects`` of what is not what its name says, ``xx/name``.
        missing: Objects that something needs and that are not there.
        unreadable_streams: Names of streams that something names and that cannot be read.
        marks: What was proven on the way; see `cfsctl.repository.objects.verified`.
    """

    checked: dict[str, int] = field(default_factory=dict)
    corrupted: dict[str, int] = field(default_factory=dict)
    broken_links: int = 0
    missing_objects: int = 0
    findings: list[str] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    missing: set[ObjectID] = field(default_factory=set)
    unreadable_streams: set[str] = field(default_factory=set)
    marks: set[int] = field(default_factory=set)
    omitted: int = 0

    def count(self, kind: str, number: int = 1) -> None:
        """Count things that are looked at."""
        self.checked[kind] = self.checked.get(kind, 0) + number

    def find(self, text: str, *, corrupts: str | None = None) -> None:
        """Add a finding, which may make a thing of some kind count as bad."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(text)
        else:
            self.omitted += 1
        if corrupts is not None:
            self.corrupted[corrupts] = self.corrupted.get(corrupts, 0) + 1

    def miss(self, object_id: ObjectID, text: str) -> None:
        """Add the finding that something refers to an object that is not there."""
        self.missing_objects += 1
        self.missing.add(object_id)
        self.find(text)

    def add(self, other: Tally) -> None:
        """Add the counts and findings of another part."""
        for kind, number in other.checked.items():
            self.checked[kind] = self.checked.get(kind, 0) + number
        for kind, number in other.corrupted.items():
            self.corrupted[kind] = self.corrupted.get(kind, 0) + number
        self.broken_links += other.broken_links
        self.missing_objects += other.missing_objects
        room = MAX_FINDINGS - len(self.findings)
        self.findings += other.findings[:room]
        self.omitted += other.omitted + max(0, len(other.findings) - room)
        self.damaged |= other.damaged
        self.missing |= other.missing
        self.unreadable_streams |= other.unreadable_streams
        self.marks |= other.marks


@dataclass(frozen=True, slots=True)
class FsckReport:
    """The result of a check.

    Attributes:
        has_metadata: Whether there is a meta.json that can be read.
        has_bad_metadata: Whether something is wrong with it.
        tally: Counts and findings.
    """

    has_metadata: bool
    has_bad_metadata: bool
    tally: Tally

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found."""
        return not self.tally.findings

    @property
    def findings(self) -> list[str]:
        """One line for each finding, as the original words it."""
        lines = [f"fsck: {text}" for text in self.tally.findings]
        if self.tally.omitted:
            lines.append(f"fsck: {self.tally.omitted} more are not listed")
        return lines

    def lines(self) -> list[str]:
        """Return the report as text."""
        metadata = "ok" if self.has_metadata else "absent"
        lines = [f"meta.json: {'error' if self.has_bad_metadata else metadata}"]
        for kind in ("objects", "streams", "images"):
            checked, corrupted = self._counts(kind)
            lines.append(f"{kind}: {checked - corrupted}/{checked} ok")
        if self.tally.broken_links:
            lines.append(f"broken symlinks: {self.tally.broken_links}")
        if self.tally.missing_objects:
            lines.append(f"missing objects: {self.tally.missing_objects}")
        if self.is_ok:
            return [*lines, "status: ok"]
        lines.append(f"status: {len(self.tally.findings) + self.tally.omitted} error(s)")
        return lines + [f"  - {line}" for line in self.findings]

    def as_dict(self) -> dict[str, bool | int | list[str]]:
        """Return the report as it is printed in JSON, in the order of its keys."""
        document: dict[str, bool | int | list[str]] = {"ok": self.is_ok, "has_metadata": self.has_metadata}
        for kind in ("objects", "streams", "images"):
            document[f"{kind}_checked"], document[f"{kind}_corrupted"] = self._counts(kind)
        document["broken_links"] = self.tally.broken_links
        document["missing_objects"] = self.tally.missing_objects
        document["errors"] = self.findings
        return document

    def _counts(self, kind: str) -> tuple[int, int]:
        return self.tally.checked.get(kind, 0), self.tally.corrupted.get(kind, 0)
