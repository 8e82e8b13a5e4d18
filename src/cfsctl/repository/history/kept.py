"""The history of a ref: what it named before, each kept by a ref of its own.

    streams/refs/cfsctl-history/<directory>/<escaped>/<time>    -> ../../../../../<stream>

``<directory>`` is the one below ``streams/refs`` that the tag is in (``ostree``, ``oci``), or ``images`` for
a ref of an image; ``<escaped>`` is the name of the tag or ref as one component; ``<time>`` is when the ref
was set to this target, in UTC with microseconds, so that the order of names is the order of times.

These are refs like any other: a collection by any program keeps what they lead to, and no list of tags or
images shows them, for those look elsewhere. Only streams can be named here. So an image that is kept gets a
stream ``cfsctl-image-<ID>`` of no content, which lists the objects of the image and names the image itself;
the original would otherwise keep the image without its objects.
"""

from __future__ import annotations

import os
import re
import stat
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import find_object_name
from cfsctl.errors import CfsError, IntegrityError
from cfsctl.repository.names.images import IMAGES
from cfsctl.repository.names.names import MAX_COMPONENT_BYTES, InvalidNameError
from cfsctl.repository.names.tags import escape_tag, unescape_tag

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.repository.repository import Repository

HISTORY: Final = "cfsctl-history"
"""The directory below ``streams/refs``."""

IMAGE_STREAM: Final = "cfsctl-image-"
"""What stands before the ID in the name of the stream that keeps an image."""

KEPT_IMAGE: Final = int.from_bytes(b"cfsimage", "little")
"""The content type of such a stream."""

_IMAGE_REF: Final = "composefs.image"
_STAMP: Final = r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)\.(\d{6})Z"
_LAST_US: Final = 253_402_300_799 * 1_000_000
"""The last second of the year 9999."""


class HistoryKey(NamedTuple):
    """A ref that has a history.

    Attributes:
        directory: ``images``, or the directory of its tags below ``streams/refs``.
        name: Its name, not escaped.
    """

    directory: str
    name: str

    @property
    def path(self) -> str:
        """The directory of its history below ``streams/refs``.

        Raises:
            InvalidNameError: The name is too long for one component.
        """
        escaped = escape_tag(self.name)
        size = len(os.fsencode(escaped))
        if size > MAX_COMPONENT_BYTES:
            raise InvalidNameError(
                f"{self.name[:40]}...: no history can be kept of a name of {size} bytes with its escapes,"
                f" at most {MAX_COMPONENT_BYTES} are possible"
            )
        return f"{HISTORY}/{self.directory}/{escaped}"


class Kept(NamedTuple):
    """An earlier target of a ref.

    Attributes:
        set_us: When the ref was set to it, in microseconds since 1970.
        entry: The stream that is named: the target's, or that of a kept image.
    """

    set_us: int
    entry: str

    @property
    def target(self) -> str:
        """The entry that the ref named: of an image its ID, of a tag a content identifier."""
        return self.entry.removeprefix(IMAGE_STREAM)


def format_stamp(set_us: int) -> str:
    """Return the name of an earlier target."""
    seconds, micros = divmod(min(max(set_us, 0), _LAST_US), 1_000_000)
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}.{micros:06}Z"


def parse_stamp(text: str) -> int | None:
    """Return the microseconds since 1970 in the name of an earlier target, or None for any other name."""
    match = re.fullmatch(_STAMP, text)
    if match is None or not text.isascii():
        return None
    year, month, day, hour, minute, second, micros = map(int, match.groups())
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    import calendar  # most commands set refs and list no history

    return calendar.timegm((max(year, 1), month, day, hour, minute, second)) * 1_000_000 + micros


def list_kept(repository: Repository, key: HistoryKey) -> list[Kept]:
    """Return the earlier targets of a ref, the latest first; links of other names are left alone."""
    refs = repository.streams.list_refs(key.path)
    found = [
        Kept(set_us, ref.entry)
        for ref in refs
        if (set_us := parse_stamp(ref.name)) is not None and ref.entry is not None
    ]
    return sorted(found, reverse=True)


def list_all_kept(repository: Repository) -> dict[HistoryKey, list[Kept]]:
    """Return the earlier targets of all refs, the latest first."""
    found: dict[HistoryKey, list[Kept]] = {}
    for ref in repository.streams.list_refs(HISTORY):
        parts = ref.name.split("/")
        set_us = parse_stamp(parts[-1])
        if len(parts) == 3 and set_us is not None and ref.entry is not None:
            key = HistoryKey(parts[0], unescape_tag(parts[1]))
            found.setdefault(key, []).append(Kept(set_us, ref.entry))
    return {key: sorted(found[key], reverse=True) for key in sorted(found)}


def add_kept(repository: Repository, key: HistoryKey, target: str, set_us: int) -> None:
    """Keep a target of a ref; it is durable then.

    The caller holds the lock of histories. A target that was kept before is kept once, with the later time.

    Args:
        repository: Where.
        key: The ref.
        target: The entry that it names, which exists.
        set_us: When it was set to that; made later than what is kept, whatever clocks have said.
    """
    kept = list_kept(repository, key)
    if kept and kept[0].target == target and kept[0].set_us >= set_us:
        return  # by a run that was killed before it moved the ref
    if kept:
        set_us = max(set_us, kept[0].set_us + 1)
    entry = _keep_image(repository, target) if key.directory == IMAGES else target
    repository.streams.links.set_ref(f"{key.path}/{format_stamp(set_us)}", entry)
    drop_kept(repository, key, [one for one in kept if one.target == target])


def drop_kept(repository: Repository, key: HistoryKey, kept: list[Kept]) -> None:
    """Forget earlier targets of a ref; what they are stays until it is collected."""
    for one in kept:
        repository.streams.links.remove_ref(f"{key.path}/{format_stamp(one.set_us)}")


def move_kept(repository: Repository, key: HistoryKey, new: HistoryKey) -> None:
    """Make the history of a ref that of another name, as far as that has none of its own."""
    for one in reversed(list_kept(repository, key)):
        repository.streams.links.set_ref(f"{new.path}/{format_stamp(one.set_us)}", one.entry)
    drop_kept(repository, key, list_kept(repository, key))


def _keep_image(repository: Repository, image: str) -> str:
    """Return the stream that keeps an image, which is stored if it is missing.

    Raises:
        IntegrityError: The image cannot be read, so that it is not known what is to be kept.
    """
    from cfsctl.repository.publish import NewStream, publish  # most images are kept already
    from cfsctl.splitstream import SplitstreamWriter  # brings the compressor along

    name = f"{IMAGE_STREAM}{image}"
    if repository.streams.find(name) is not None:
        return name
    image_id = find_object_name(image, repository.algorithm)
    if image_id is None:
        raise IntegrityError(f"images/{image}: expected the ID of an image")
    with SplitstreamWriter(repository.objects, repository.algorithm, KEPT_IMAGE) as writer:
        for object_id in sorted(_objects_of(repository, image_id)):
            writer.add_object_ref(object_id)
        writer.add_named_ref(_IMAGE_REF, image_id)
        stream_id = writer.finish()
    publish(repository, streams=[NewStream(name, stream_id)])
    return name


def _objects_of(repository: Repository, image_id: ObjectID) -> set[ObjectID]:
    try:
        from cfsctl.repository.gc.image_objects import read_image  # most images are kept already

        return read_image(repository.objects, image_id)
    except CfsError as error:
        raise IntegrityError(f"image {image_id.hex()} cannot be kept: {error}") from error


def time_of_ref(repository: Repository, directory: str, ref: str) -> int:
    """Return when a ref was last set, in microseconds since 1970; 0 if there is no such ref."""
    links = repository.images.links if directory == IMAGES else repository.streams.links
    status = links.stat_ref(ref)
    return 0 if status is None or not stat.S_ISLNK(status.st_mode) else status.st_mtime_ns // 1000
