"""Mark everything in a repository that is in use: the first half of a collection.

Roots are refs, what is mounted, and what the caller names. From there:

    ref ─▶ images/<entry>  ─▶ image object  ─▶ every object that the image names
    ref ─▶ streams/<entry> ─▶ splitstream   ─▶ its object references
                                            ─▶ its named references, and on, if they are streams or images

An image or stream that is kept for any reason is kept with everything that it refers to. This includes one
that is in use only as the content of a file: its name stays as well, and must lead to complete data.

Data that is not understood never counts as garbage. If the target of a link is wrong, the object in the
link's name is kept as well. If a stream or image cannot be read, it could refer to any object, so nothing is
garbage. All of these problems are recorded, but none is an error.
"""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Final

from cfsctl.digest import DigestFormatError, parse_object_id
from cfsctl.errors import CfsError, RefNotFoundError, RepositoryError
from cfsctl.repository.gc.image_objects import read_images
from cfsctl.repository.gc.live import LiveObjects
from cfsctl.repository.gc.marks import CategoryMarks, Marks, describe_root
from cfsctl.repository.names.names import (
    find_object_in,
    parse_image_name,
    parse_stream_name,
)
from cfsctl.repository.names.streams import read_ref_entry
from cfsctl.repository.objects.kinds import ObjectRole, find_role
from cfsctl.tree.gc_pause import python_gc_paused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from collections.abc import Set as AbstractSet

    from cfsctl.digest import ObjectID
    from cfsctl.repository.gc.mount_finder import LiveMount
    from cfsctl.repository.gc.reachability import ReachabilityPath
    from cfsctl.repository.names.links import Ref
    from cfsctl.repository.names.names import Name
    from cfsctl.repository.repository import Repository

YOUNG: Final = "younger than the grace period"


class Marker:
    """One marking.

    Attributes:
        marks: The result.
        images: Links below ``images``.
        streams: Links below ``streams``.
    """

    def __init__(
        self,
        repository: Repository,
        trail: ReachabilityPath | None = None,
        ignored_refs: Collection[str] = (),
    ) -> None:
        """Read all links; mark nothing yet.

        Args:
            repository: The repository, open.
            trail: Told what leads to what.
            ignored_refs: Refs that count as removed, as paths below the repository.

        Raises:
            OSError: A directory cannot be read.
            BlockedNameError: Something else stands in the place of a directory.
        """
        self.marks = Marks()
        self._repository = repository
        self._algorithm = repository.algorithm
        self._objects = repository.objects
        self.images = CategoryMarks(repository, repository.images.links, self.marks, ignored_refs)
        self.streams = CategoryMarks(repository, repository.streams.links, self.marks, ignored_refs)
        self._by_object = {object_id: entry for entry, object_id in self.streams.entries.items()}
        self._images = set(self.images.entries.values())
        self._seen_streams: set[ObjectID] = set()
        self._seen_images: set[ObjectID] = set()
        self._mounted: dict[ObjectID, str] = {}
        self._trail = trail

    def add_root(self, name: str) -> None:
        """Count an image or stream as in use.

        Args:
            name: What names it anywhere: an ID or a prefix of one, a content identifier, a ref,
                ``refs/<ref>``.

        Raises:
            RefNotFoundError: Nothing has that name.
            AmbiguousIdError: It is a prefix of more than one ID.
        """
        image_name = self._find_root(self.images, name, lambda: parse_image_name(name, self._algorithm))
        stream_name = self._find_root(self.streams, name, lambda: parse_stream_name(name))
        if image_name is None and stream_name is None:
            image_id = self._repository.images.find_short(name)
            image_name = None if image_id is None else image_id.hex()
            stream_name = self._repository.streams.find_short_entry(name)
        if image_name is None and stream_name is None:
            raise RefNotFoundError(f"root not found: {name}", hint="see `cfsctl images` for names")
        if image_name is not None:
            self.images.keep(image_name, f"root {name}")
        if stream_name is not None:
            self.streams.keep(stream_name, f"root {name}")

    def add_mount(self, mount: LiveMount) -> None:
        """Count the images that a mount may be of as in use."""
        for image_id in mount.image_ids:
            self._mounted.setdefault(image_id, f"mount at {mount.where}")
        if not mount.image_ids:
            problem = "it uses these objects, but no image of this repository is like it"
            self.marks.note_unreadable(f"image of the mount at {mount.where}", problem)

    def add_young(self, cutoff_s: float) -> None:
        """Count all images and streams as in use whose objects came after a time, seconds since 1970."""
        for links in (self.images, self.streams):
            for entry, object_id in links.entries.items():
                status = self._objects.stat(object_id)
                if status is not None and max(status.st_mtime, status.st_ctime) > cutoff_s:
                    links.keep(entry, YOUNG)

    @staticmethod
    def _find_root(category: CategoryMarks, name: str, parse: Callable[[], Name]) -> str | None:
        """Return the entry of a category that a name stands for, or None."""
        if name in category.entries:
            return name
        try:
            entry, ref = parse()
            if entry not in category.entries and ref is not None:
                entry = read_ref_entry(category.category, ref)
        except RepositoryError:
            return None  # no name of this category
        return entry if entry in category.entries else None

    def run(self) -> Marks:
        """Mark everything that the roots lead to."""
        with python_gc_paused():
            self._mark_images()
            for entry in sorted(self.streams.roots):
                object_id = self.streams.entries[entry]
                if self._trail is not None:
                    self._trail.start(object_id, self.streams.roots[entry], f"streams/{entry}")
                where = describe_root(f"stream streams/{entry}", self.streams.roots[entry])
                self._mark_streams(object_id, where)
            self.complete()
        for ref in self.streams.lost:
            self.marks.note(f"streams/refs/{ref.name}: names {ref.text!r}, which does not exist; left alone")
        return self.marks

    def reach(self, links: CategoryMarks, entry: str) -> set[ObjectID]:
        """Return all objects that one entry leads to, itself among them; marks nothing.

        Args:
            links: `images` or `streams` of this marker.
            entry: An entry of it.
        """
        alone = copy.copy(self)
        alone.marks = Marks()
        alone.marks.live = LiveObjects(sys.maxsize)  # all are wanted as they are
        alone._seen_streams, alone._seen_images = set(), set()  # noqa: SLF001 - of the copy
        object_id = links.entries[entry]
        with python_gc_paused():
            if links is self.streams:
                alone._mark_streams(object_id, f"stream streams/{entry}")  # noqa: SLF001 - the same
            else:
                alone._mark_objects_of({object_id: f"image images/{entry}"})  # noqa: SLF001 - the same
            alone.complete()
        return alone.marks.live.exact

    def links_of(self, category: str) -> CategoryMarks:
        """Return `images` or `streams` by its name."""
        return self.images if category == self.images.category.name else self.streams

    @property
    def named(self) -> AbstractSet[ObjectID]:
        """The objects that entries name."""
        return self._images | self._by_object.keys()

    @property
    def has_lost_streams(self) -> bool:
        """Whether refs name streams that have no entry, so that any splitstream may be meant."""
        return bool(self.streams.lost)

    def _mark_images(self) -> None:
        images = {
            self.images.entries[entry]: describe_root(f"image images/{entry}", self.images.roots[entry])
            for entry in sorted(self.images.roots)
        }
        for image_id, where in self._mounted.items():
            images.setdefault(image_id, f"image of the {where}")
        if self._trail is not None:
            self._start_trail(self._trail)
        for ref in self.images.lost:
            object_id = self._find_lost_image(ref)
            if object_id is not None:
                images.setdefault(object_id, f"image of images/refs/{ref.name}")
                if self._trail is not None:
                    self._trail.start(object_id, f"images/refs/{ref.name}")
        self._mark_objects_of(images)

    def _mark_objects_of(self, images: Mapping[ObjectID, str]) -> None:
        """Mark images and the objects that they name; `images` says what each is called."""
        self._seen_images.update(images)
        live = self.marks.live
        live.update(images)
        for image in read_images(self._objects, list(images)):
            live.update(image.object_ids)
            self._look_at(image.image_id, image.object_ids)
            if image.problem:
                self.marks.note_unreadable(images[image.image_id], image.problem)

    def complete(self) -> None:
        """Mark what is needed by images and streams that are marked as something else."""
        while True:
            images = self.marks.live.find(self._images - self._seen_images)
            streams = self.marks.live.find(self._by_object.keys() - self._seen_streams)
            if not images and not streams:
                return
            self._seen_images |= images
            # A missing one needs nothing: its users rebuild it, or cannot use it.
            names = {image: f"image {image.hex()}" for image in images if self._objects.contains(image)}
            self._mark_objects_of(names)
            for stream_id in sorted(streams):
                self._mark_streams(stream_id, f"stream streams/{self._by_object[stream_id]}")

    def _look_at(self, container: ObjectID, object_ids: Collection[ObjectID]) -> None:
        """Record in the path which files of an image or stream are images and streams."""
        if self._trail is None:
            return
        self._trail.look(container, object_ids)
        for object_id in (self._images | self._by_object.keys()).intersection(object_ids):
            entry = self._by_object.get(object_id)
            step = f"images/{object_id.hex()}" if entry is None else f"streams/{entry}"
            self._trail.follow(container, object_id, [f"content of a file, {step}"])

    def _start_trail(self, trail: ReachabilityPath) -> None:
        for entry, reason in self.images.roots.items():
            trail.start(self.images.entries[entry], reason, f"images/{entry}")
        for image_id, where in self._mounted.items():
            trail.start(image_id, where)

    def _find_lost_image(self, ref: Ref) -> ObjectID | None:
        """Return what a ref without an entry must have meant: an image's entry is named for its object."""
        self.marks.note(f"images/refs/{ref.name}: names {ref.text!r}, which does not exist; left alone")
        object_id = find_object_in(ref.text, self._algorithm)
        if object_id is None and ref.entry is not None:
            try:
                object_id = parse_object_id(ref.entry, self._algorithm)
            except DigestFormatError:
                return None
        return object_id if object_id is not None and self._objects.contains(object_id) else None

    def mark_stream_object(self, object_id: ObjectID) -> bool:
        """Mark an object that no entry names, if it is a splitstream; return whether it is.

        What it needs is marked when `complete` is called after the last one.
        """
        if find_role(self._objects, object_id) is not ObjectRole.STREAM:
            return False
        if self._trail is not None:
            self._trail.start(object_id, "a lost ref may mean this stream")
        self._mark_streams(object_id, f"stream {object_id.hex()}")
        return True

    def _mark_streams(self, object_id: ObjectID, what: str) -> None:
        """Mark a splitstream and all streams that it names, directly or not."""
        pending = [(object_id, what)]
        while pending:
            stream_id, name = pending.pop()
            self.marks.live.add(stream_id)
            if stream_id in self._seen_streams:
                continue
            self._seen_streams.add(stream_id)
            for ref_name, inner in self._mark_one_stream(stream_id, name):
                self.marks.live.add(inner)
                if self._trail is not None:
                    entry = self._by_object.get(inner)
                    steps = [f"named reference {ref_name!r}"] + ([f"streams/{entry}"] if entry else [])
                    self._trail.follow(stream_id, inner, steps)
                if inner not in self._seen_streams and self._is_stream(inner):
                    pending.append((inner, f"{name}, named reference {ref_name!r}"))

    def _is_stream(self, object_id: ObjectID) -> bool:
        """Return whether a named reference is a stream; if it is an image, keep that in mind."""
        if object_id in self._by_object or object_id in self._images:
            return object_id in self._by_object
        role = find_role(self._objects, object_id)
        if role is ObjectRole.IMAGE:
            self._images.add(object_id)
        return role is ObjectRole.STREAM

    def _mark_one_stream(self, object_id: ObjectID, what: str) -> list[tuple[str, ObjectID]]:
        """Mark the objects of one stream; return its named references."""
        try:
            with self._repository.streams.open_object(object_id) as stream:
                self.marks.live.update(stream.object_refs)
                self._look_at(object_id, stream.object_refs)
                return sorted(stream.named_refs.items())
        except (CfsError, OSError) as error:
            self.marks.note_unreadable(what, error)
            return []
