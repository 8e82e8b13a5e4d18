"""libostree's own composefs digest of a commit: ``ostree.composefs.digest.v0`` in its metadata.

A libostree with composefs makes an image of each commit for itself and can record the image's fs-verity
digest, SHA-256, in the commit. That image differs from ours:

* every file of a size above zero lies at ``xx/rest.file``, its path in a bare repository, regardless of
  its size;
* every name of a file is an inode of its own;
* root has the directories usr, etc, boot, var and sysroot, mode 0755, whether the commit has them or not;
* times are zero; the format is 0 as the C library writes it, with SHA-256.

Format: the value is ``ay``, 32 bytes.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import ExitCode, IntegrityError
from cfsctl.fsverity.merkle import compute_digest, compute_file_digest
from cfsctl.ostree.objects import ObjectKind, parse_dirtree
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import Directory, ExternalFile, InlineFile, Symlink

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Commit
    from cfsctl.ostree.tree.to_tree import CommitObjects
    from cfsctl.repository.objects.store import ObjectStore
    from cfsctl.tree.model import FileSystem, Leaf

DIGEST_KEY: Final = "ostree.composefs.digest.v0"

_ROOT_DIRECTORIES: Final = (b"usr", b"etc", b"boot", b"var", b"sysroot")


class ComposefsDigestError(IntegrityError):
    """A commit whose composefs digest is missing, or not that of its tree."""

    exit_code = ExitCode.POLICY


class Verdict(Enum):
    """What became of a comparison; the value is a word for people."""

    MATCHES = "matches"
    DIFFERS = "differs"
    INVALID = "invalid"


class DigestCheck(NamedTuple):
    """A commit's composefs digest, and that of its tree.

    Attributes:
        verdict: Whether they are the same.
        recorded: What the commit says, in hex or, if it is not a digest, its type.
        computed: What the tree gives, in hex; empty where nothing was computed.
    """

    verdict: Verdict
    recorded: str
    computed: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the same for JSON."""
        return {"verdict": self.verdict.value, "recorded": self.recorded, "computed": self.computed}

    def describe(self) -> str:
        """Return one line for people."""
        match self.verdict:
            case Verdict.MATCHES:
                return f"{self.recorded} matches"
            case Verdict.DIFFERS:
                return f"{self.recorded} differs, the tree gives {self.computed}"
            case _:
                return f"invalid, expected 32 bytes of type ay, found {self.recorded}"


def check_composefs_digest(commit: CommitObjects, objects: ObjectStore) -> DigestCheck | None:
    """Compare a commit's composefs digest with that of its tree; None if the commit has none.

    All content is read where the repository's hash is another one.

    Raises:
        FormatError: The tree is not valid.
        IntegrityError: Something of it is missing or damaged.
    """
    recorded = find_recorded(commit.commit)
    if recorded is None:
        return None
    if isinstance(recorded, str):
        return DigestCheck(Verdict.INVALID, recorded)
    computed = compute_composefs_digest(commit, objects)
    verdict = Verdict.MATCHES if computed == recorded else Verdict.DIFFERS
    return DigestCheck(verdict, recorded.hex(), computed.hex())


def require_composefs_digest(commit: CommitObjects, objects: ObjectStore) -> None:
    """Check that a commit has a composefs digest, and the right one.

    Raises:
        ComposefsDigestError: It has not.
        FormatError, IntegrityError: See `check_composefs_digest`.
    """
    found = check_composefs_digest(commit, objects)
    name = f"commit {commit.checksum.hex()}: {DIGEST_KEY}"
    if found is None:
        raise ComposefsDigestError(f"{name}: expected one, found none")
    if found.verdict is Verdict.INVALID:
        raise ComposefsDigestError(f"{name}: {found.describe()}")
    if found.verdict is Verdict.DIFFERS:
        raise ComposefsDigestError(
            f"{name}: expected {found.computed}, as the tree gives, found {found.recorded}"
        )


def require_recorded(checksum: Checksum, commit: Commit) -> None:
    """Check that a commit records a composefs digest, whether or not it is right.

    Raises:
        ComposefsDigestError: It does not.
    """
    found = find_recorded(commit)
    if not isinstance(found, bytes):
        shown = "none" if found is None else found
        raise ComposefsDigestError(f"commit {checksum.hex()}: {DIGEST_KEY}: expected one, found {shown}")


def find_recorded(commit: Commit) -> bytes | str | None:
    """Return the digest that a commit records, the type of an invalid value, or None."""
    for key, variant in commit.metadata:
        if key == DIGEST_KEY:
            value = variant.value
            if variant.type != "ay" or not isinstance(value, bytes):
                return variant.type
            return value if len(value) == Algorithm.SHA256.digest_size else f"{len(value)} bytes"
    return None


def compute_composefs_digest(commit: CommitObjects, objects: ObjectStore) -> ObjectID:
    """Return the digest of the image that libostree makes of a commit.

    Raises:
        FormatError, IntegrityError: See `check_composefs_digest`.
    """
    from cfsctl.erofs.write.image import build_image  # most commits record no digest

    filesystem = make_libostree_tree(commit, objects)
    image = build_image(filesystem, FormatVersion.V0, Dialect.C)
    return compute_digest(image, Algorithm.SHA256)


def make_libostree_tree(commit: CommitObjects, objects: ObjectStore) -> FileSystem:
    """Return the tree that libostree makes an image of."""
    with python_gc_paused():
        filesystem = commit_to_filesystem(commit)
        _redirect_files(filesystem.root, commit, _Digests(objects))
    for name in _ROOT_DIRECTORIES:
        if name not in filesystem.root.entries:
            filesystem.root.entries[name] = Directory(0o755)
    return filesystem


def _redirect_files(root: Directory, commit: CommitObjects, digests: _Digests) -> None:
    """Replace every name of a regular file by a separate node with its path in a bare repository."""
    pending = [(root, commit.commit.root_dirtree)]
    while pending:
        directory, dirtree = pending.pop()
        tree = parse_dirtree(commit.get_metadata(dirtree, ObjectKind.DIRTREE))
        entries = directory.entries
        for name, file in tree.files:
            leaf = entries[name]
            assert not isinstance(leaf, Directory)
            entries[name] = _copy_leaf(leaf, file, digests)
        for name, child, _ in tree.dirs:
            below = entries[name]
            assert isinstance(below, Directory)
            pending.append((below, child))


def _copy_leaf(leaf: Leaf, file: Checksum, digests: _Digests) -> Leaf:
    attributes = (leaf.mode, leaf.uid, leaf.gid, 0, 0, leaf.xattrs)
    match leaf:
        case InlineFile(data=b""):
            return InlineFile(b"", *attributes)
        case InlineFile():
            return RedirectedFile(
                _bare_path(file), len(leaf.data), compute_digest(leaf.data, Algorithm.SHA256), *attributes
            )
        case ExternalFile():
            digest = digests.find(leaf.object_id)
            return RedirectedFile(_bare_path(file), leaf.size, digest, *attributes)
        case Symlink():
            return Symlink(leaf.target, *attributes)
        case _:
            raise AssertionError("a commit has files and links only")


def _bare_path(file: Checksum) -> bytes:
    text = file.hex()
    return f"{text[:2]}/{text[2:]}.file".encode()


class _Digests:
    """The SHA-256 fs-verity digests of objects, each computed once."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: dict[ObjectID, ObjectID] = {}

    def find(self, object_id: ObjectID) -> ObjectID:
        if self._objects.algorithm is Algorithm.SHA256:
            return object_id
        known = self._known.get(object_id)
        if known is None:
            fd = self._objects.open(object_id)
            try:
                known, _ = compute_file_digest(fd, Algorithm.SHA256)
            finally:
                os.close(fd)
            self._known[object_id] = known
        return known
