"""Put a report together."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from cfsctl.erofs.read.tree import read_image
from cfsctl.errors import CfsError
from cfsctl.inspection.contents.reading import ContentReader
from cfsctl.inspection.storage.directories import DirectorySizes
from cfsctl.inspection.storage.garbage import find_reasons, group_garbage
from cfsctl.inspection.storage.model import BlockKind, LargeObject, SpaceBlock, StoreReport
from cfsctl.inspection.storage.versions import HistoryReader
from cfsctl.progress import Advanced, Done, Started, Unit
from cfsctl.repository.gc.object_table import ABSENT, Mark
from cfsctl.repository.gc.survey import survey_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.inspection.storage.model import ReportLimits
    from cfsctl.kinds.kind import Reading
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.gc.survey import Survey

TREES_ID: Final = "trees"
"""Names the progress of looking into trees."""

_MAX_PROBLEMS: Final = 200


def report_store(
    repository: Repository, limits: ReportLimits, reading: Reading, made_s: int, reporter: Reporter
) -> StoreReport:
    """Return what takes up space in a repository, and why; changes nothing.

    Args:
        repository: The repository, open.
        limits: How much the report has in it.
        reading: How trees of commits and container images are read.
        made_s: The time that the report has on it, in seconds since 1970.
        reporter: Told about progress.

    Raises:
        OSError: A directory cannot be read.
    """
    survey = survey_repository(repository, limits.rows, reporter)
    trees = _TreeSurvey(repository, survey, limits, reporter)
    trees.run()
    histories, left_out = HistoryReader(
        repository, survey, reading, ContentReader(lambda: repository.objects), limits
    ).read()
    return StoreReport(
        path=repository.path,
        hash_name=repository.algorithm.hash_name,
        made_s=made_s,
        stats=survey.stats,
        space=trees.space(),
        trees_read=trees.read,
        trees_left_out=trees.left_out,
        largest=trees.largest(),
        histories=histories,
        histories_left_out=left_out,
        garbage=group_garbage(survey, limits.rows),
        collection=survey.collection,
        reasons=find_reasons(survey),
        problems=tuple(dict.fromkeys([*survey.stats.problems, *trees.problems]))[:_MAX_PROBLEMS],
    )


class _TreeSurvey:
    """Looks into the trees of a repository."""

    def __init__(
        self, repository: Repository, survey: Survey, limits: ReportLimits, reporter: Reporter
    ) -> None:
        self._repository = repository
        self._survey = survey
        self._limits = limits
        self._report = reporter
        self._directories = DirectorySizes(survey.objects, frozenset(survey.largest))
        self.read = 0
        self.left_out = 0
        self.problems: list[str] = []

    def run(self) -> None:
        """Look into the trees of the largest refs first."""
        images = list(self._iter_images())
        chosen = images[: self._limits.trees]
        self.left_out = len(images) - len(chosen)
        self._report(Started(TREES_ID, len(chosen), Unit.ITEMS))
        for number, image_id in enumerate(chosen):
            self._look_into(image_id)
            self._report(Advanced(TREES_ID, number + 1, len(chosen)))
        self._report(Done(TREES_ID, len(chosen)))

    def _iter_images(self) -> Iterator[ObjectID]:
        """Yield the images that are in use, those that the largest refs lead to first."""
        objects, refs = self._survey.objects, self._survey.stats.refs
        found = []
        for image_id in set(self._survey.marker.images.entries.values()):
            number = objects.find(image_id)
            if number != ABSENT and not objects.marks[number] & Mark.DEAD:
                owner = objects.owners[number]
                found.append((0 if owner == ABSENT else -refs[owner].bytes, image_id))
        yield from (image_id for _, image_id in sorted(found))

    def _look_into(self, image_id: ObjectID) -> None:
        try:
            with self._repository.images.map(image_id.hex()) as data:
                tree = read_image(data, self._repository.algorithm)
        except (CfsError, OSError) as error:
            self.problems.append(f"image {image_id.hex()}: {error}")
            return
        self.read += 1
        self._directories.add(tree)

    def space(self) -> SpaceBlock:
        """Return all the space as one block."""
        objects, marker = self._survey.objects, self._survey.marker
        objects.mark(marker.images.entries.values(), Mark.ENTRY)
        objects.mark(marker.streams.entries.values(), Mark.ENTRY)
        counts, sums = Counter[BlockKind](), Counter[BlockKind]()
        for size, marks in zip(objects.sizes, objects.marks, strict=True):
            if not marks & Mark.MET:
                kind = BlockKind.METADATA if marks & Mark.ENTRY else BlockKind.OTHER
                kind = BlockKind.GARBAGE if marks & Mark.DEAD else kind
                counts[kind] += 1
                sums[kind] += size
        total = self._survey.stats.bytes
        parts = list(self._directories.blocks(total))
        parts += [
            SpaceBlock(kind=kind, path=b"", size_bytes=sums[kind], objects=count)
            for kind, count in counts.items()
        ]
        parts.sort(key=lambda block: (-block.size_bytes, block.path, block.kind.value))
        return SpaceBlock(
            kind=BlockKind.STORE, path=b"", size_bytes=total, objects=len(objects), parts=tuple(parts)
        )

    def largest(self) -> tuple[LargeObject, ...]:
        """Return the largest objects."""
        objects, refs = self._survey.objects, self._survey.stats.refs
        marker = self._survey.marker
        roles = dict.fromkeys(marker.streams.entries.values(), "stream")
        roles |= dict.fromkeys(marker.images.entries.values(), "image")
        return tuple(
            LargeObject(
                object_id=one,
                size_bytes=objects.size_of(one),
                path=self._directories.paths.get(one),
                role="garbage" if objects.has(one, Mark.DEAD) else roles.get(one, ""),
                refs=objects.count_refs(one),
                ref=None if objects.first_ref(one) == ABSENT else refs[objects.first_ref(one)],
            )
            for one in self._survey.largest
        )
