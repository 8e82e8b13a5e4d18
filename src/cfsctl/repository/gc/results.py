"""What a collection may remove, what it did, and why an object stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.digest import qualified
from cfsctl.errors import ExitCode, RepositoryError

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.repository.gc.mount_finder import LiveMount


class TooMuchGarbageError(RepositoryError):
    """A collection would remove more than it was told to expect; nothing was removed."""

    exit_code = ExitCode.POLICY


class DeleteLimit(NamedTuple):
    """The most objects that a collection may remove.

    Attributes:
        number: How many, or how many in a hundred.
        is_percentage: Which of the two.
    """

    number: float
    is_percentage: bool

    def check(self, dead_count: int, live_count: int) -> None:
        """Check that so many objects may go while so many stay.

        Raises:
            TooMuchGarbageError: They are too many.
        """
        total = dead_count + live_count
        most = total * self.number / 100 if self.is_percentage else self.number
        if dead_count > most:
            limit = f"{self.number:g}{'%' if self.is_percentage else ''}"
            raise TooMuchGarbageError(
                f"{dead_count} of {total} objects are garbage, more than {limit}; nothing was removed",
                hint="check with --dry-run what would be removed, then raise --max-delete",
            )


class GcResult(NamedTuple):
    """What a collection did, or would do.

    Attributes:
        is_dry_run: Whether nothing was changed.
        objects_removed: Objects that went.
        bytes_removed: Their sizes.
        images_pruned: Links below ``images`` that went.
        streams_pruned: Links below ``streams`` that went.
        temporaries_removed: Leftovers of processes that were killed.
        problems: What was met that should not be there, one sentence each.
        is_complete: False if something in use could not be read, so that nothing was removed.
        objects_kept: Objects that stay, garbage that is too young among them.
        objects_young: Garbage that is too young to go.
        mounts: Mounts that keep images.
    """

    is_dry_run: bool
    objects_removed: int = 0
    bytes_removed: int = 0
    images_pruned: int = 0
    streams_pruned: int = 0
    temporaries_removed: int = 0
    problems: tuple[str, ...] = ()
    is_complete: bool = True
    objects_kept: int = 0
    objects_young: int = 0
    mounts: tuple[LiveMount, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return the result as it is printed in JSON, in the order of its keys."""
        return {
            "dry_run": self.is_dry_run,
            "complete": self.is_complete,
            "objects_removed": self.objects_removed,
            "bytes_removed": self.bytes_removed,
            "objects_kept": self.objects_kept,
            "objects_young": self.objects_young,
            "images_pruned": self.images_pruned,
            "streams_pruned": self.streams_pruned,
            "temporaries_removed": self.temporaries_removed,
            "mounts": [
                {
                    "mountpoint": mount.where,
                    "images": [qualified(image_id) for image_id in mount.image_ids],
                    "certain": mount.is_certain,
                }
                for mount in self.mounts
            ],
            "problems": list(self.problems),
        }

    def lines(self) -> list[str]:
        """Return the result as the original prints it."""
        lines = ["Dry run (no files deleted):"] if self.is_dry_run else []
        lines.append(f"Objects: {self.objects_removed} removed ({self.bytes_removed} bytes)")
        if self.images_pruned or self.streams_pruned:
            lines.append(f"Pruned symlinks: {self.images_pruned} images, {self.streams_pruned} streams")
        return lines


class Why(NamedTuple):
    """Whether an object stays.

    Attributes:
        object_id: The object.
        steps: What leads to it, from a root to the object; empty if nothing does.
        doubt: Why it stays although nothing is known to lead to it, or empty.
    """

    object_id: ObjectID
    steps: tuple[str, ...]
    doubt: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the next collection leaves it."""
        return bool(self.steps or self.doubt)

    def as_dict(self) -> dict[str, object]:
        """Return the answer as it is printed in JSON, in the order of its keys."""
        return {
            "object": qualified(self.object_id),
            "kept": self.is_kept,
            "chain": list(self.steps),
            "doubt": self.doubt,
        }
