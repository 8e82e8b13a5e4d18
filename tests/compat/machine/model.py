"""What must be in the repository, known from what was done to it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Model:
    """Names, and what they lead to.

    Attributes:
        images: Trees, by image ref.
        tags: Commits, by tag.
        parts: Commits of which a part was asked for, by tag; also where the whole commit came later.
        whole: Commits that are here as a whole, tagged or not.
        trees: Trees of commits.
        from_images: Commits that were made of an image: what the image has as an object must be there.
        lossy: Of those, the ones of which the original may remove small objects: it made them itself.
        mounted: Trees that are mounted.
        containers: OCI images, by tag.
    """

    images: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    trees: dict[str, str] = field(default_factory=dict)
    from_images: set[str] = field(default_factory=set)
    lossy: set[str] = field(default_factory=set)
    mounted: list[str] = field(default_factory=list)
    containers: dict[str, str] = field(default_factory=dict)

    def add_commit(self, commit: str, tree: str) -> None:
        """Note a commit that is here as a whole."""
        self.whole.add(commit)
        self.trees[commit] = tree

    def is_superseded(self, name: str) -> bool:
        """Return whether a whole commit has taken the place of a part."""
        return self.parts[name] in self.whole or self.tags.get(name) in self.whole

    @property
    def parts_in_force(self) -> dict[str, str]:
        """Parts that no whole commit has superseded."""
        return {name: commit for name, commit in self.parts.items() if not self.is_superseded(name)}

    def drop_parts(self, commit: str, tag: str | None) -> None:
        """Forget parts of a commit that was completed, or of another one that had its tag."""
        self.parts = {name: part for name, part in self.parts.items() if part != commit and name != tag}

    def collect(self, *, drops_superseded: bool) -> None:
        """Note that everything without a name was removed."""
        if drops_superseded:
            self.parts = self.parts_in_force
        self.whole &= set(self.tags.values())
