"""What a scan needs of the place where large files go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import ObjectID


class StoredObject(Protocol):
    """What a store says about an object it has taken."""

    @property
    def object_id(self) -> ObjectID: ...  # noqa: D102 - named after what it is
    @property
    def is_new(self) -> bool: ...  # noqa: D102 - the same


class ObjectWriter(Protocol):
    """Takes the bytes of one object; dropped unless committed."""

    def write(self, data: memoryview, /) -> object: ...  # noqa: D102 - the verbs of a store
    def write_hole(self, size: int, /) -> object: ...  # noqa: D102
    def commit(self) -> StoredObject: ...  # noqa: D102
    def __enter__(self) -> Self: ...  # noqa: D105
    def __exit__(  # noqa: D105
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class ObjectSink(Protocol):
    """A store of objects; used in forked workers."""

    def ensure_bytes(self, data: bytes | memoryview, object_id: ObjectID | None = None, /) -> StoredObject:
        """Store content from memory, unless it is already stored; its ID is given if it is known."""

    def is_sound(self, object_id: ObjectID, size: int | None = None, /) -> bool:
        """Return whether an object of this size is stored and verified."""

    def create(self) -> ObjectWriter:
        """Start a new object."""
