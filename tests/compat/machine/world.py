"""The repository that the programs work on, and what must be so after every step."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.digest import Algorithm, ObjectID, object_path
from cfsctl.oci.store.listing import Unreadable, iter_images
from cfsctl.ostree.content.target import inline_limit
from cfsctl.ostree.store.partial_tags import list_parts
from cfsctl.ostree.store.refs import find_tag, list_tags
from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from tests.compat.machine.model import Model
from tests.compat.machine.sources import IMAGE_LIMIT, SUBPATH, iter_contents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.compat.machine.programs import Program
    from tests.compat.machine.sources import Sources

_LISTED = re.compile(r"(\S+)\s+\S\s+([0-9a-f]{64})\b")
_MISSING = re.compile(r"fsck: image-missing-object: images/[0-9a-f]+: ([0-9a-f]+)")


class Step(NamedTuple):
    """A command that changes the repository.

    Attributes:
        arguments: Its arguments.
        apply: Does to the model what the command has done; called when it has succeeded.
        names: Refs that it sets or reads.
    """

    arguments: tuple[str, ...]
    apply: Callable[[Program, str], None]
    names: frozenset[str] = frozenset()


class World:
    """Everything that a sequence of operations needs.

    Attributes:
        random: Makes all choices.
        ours: This program.
        other: The other one.
        sources: Trees and commits.
        algorithm: Hash of the repository.
        version: Format of its images.
        path: The repository.
        aside: Another one, for copies; of the same hash in half of all worlds.
        model: What must be there.
        scratch: A directory for mounts and the like.
        can_mount: Whether images can be mounted here, or None as long as that is not known.
        can_serve: The same for FUSE mounts.
        is_shared: Whether what is done to the model was done by both programs at the same time.
    """

    def __init__(self, path: Path, seed: int, programs: tuple[Program, Program], sources: Sources) -> None:
        """Make the repository, by one of the programs."""
        self.random = random.Random(seed)
        self.ours, self.other = programs
        self.sources = sources
        self.algorithm = Algorithm.SHA256 if seed % 2 else Algorithm.SHA512
        self.version = self.random.choice((0, 1, 1, 2))
        self.path = path / "repository"
        self.aside = path / "aside"
        self.scratch = path / "scratch"
        self.scratch.mkdir()
        self.can_mount: bool | None = None
        self.can_serve: bool | None = None
        self.is_shared = False
        self.model = Model()
        self._image_ids: dict[str, ObjectID] = {}
        self._init(self.random.choice(programs), self.path, self.algorithm)
        self._init(self.ours, self.aside, self.random.choice(list(Algorithm)))

    def _init(self, program: Program, path: Path, algorithm: Algorithm) -> None:
        program.run(
            "init",
            "--insecure",
            "--algorithm",
            algorithm.label,
            "--erofs-version",
            str(self.version),
            str(path),
        )

    def on_repository(self, *arguments: str) -> tuple[str, ...]:
        """Return a command on the repository."""
        return ("--repo", str(self.path), *arguments)

    # What must be so

    def check(self, *, also_other: bool) -> None:
        """Compare the repository with the model."""
        with Repository.open(str(self.path)) as repository:
            assert {tag.name: tag.commit.hex() for tag in list_tags(repository)} == self.model.tags
            parts = {part.name: part.commit.hex() for part in list_parts(repository)}
            assert parts == self.model.parts_in_force
            self._check_images(repository)
            self._check_containers(repository)
            missing = [one for one in self._find_needed() if not repository.objects.contains(one)]
            assert [object_path(one) for one in missing] == []
            assert check_repository(repository, workers=0).findings == []
        if also_other:
            self.check_by_other()

    def check_by_other(self) -> None:
        """Let the other program say what is there, and whether it is sound."""
        self.other.run(*self.on_repository("fsck"))
        listed = self.other.run(*self.on_repository("ostree", "images"))
        assert dict(_LISTED.findall(listed)).items() >= self.model.tags.items()

    def _check_images(self, repository: Repository) -> None:
        refs = {ref.name: ref.entry for ref in repository.images.list_refs()}
        assert refs.keys() == self.model.images.keys()
        for name, tree in self.model.images.items():
            image_id = repository.images.find(name)
            assert image_id is not None
            # Whichever program makes the image of a tree, it is the same.
            assert self._image_ids.setdefault(tree, image_id) == image_id

    def _check_containers(self, repository: Repository) -> None:
        found = {}
        for summary in iter_images(repository):
            assert not isinstance(summary, Unreadable)
            found[summary.name] = str(summary.digest)
        containers = self.sources.containers
        assert found == {tag: containers[name].manifest for tag, name in self.model.containers.items()}

    def _find_needed(self) -> set[ObjectID]:
        """Return objects with the content of files that must be there."""
        return self._find_kept() | self._find_of_images(self.model.lossy)

    def _find_of_images(self, commits: set[str]) -> set[ObjectID]:
        """Return what images of commits have as objects, of those that have a tag."""
        tagged = commits.intersection(self.model.tags.values())
        trees = {self.model.trees[commit] for commit in tagged}
        return set().union(*(self.sources.find_objects(tree, self.algorithm, IMAGE_LIMIT) for tree in trees))

    def _find_kept(self) -> set[ObjectID]:
        """Return the same without what the original may lose."""
        find, model = self.sources.find_objects, self.model
        needed = self._find_of_images(model.from_images - model.lossy)
        for tree in (*model.images.values(), *model.mounted):
            needed |= find(tree, self.algorithm, IMAGE_LIMIT)
        for name in model.containers.values():
            for tree in self.sources.containers[name].layers:
                needed |= find(tree, self.algorithm, IMAGE_LIMIT)
        for commit in model.tags.values():
            needed |= find(model.trees[commit], self.algorithm, inline_limit(self.algorithm))
        for commit in model.parts_in_force.values():
            needed |= self._find_part(model.trees[commit])
        return needed

    def _find_part(self, tree: str) -> set[ObjectID]:
        from cfsctl.fsverity.merkle import compute_digest  # only for parts

        node = self.sources.trees[tree]
        for name in SUBPATH.strip("/").split("/"):
            inner = node[name]
            assert not isinstance(inner, bytes | str)
            node = inner
        limit = inline_limit(self.algorithm)
        return {compute_digest(data, self.algorithm) for data in iter_contents(node) if len(data) > limit}

    # What the original does otherwise

    def heal_loss(self) -> None:
        """Restore small objects of images of commits that the original made, and that it has collected.

        It lists no objects of the image in the stream of such a commit. Nothing else may be missing.
        """
        with Repository.open(str(self.path)) as repository:
            findings = check_repository(repository, workers=0).findings
            if not findings:
                return
        missing = {found[1] for finding in findings if (found := _MISSING.search(finding))}
        assert len(missing) > 0, findings
        assert all(_MISSING.search(finding) for finding in findings), findings
        may_miss = self._find_of_images(self.model.lossy) - self._find_kept()
        assert missing <= {object_id.hex() for object_id in may_miss}
        self.ours.run(*self.on_repository("fsck", "--repair"))

    def read_tag(self, name: str) -> str | None:
        """Return the commit that a tag names now."""
        with Repository.open(str(self.path)) as repository:
            commit = find_tag(repository, name)
            return None if commit is None else commit.hex()
