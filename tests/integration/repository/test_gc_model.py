"""Random repositories, collected and compared with a model that knows nothing of files."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID, object_path
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage, explain_object
from cfsctl.repository.gc.live_mounts import Look
from cfsctl.repository.gc.mount_finder import LiveMount
from tests.support.repositories import make_image, make_repository, write_stream

if TYPE_CHECKING:
    from cfsctl.repository import Repository


@dataclass
class Model:
    """What is stored, by ID, and what refers to what."""

    objects: set[ObjectID] = field(default_factory=set)
    files: set[ObjectID] = field(default_factory=set)
    images: dict[ObjectID, list[ObjectID]] = field(default_factory=dict)
    streams: dict[str, ObjectID] = field(default_factory=dict)
    stream_objects: dict[ObjectID, list[ObjectID]] = field(default_factory=dict)
    stream_names: dict[ObjectID, list[ObjectID]] = field(default_factory=dict)
    image_refs: dict[str, ObjectID] = field(default_factory=dict)
    stream_refs: dict[str, str] = field(default_factory=dict)
    mounted: list[ObjectID] = field(default_factory=list)

    def live(self, roots: list[str]) -> set[ObjectID]:
        images = {*self.image_refs.values(), *(i for i in self.images if i.hex() in roots), *self.mounted}
        names = {*self.stream_refs.values(), *(name for name in self.streams if name in roots)}
        found: set[ObjectID] = set()
        pending = [*images, *(self.streams[name] for name in names)]
        while pending:
            found_id = pending.pop()
            if found_id in found:
                continue
            found.add(found_id)
            # Whatever it is kept as, an image or a stream is kept with all that it needs.
            pending += self.images.get(found_id, [])
            if found_id in self.streams.values() or found_id in self.named:
                pending += self.stream_objects.get(found_id, [])
                pending += self.stream_names.get(found_id, [])
        return found

    @property
    def named(self) -> set[ObjectID]:
        """What streams name, which may be streams that lost their own name."""
        return {inner for others in self.stream_names.values() for inner in others}

    def collect(self, roots: list[str]) -> int:
        live = self.live(roots)
        dead = self.objects - live
        self.objects &= live
        self.images = {image: files for image, files in self.images.items() if image in live}
        self.streams = {name: stream for name, stream in self.streams.items() if stream in live}
        return len(dead)


class Player:
    """Does the same random things to a repository and to a model."""

    def __init__(self, repository: Repository, seed: int) -> None:
        self.random = random.Random(seed)
        self.repository = repository
        self.model = Model()
        self.count = 0

    def _label(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def _pick(self, limit: int) -> list[ObjectID]:
        # Images and streams can be the content of a file as well: an image of a repository has them as files.
        known = sorted((self.model.files | self.model.images.keys()) & self.model.objects)
        return self.random.sample(known, min(len(known), self.random.randrange(limit)))

    def store(self) -> None:
        data = self._label().encode() * self.random.randrange(20, 60)
        object_id = self.repository.objects.ensure_bytes(data).object_id
        self.model.objects.add(object_id)
        self.model.files.add(object_id)

    def write_image(self) -> None:
        files = self._pick(6)
        ref = self.random.choice([None, "a", "b/c", f"d/{self.random.randrange(3)}"])
        object_id = self.repository.images.write(make_image(files, self._label().encode()), ref).object_id
        self.model.objects.add(object_id)
        self.model.images[object_id] = files
        if ref is not None:
            self.model.image_refs[ref] = object_id

    def write_stream(self) -> None:
        files = self._pick(6)
        others = self.random.sample(sorted(self.model.streams.values()), min(2, len(self.model.streams)))
        # Nor has a stream the objects of its image: what is inline in the one may be an object of the other.
        others += self.random.sample(sorted(self.model.images), min(1, len(self.model.images)))
        name = self.random.choice([self._label(), *self.model.streams])
        ref = self.random.choice([None, None, "x", "y/z"])
        named = {f"r{index}": other for index, other in enumerate(others)}
        object_id = write_stream(self.repository, name, files, named, ref)
        self.model.objects.add(object_id)
        self.model.stream_objects[object_id] = files
        self.model.stream_names[object_id] = others
        self.model.streams[name] = object_id
        if ref is not None:
            self.model.stream_refs[ref] = name

    def drop_ref(self) -> None:
        if self.model.image_refs:
            ref = self.random.choice(sorted(self.model.image_refs))
            self.repository.images.remove_ref(ref)
            del self.model.image_refs[ref]

    def drop_stream_ref(self) -> None:
        if self.model.stream_refs:
            ref = self.random.choice(sorted(self.model.stream_refs))
            self.repository.streams.remove_ref(ref)
            del self.model.stream_refs[ref]

    def collect(self) -> None:
        names = [*(image.hex() for image in self.model.images), *self.model.streams]
        roots = self.random.sample(names, min(len(names), self.random.randrange(3)))
        self.model.mounted = []
        self.explain(roots)
        self.mount()
        dry = collect_garbage(self.repository, extra_roots=roots, dry_run=True)
        result = collect_garbage(self.repository, extra_roots=roots)
        assert result.problems == ()
        assert dry.objects_removed == result.objects_removed == self.model.collect(roots)
        self.compare()

    def explain(self, roots: list[str]) -> None:
        """See that for some objects a chain is found just if the model has one, and where it begins."""
        live = self.model.live(roots)
        objects = sorted(self.model.objects)
        for object_id in self.random.sample(objects, min(len(objects), 3)):
            answer = explain_object(self.repository, object_id, extra_roots=roots)
            assert answer.is_kept == (object_id in live)
            if answer.steps:
                assert answer.steps[0].startswith(("images/refs/", "streams/refs/", "root "))
                assert answer.steps[-1] == f"objects/{object_path(object_id)}"

    def mount(self) -> None:
        """Have images mounted, which stay with their files, ref or no ref, as long as they are."""
        images = sorted(self.model.images)
        self.model.mounted = self.random.sample(images, min(len(images), self.random.randrange(3)))

    def compare(self) -> None:
        objects = self.repository.path + "/objects"
        assert stored_objects(objects) == self.model.objects
        assert self.repository.streams.list_streams() == sorted(self.model.streams.items())
        assert {ref.name: ref.entry for ref in self.repository.images.list_refs()} == {
            name: object_id.hex() for name, object_id in self.model.image_refs.items()
        }
        images = [found.path for found in self.repository.images.links.iter_entries()]
        assert images == sorted(image.hex() for image in self.model.images)


def stored_objects(objects: str) -> set[ObjectID]:
    return {ObjectID(bytes.fromhex(file.parent.name + file.name)) for file in Path(objects).glob("*/*")}


@pytest.mark.parametrize("seed", range(8))
def test_collection_agrees_with_the_model(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = Algorithm.SHA256 if seed % 2 else Algorithm.SHA512
    with make_repository(tmp_path, algorithm) as repository:
        player = Player(repository, seed)
        # What the kernel says of mounts is tested with real ones.
        monkeypatch.setattr(
            "cfsctl.repository.gc.collect.find_live_mounts",
            lambda *_: Look(
                [LiveMount("/m", "self", (i,), is_certain=True) for i in player.model.mounted], []
            ),
        )
        steps = [player.store] * 6 + [player.write_image, player.write_stream] * 2
        steps += [player.drop_ref, player.drop_stream_ref, player.collect]
        for _ in range(120):
            player.random.choice(steps)()
        player.collect()
        report = check_repository(repository, deep=True)
        assert report.tally.findings == []
