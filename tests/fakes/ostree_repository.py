"""An OSTree repository in memory: makes objects and commits, hands them out, counts what was asked for."""

from __future__ import annotations

import hashlib
import stat
import zlib
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from cfsctl.digest import Checksum
from cfsctl.ostree.objects import (
    Commit,
    Dirmeta,
    ObjectKind,
    Xattrs,
    format_commit,
    format_dirmeta,
    format_dirtree,
    format_regular_header,
    format_zlib_header,
    loose_path,
)
from cfsctl.ostree.source import SourceObjectMissingError, check_ref_name, ref_not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import TypeVar

    from cfsctl.gvariant import Variant
    from cfsctl.ostree.source import FileSink

    T = TypeVar("T")

Tree: TypeAlias = "Mapping[str, Tree | bytes | str]"
"""Directories are mappings, files are bytes, symbolic links are text."""

DIRECTORY = Dirmeta(0, 0, stat.S_IFDIR | 0o755, ())


def checksum_of(data: bytes) -> Checksum:
    return Checksum(hashlib.sha256(data).digest())


def deflate(content: bytes, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, wbits=-15)
    return compressor.compress(content) + compressor.flush()


class FakeOstreeRepository:
    """Implements `cfsctl.ostree.source.Source`.

    Attributes:
        objects: What is there; change it to lie.
        refs: What each ref stands for.
        asked: How often each object was asked for, in this process.
        detached: Detached metadata of commits.
        chunk_size: Content is handed out in pieces of this size; None is in one piece.
    """

    description = "a repository in memory"

    def __init__(self) -> None:
        self.objects: dict[tuple[Checksum, ObjectKind], bytes] = {}
        self.refs: dict[str, Checksum] = {}
        self.asked: Counter[tuple[Checksum, ObjectKind]] = Counter()
        self.chunk_size: int | None = None
        self.detached: dict[Checksum, bytes] = {}

    # Making objects

    def add_metadata(self, kind: ObjectKind, data: bytes) -> Checksum:
        checksum = checksum_of(data)
        self.objects[checksum, kind] = data
        return checksum

    def add_file(
        self, content: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0, xattrs: Xattrs = ()
    ) -> Checksum:
        mode |= stat.S_IFREG
        header = format_regular_header(uid, gid, mode, b"", xattrs)
        checksum = checksum_of(header + content)
        stored = format_zlib_header(len(content), uid, gid, mode, b"", xattrs) + deflate(content)
        self.objects[checksum, ObjectKind.FILE] = stored
        return checksum

    def add_symlink(self, target: str) -> Checksum:
        mode = stat.S_IFLNK | 0o777
        checksum = checksum_of(format_regular_header(0, 0, mode, target.encode()))
        self.objects[checksum, ObjectKind.FILE] = format_zlib_header(0, 0, 0, mode, target.encode())
        return checksum

    def add_tree(self, tree: Tree, meta: Dirmeta = DIRECTORY) -> tuple[Checksum, Checksum]:
        """Return the checksums of dirtree and dirmeta."""
        files: list[tuple[bytes, Checksum]] = []
        dirs: list[tuple[bytes, Checksum, Checksum]] = []
        for name, node in tree.items():
            if isinstance(node, bytes):
                files.append((name.encode(), self.add_file(node)))
            elif isinstance(node, str):
                files.append((name.encode(), self.add_symlink(node)))
            else:
                dirs.append((name.encode(), *self.add_tree(node, meta)))
        dirtree = self.add_metadata(ObjectKind.DIRTREE, format_dirtree(files, dirs))
        return dirtree, self.add_metadata(ObjectKind.DIRMETA, format_dirmeta(meta))

    def commit(
        self,
        tree: Tree | tuple[Checksum, Checksum],
        ref: str | None = None,
        *,
        parent: Checksum | None = None,
        metadata: tuple[tuple[str, Variant], ...] = (),
        timestamp_s: int = 1_600_000_000,
    ) -> Checksum:
        root = tree if isinstance(tree, tuple) else self.add_tree(tree)
        commit = Commit(metadata, parent, "subject", "", timestamp_s, *root)
        checksum = self.add_metadata(ObjectKind.COMMIT, format_commit(commit))
        if ref is not None:
            self.refs[ref] = checksum
        return checksum

    def write(self, path: Path) -> None:
        """Write everything as an archive repository in a directory."""
        for name in ("objects", "refs/heads", "refs/remotes", "state", "tmp"):
            (path / name).mkdir(parents=True, exist_ok=True)
        (path / "config").write_text("[core]\nrepo_version=1\nmode=archive-z2\n")
        for (checksum, kind), data in self.objects.items():
            file = path / loose_path(checksum, kind)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(data)
        for ref, checksum in self.refs.items():
            file = path / "refs" / "heads" / ref
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(checksum.hex() + "\n")

    # Being a source

    def resolve_ref(self, name: str) -> Checksum:
        check_ref_name(name)
        if name not in self.refs:
            raise ref_not_found(name, self.description)
        return self.refs[name]

    def fetch_metadata(
        self,
        request: Callable[[], tuple[Checksum, ObjectKind] | None],
        deliver: Callable[[Checksum, ObjectKind, bytes], None],
    ) -> None:
        while (wanted := request()) is not None:
            deliver(*wanted, self._get(*wanted))

    def fetch_files(
        self, checksums: Iterable[Checksum], make_sink: Callable[[Checksum], FileSink[T]]
    ) -> Iterator[T]:
        for checksum in checksums:
            data = self._get(checksum, ObjectKind.FILE)
            sink = make_sink(checksum)
            step = self.chunk_size or max(1, len(data))
            try:
                for start in range(0, len(data), step):
                    sink.write(data[start : start + step])
            except BaseException:
                sink.abort()
                raise
            yield sink.finish()

    def _get(self, checksum: Checksum, kind: ObjectKind) -> bytes:
        self.asked[checksum, kind] += 1
        if (checksum, kind) not in self.objects:
            raise SourceObjectMissingError(checksum, kind, self.description)
        return self.objects[checksum, kind]

    def list_ref_names(self) -> list[str]:
        return list(self.refs)

    def find_detached(self, commit: Checksum) -> bytes | None:
        return self.detached.get(commit)

    def explain_missing(self, commit: Checksum) -> None:
        """Know nothing."""

    def close(self) -> None:
        """Nothing is open."""
