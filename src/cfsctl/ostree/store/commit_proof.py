"""Verify a stored commit: every file must match its checksum, and the image must match the commit.

The ID of an object proves its content, and the checksum of a dirtree proves which files it contains. But only
the table in the commit's stream says which content belongs to which file, together with the file's header
(mode and owner). The table may be forged; so may a partial commit, a journal, and the image reference in the
stream. A
table is trusted if this program made it from verified data, or if it was verified here: header and content of
each file are hashed, and the image is compared with the commit.

Streams and objects are named by digests, so the result never changes. It is recorded as a mark
(`cfsctl.repository.objects.verified`) and costs nothing the next time.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, IntegrityError, describe
from cfsctl.ostree.objects import OstreeObjectError, parse_stored_file_header
from cfsctl.ostree.tree.image_proof import is_image_of
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.objects.reader import VERIFY_ID
from cfsctl.repository.objects.verified import CachedCheck

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.objects.store import ObjectStore

    FileEntry = tuple[Checksum, bytes, ObjectID]

_READ_BYTES: Final = 1 << 20
_BATCH: Final = 64
"""Files that a process reads at a time."""

_WORTH_WORKERS: Final = 256
"""Files from which on several processes read them."""

_WORTH_WORKERS_BYTES: Final = 64 << 20
"""Bytes from which on they do."""


class UntrueCommitError(IntegrityError):
    """What is stored under the name of a commit, or next to it, is not that commit."""


# --- what was proven ----------------------------------------------------------------------------


def proof_of(repository: Repository, checksum: Checksum, stream_id: ObjectID) -> CachedCheck:
    """Return whether it is remembered that a stream is true: its table, and the images that it names.

    It counts only where the stream's object is sound.

    Args:
        repository: Where the stream is.
        checksum: The commit.
        stream_id: The splitstream object.
    """
    what = b"table and images of the commit" + checksum + stream_id
    return CachedCheck(repository.verified, what, repository.objects.stat(stream_id))


def remember_proof(repository: Repository, checksum: Checksum, stream_id: ObjectID) -> None:
    """Record that a stream is true; `Repository.save_marks` saves it. See `proof_of`."""
    proof_of(repository, checksum, stream_id).remember_of_id()


def is_proven(repository: Repository, stream: CommitStream) -> bool:
    """Return whether a stored stream is known to be true, without reading what it names."""
    if stream.object_id is None or not proof_of(repository, stream.checksum, stream.object_id).is_known:
        return False
    return repository.objects.is_sound(stream.object_id)


# --- proving ------------------------------------------------------------------------------------


def prove(repository: Repository, stream: CommitStream, reporter: Reporter = silent) -> None:
    """Prove a stored commit that is not known to be true, and remember it.

    Of a partial commit the image is not checked.

    Raises:
        UntrueCommitError: A file is not what its checksum says, or the image is not the commit's, or
            something is missing, of which nothing can be said.
        FormatError, IntegrityError: Something cannot be read.
    """
    if is_proven(repository, stream):
        return
    missing = repository.objects.find_missing({*stream.object_refs, *stream.images})
    problems = (f"object {object_id.hex()} is missing" for object_id in missing)
    for problem in itertools.chain(problems, iter_falsehoods(repository.objects, stream, reporter)):
        raise untrue(stream, problem)
    if stream.object_id is not None:
        remember_proof(repository, stream.checksum, stream.object_id)


def untrue(stream: CommitStream, problem: str) -> UntrueCommitError:
    """Return the error for a commit of which something is not true."""
    return UntrueCommitError(
        f"commit {stream.checksum.hex()} is stored incorrectly: {problem}",
        hint="pull it again from its origin to replace it",
    )


def check_stored(repository: Repository, stream: CommitStream, reporter: Reporter = silent) -> None:
    """Check that a stored commit is complete and undamaged, and matches its checksum.

    Raises:
        UntrueCommitError: Something is missing, damaged, or another file; see `prove`.
        FormatError, IntegrityError: Something cannot be read.
    """
    refs = {*stream.object_refs, *stream.images}
    found = repository.objects.find_all_damage(refs, reporter)
    for object_id, damage in found.items():
        what = damage if isinstance(damage, str) else damage.value
        raise UntrueCommitError(
            f"commit {stream.checksum.hex()}: object {object_id.hex()}: {what}",
            hint="pull it again to restore it",
        )
    prove(repository, stream, reporter)


def iter_falsehoods(objects: ObjectStore, stream: CommitStream, reporter: Reporter = silent) -> Iterator[str]:
    """Yield what is not true in a stream, its images included; see `iter_false_contents`."""
    problems = list(iter_false_contents(objects, stream, reporter))
    yield from problems
    if problems or stream.is_partial:
        return
    for image in sorted(stream.images):
        if objects.contains(image) and not is_image_of(objects, stream, image):
            yield f"its image {image.hex()} is not that of its tree"


def iter_false_contents(
    objects: ObjectStore,
    stream: CommitStream,
    reporter: Reporter = silent,
    *,
    known: CommitStream | None = None,
) -> Iterator[str]:
    """Yield what is not true in the table of a stream, everything read and nothing remembered.

    Args:
        objects: Where large contents are.
        stream: The commit, or a part of it.
        reporter: Told how many files have been read, if that is many.
        known: Another commit, which has been proven: what has the same content there is not read again.
    """
    try:
        if not stream.is_partial:
            commit_to_filesystem(stream)  # verifies metadata and inline content, and that nothing is missing
    except CfsError as error:
        yield str(error)
        return
    files = []
    for checksum in stream:
        found = stream.find(checksum)
        assert found is not None
        data, object_id = found
        if object_id is not None:
            if (known is None or known.find(checksum) != found) and objects.contains(object_id):
                files.append((checksum, data, object_id))
        elif not _is_true_inline(checksum, data):
            yield f"object {checksum.hex()}: its data have another checksum"
    yield from find_false_files(objects, files, reporter).values()


def find_false_files(
    objects: ObjectStore, files: Collection[FileEntry], reporter: Reporter = silent
) -> dict[Checksum, str]:
    """Return what is wrong with files whose header and content are not what the checksum says.

    Args:
        objects: Has the contents.
        files: Checksum, header and the object that is the content.
        reporter: Told how many have been read, if that is many; what it raises ends it.
    """
    size_bytes = sum(int.from_bytes(data[8:16], "big") for _, data, _ in files)
    if len(files) < _WORTH_WORKERS and size_bytes < _WORTH_WORKERS_BYTES:
        return dict(_look_at(objects, files))
    from cfsctl.workers import WorkerPool  # few commands read so many

    def look(batch: Collection[FileEntry]) -> tuple[int, list[tuple[Checksum, str]]]:
        return len(batch), list(_look_at(objects, batch))

    false: dict[Checksum, str] = {}
    done = 0
    reporter(Started(VERIFY_ID, len(files), Unit.ITEMS))
    ordered = list(files)
    batches = (ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH))
    with WorkerPool(lambda: look) as pool:
        for count, found in pool.map_unordered(batches):
            false.update(found)
            done += count
            reporter(Advanced(VERIFY_ID, done, len(files)))
    reporter(Done(VERIFY_ID, done))
    return false


def _look_at(objects: ObjectStore, files: Iterable[FileEntry]) -> Iterator[tuple[Checksum, str]]:
    for checksum, data, object_id in files:
        if problem := check_file(objects, checksum, data, object_id):
            yield checksum, problem


def check_file(objects: ObjectStore, checksum: Checksum, data: bytes, object_id: ObjectID) -> str:
    """Return what is wrong with a file whose content is an object, or nothing."""
    name = f"file object {checksum.hex()}"
    try:
        header = parse_stored_file_header(data, lambda: None)
        digest = hashlib.sha256(header.regular_header)
        fd = objects.open(object_id)
        try:
            while chunk := os.read(fd, _READ_BYTES):
                digest.update(chunk)
        finally:
            os.close(fd)
    except OstreeObjectError as error:
        return str(error.about(name))
    except (CfsError, OSError) as error:
        return f"{name}: {describe(error)}"
    if digest.digest() == checksum and header.length_bytes == len(data):
        return ""
    return f"{name}: its header and content have the checksum {digest.hexdigest()}"


def _is_true_inline(checksum: Checksum, data: bytes) -> bool:
    """Return whether metadata, or a file with its content, have this checksum."""
    if hashlib.sha256(data).digest() == checksum:
        return True
    try:
        header = parse_stored_file_header(data, lambda: None)
    except OstreeObjectError:
        return False
    return hashlib.sha256(header.regular_header + data[header.length_bytes :]).digest() == checksum
