"""Stored commits as bases of a pull: read them, check whether they are complete, and offer their objects."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

from cfsctl.errors import FormatError, IntegrityError
from cfsctl.ostree.pull.glance import Glance
from cfsctl.ostree.store.commit_proof import find_false_files, is_proven, prove
from cfsctl.ostree.store.commit_stream import CommitStream
from cfsctl.ostree.store.opened_streams import OpenedStreams
from cfsctl.ostree.store.partial_commits import find_partial
from cfsctl.ostree.store.refs import find_commit, open_commit_object, stream_name
from cfsctl.progress import Message
from cfsctl.repository.objects.reader import ObjectDamagedError, to_doubtful
from cfsctl.repository.objects.verified import CachedCheck

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.objects.reader import Finding
    from cfsctl.repository.objects.store import ObjectStore


class Stored(Protocol):
    """What was stored of a commit: a stream, or a journal."""

    @property
    def object_refs(self) -> Collection[ObjectID]:
        """Contents that are objects of the repository."""

    def find(self, checksum: Checksum) -> StoredContent | None:
        """Return an object's data, and the ID of content that is an object, or None."""


class Journal(Stored, Protocol):
    """A journal as far as it is a base."""

    @property
    def is_proven(self) -> bool:
        """Whether only this program can have written it."""


class StoredBase:
    """What is stored as a base: content that is not in the repository any more is as good as absent.

    Attributes:
        doubtful: Content that was found and that needs a closer look, and the objects that it is of.
        unproven: Files of a table that was not proven: header, and the object that is said to be the content.
        lender: The commit, if it is proven.
    """

    def __init__(
        self,
        stored: Stored,
        objects: ObjectStore,
        seen: dict[ObjectID, int] | None = None,
        *,
        is_proven: bool = True,
        defers_look: bool = False,
        glance: Glance | None = None,
    ) -> None:
        """Offer what is stored; contents are looked at when the first of them is asked for.

        Args:
            stored: What is offered.
            objects: Where contents are.
            seen: Sizes of contents that were looked at for other bases, and will be for this one.
            is_proven: Whether only this program can have written it.
            defers_look: Whether contents that `find_true` names are looked at in `take_doubtful`; by then,
                what else is missing may already be on its way.
            glance: Whether all contents were looked at today; then only a part of them is now.
        """
        self.doubtful: dict[ObjectID, set[Checksum]] = {}
        self.unproven: dict[Checksum, tuple[bytes, ObjectID]] = {}
        self.lender = stored if is_proven and isinstance(stored, CommitStream) else None
        self._is_proven = is_proven
        self._stored = stored
        self._objects = objects
        self._sizes: dict[ObjectID, int] | None = None
        self._seen: dict[ObjectID, int] = {} if seen is None else seen
        self._suspects: dict[ObjectID, set[Checksum]] | None = None
        self._unseen: set[Checksum] = set()
        self._defers_look = defers_look
        self._glance = glance

    def find(self, checksum: Checksum) -> StoredContent | None:
        """Return the object's data and the ID of content that is an object; see `plan.Base`."""
        found = self._stored.find(checksum)
        if found is None or found[1] is None:
            return found
        if not self._is_proven:
            self.unproven[checksum] = (found[0], found[1])
        size_bytes = int.from_bytes(found[0][8:16], "big")  # As the header says, which is checked later.
        sizes = self._sizes if self._sizes is not None else self._look_at_all()
        known_bytes = sizes.get(found[1], -1)
        if known_bytes == size_bytes:
            return found
        if known_bytes == -1:
            is_there = self._objects.contains(found[1], size_bytes)
        else:
            is_there = known_bytes == to_doubtful(size_bytes)
        if not is_there:
            return None
        self.doubtful.setdefault(found[1], set()).add(checksum)
        return found

    def find_true(self, checksums: set[Checksum]) -> set[Checksum]:
        """Return the files of a proven commit whose contents are verified, or will be; see `plan.TrueBase`.

        The proof covers headers and what is inline, the marks of the repository cover the contents.
        """
        stored = self.lender
        if stored is None:
            return set()
        found = stored.select(checksums)
        if self._defers_look:
            self._unseen |= found
            return found
        return found.difference(*self._find_doubtful().values())

    def _find_doubtful(self) -> dict[ObjectID, set[Checksum]]:
        """Return the contents of a proven commit that are missing or need a closer look, with their files."""
        if self._suspects is None:
            self._suspects = {}
            stored = self.lender
            sizes = self._sizes if self._sizes is not None else self._look_at_all()
            refs = () if stored is None else stored.object_refs
            # Those of which no size is known were found sound today, and no directory has changed since.
            numbers = {number for number, object_id in enumerate(refs) if sizes.get(object_id, 0) < 0}
            if numbers and stored is not None:
                table = stored.table
                for checksum, number in zip(table.checksums, table.numbers, strict=True):
                    if number in numbers:
                        self._suspects.setdefault(refs[number], set()).add(checksum)
        return self._suspects

    def take_doubtful(self) -> dict[ObjectID, set[Checksum]]:
        """Return, once, contents that were offered and need a closer look, with their files."""
        doubtful, self.doubtful = self.doubtful, {}
        unseen, self._unseen = self._unseen, set()
        if unseen:
            for object_id, checksums in self._find_doubtful().items():
                if offered := checksums & unseen:
                    doubtful.setdefault(object_id, set()).update(offered)
        return doubtful

    @property
    def has_all(self) -> bool:
        """Whether all contents exist; they may be damaged."""
        if self._glance is not None and self._glance.is_known:
            return True
        sizes = self._sizes if self._sizes is not None else self._look_at_all()
        unknown = [object_id for object_id, size_bytes in sizes.items() if size_bytes == -1]
        return not self._objects.find_missing(unknown)

    def iter_verified(self) -> Iterator[ObjectID]:
        """Yield contents that needed no closer look; none if no content was asked for."""
        return (object_id for object_id, size_bytes in (self._sizes or {}).items() if size_bytes >= 0)

    def _look_at_all(self) -> dict[ObjectID, int]:
        stored, glance = self._stored, self._glance
        if glance is not None and glance.is_known and isinstance(stored, CommitStream):
            part = self._look_at(stored.object_refs[glance.choose(len(stored.object_refs))])
            if min(part.values(), default=0) >= 0:
                self._sizes = part
                return part
        self._sizes = self._look_at(stored.object_refs)
        return self._sizes

    def _look_at(self, ids: Collection[ObjectID]) -> dict[ObjectID, int]:
        seen = self._seen
        new = sorted(set(ids).difference(seen))
        seen.update(zip(new, self._objects.find_sizes(new), strict=True))
        return dict(zip(ids, map(seen.__getitem__, ids), strict=True))


class BaseCommits:
    """The stored commits of a repository; what is damaged about them is reported, and not used.

    Of each that is opened there is one stream and one base, however often it is asked for.
    """

    def __init__(
        self,
        repository: Repository,
        reporter: Reporter,
        *,
        defers_look: bool = False,
        streams: OpenedStreams | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            repository: Where they are.
            reporter: Told what is damaged.
            defers_look: Whether contents are looked at only when `find_damaged` is called.
            streams: What other pulls have decoded.
        """
        self._streams = streams if streams is not None else OpenedStreams()
        self._sizes: dict[ObjectID, int] = {}
        self._defers_look = defers_look
        self._repository = repository
        self._report = reporter
        self._lost: dict[ObjectID, bytes] = {}
        self._opened: dict[Checksum, CommitStream | None] = {}
        self._bases: dict[Stored, StoredBase] = {}

    def as_base(self, stored: CommitStream | Journal) -> StoredBase:
        """Return a stored commit, or a part of one, as a base of a pull."""
        base = self._bases.get(stored)
        if base is None:
            objects = self._repository.objects
            base = self._bases[stored] = StoredBase(
                stored,
                objects,
                self._sizes,
                is_proven=self._is_proven(stored),
                defers_look=self._defers_look,
                glance=self._glance_at(stored),
            )
        return base

    def _glance_at(self, stored: CommitStream | Journal) -> Glance | None:
        """Look at the directories of objects now, before this pull writes to them."""
        if isinstance(stored, CommitStream) and stored.object_id is not None and not stored.is_partial:
            return Glance(self._repository, stored.object_id, len(stored.object_refs))
        return None

    def _is_proven(self, stored: CommitStream | Journal) -> bool:
        """Return whether content is known to be what checksums say; otherwise all that is taken is hashed."""
        if isinstance(stored, CommitStream):
            return is_proven(self._repository, stored)
        return stored.is_proven

    def find_damaged(self, reporter: Reporter) -> set[Checksum]:
        """Verify the objects that bases have offered; return the files whose content is damaged."""
        doubtful: defaultdict[ObjectID, set[Checksum]] = defaultdict(set)
        for base in self._bases.values():
            for object_id, checksums in base.take_doubtful().items():
                doubtful[object_id] |= checksums
        objects = self._repository.objects
        damaged = objects.find_all_damage(doubtful, reporter)
        return set().union(self._find_false(reporter), *(doubtful[object_id] for object_id in damaged))

    def _find_false(self, reporter: Reporter) -> set[Checksum]:
        """Hash the files of unverified tables; return those that do not match."""
        files: list[tuple[Checksum, bytes, ObjectID]] = []
        for base in self._bases.values():
            files += [(checksum, *entry) for checksum, entry in base.unproven.items()]
            base.unproven.clear()
        return set(find_false_files(self._repository.objects, files, reporter))

    def find_unproven(self) -> set[Checksum]:
        """Return files that bases have offered and that were not hashed yet."""
        return set().union(*(base.unproven for base in self._bases.values()))

    def find_verified(self) -> set[ObjectID]:
        """Return contents of bases that the repository has noted as verified."""
        return {object_id for base in self._bases.values() for object_id in base.iter_verified()}

    def open(self, checksum: Checksum) -> CommitStream | None:
        """Return a stored commit; one that cannot be read counts as absent, and that is reported."""
        if checksum not in self._opened:
            self._opened[checksum] = self._open(checksum)
        return self._opened[checksum]

    def open_named(self, checksum: Checksum) -> CommitStream:
        """Return a stored commit that the user has named.

        Raises:
            CommitNotFoundError: It is not stored.
            FormatError, IntegrityError: It cannot be read.
        """
        stream = self._opened.get(checksum)
        if stream is None:
            stream = self._open_object(find_commit(self._repository, checksum), checksum)
            self._opened[checksum] = stream
        return stream

    def _open(self, checksum: Checksum) -> CommitStream | None:
        try:
            object_id = self._repository.streams.find(stream_name(checksum))
            if object_id is None:
                return None
            damage = self._repository.objects.find_damage(object_id)
            if isinstance(damage, str):
                raise ObjectDamagedError(f"its stream: {damage}")
            stream = self._open_object(object_id, checksum)
            _ = stream.commit
        except (FormatError, IntegrityError) as error:
            self._report(Message(f"stored commit {checksum.hex()} is damaged and not used: {error}"))
            return None
        return stream

    def _open_object(self, object_id: ObjectID, checksum: Checksum) -> CommitStream:
        """Open a stream; that its table is right is remembered with the state of its file.

        In a pull of a stored commit, only checking the objects takes longer.
        """
        stream = self._streams.find(object_id)
        if stream is None or stream.checksum != checksum:
            stream = self._decode(object_id, checksum)
            self._streams.keep(object_id, stream)
        return stream

    def _decode(self, object_id: ObjectID, checksum: Checksum) -> CommitStream:
        repository = self._repository
        if repository.objects.is_secure:
            return open_commit_object(repository, object_id, checksum)
        what = b"table of the commit" + checksum + object_id
        fact = CachedCheck(repository.verified, what, repository.objects.stat(object_id))
        stream = open_commit_object(repository, object_id, checksum, checks_table=not fact.is_known)
        fact.record()
        return stream

    def is_whole(self, stored: CommitStream) -> bool:
        """Return whether everything that a stored commit needs is stored undamaged, or inline in the commit.

        What is inline only is for `restore_lost` to store. An image is only ever made of a whole commit, so a
        stream with an image lacks no entry.
        """
        from cfsctl.ostree.store.images import find_image  # few pulls find the commit stored
        from cfsctl.ostree.store.inline_objects import find_inline

        image = find_image(self._repository, stored)
        if image is None or not self._repository.objects.is_sound(image[0]):
            return False
        beside = [object_id for object_id in (stored.detached, stored.record) if object_id is not None]
        try:
            beside += self._find_more_of_image(stored, image[0])
        except FormatError:
            return False
        objects = self._repository.objects
        damage = self._find_damage(stored, [*stored.object_refs, *beside])
        self._lost = find_inline(stored, damage, objects.algorithm)
        found = [text for object_id, text in damage.items() if object_id not in self._lost]
        if found:
            what = f"{len(found)} of its objects are" if len(found) > 1 else "one of its objects is"
            how = "missing or damaged" if any(isinstance(text, str) for text in found) else "missing"
            self._report(Message(f"stored commit {stored.checksum.hex()}: {what} {how}; fetched again"))
        return not found and self._is_true(stored)

    def _find_damage(self, stored: CommitStream, contents: list[ObjectID]) -> dict[ObjectID, Finding]:
        """Return what is wrong with contents; if they were all looked at today, with a part of them."""
        objects = self._repository.objects
        if stored.object_id is None:
            return objects.find_all_damage(contents, self._report)
        glance = Glance(self._repository, stored.object_id, len(contents))
        sample = contents[glance.choose(len(contents))]
        damage = objects.find_all_damage(sample, self._report)
        if damage and len(sample) < len(contents):
            damage = objects.find_all_damage(contents, self._report)
        elif not damage:
            glance.record()
        return damage

    def _is_true(self, stored: CommitStream) -> bool:
        """Return whether all that is stored of a commit is what checksums say; what is not is not used."""
        try:
            prove(self._repository, stored, self._report)
        except (FormatError, IntegrityError) as error:
            self._report(Message(f"{error}; fetched again"))
            return False
        return True

    def open_partial(self, checksum: Checksum) -> CommitStream | None:
        """Return what an earlier pull of a commit has left, or None; what is not true counts as absent."""
        stored = find_partial(self._repository, checksum)
        if stored is None or is_proven(self._repository, stored):
            return stored
        if not self._is_true(stored):
            return None
        stored.image = None  # which a proof says nothing about
        return stored

    def _find_more_of_image(self, stored: CommitStream, image_id: ObjectID) -> list[ObjectID]:
        """Return objects that a commit's image needs and its stream does not name.

        An image that is made of the commit needs none; that is remembered with the state of its file.

        Raises:
            ErofsError: It is not an image.
        """
        from cfsctl.erofs.read.attributes import WrongAlgorithmError  # most pulls know the fact

        repository = self._repository
        stream_id = repository.streams.find(stream_name(stored.checksum)) or b""
        what = b"objects of the image" + stored.checksum + image_id + stream_id
        fact = CachedCheck(repository.verified, what, repository.objects.stat(image_id))
        if fact.is_known:
            return []
        try:
            more = set(repository.images.objects(image_id.hex())).difference(stored.object_refs)
        except WrongAlgorithmError:
            return []  # as of an image that was imported; no file of it can be here
        if not more:
            fact.record()
        return sorted(more)

    def restore_lost(self) -> None:
        """Store what `is_whole` found missing, or damaged, and inline in the commit."""
        for content in self._lost.values():
            self._repository.objects.ensure_bytes(content)
        if self._lost:
            self._repository.sync()
            self._report(Message(f"{len(self._lost)} small objects were missing; restored from the commit"))
        self._lost = {}

    def open_whole(self, checksum: Checksum) -> CommitStream | None:
        """Return a complete stored commit, or None."""
        stream = self.open(checksum)
        return stream if stream is not None and self.as_base(stream).has_all else None
