"""Write content objects to an OSTree repository, in any of the writable modes.

Format: see `local_files`; a file of a bare-user repository has the permissions of its mode within 0775 and
0400 on top, so that the owner of the repository can read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import zlib
from typing import TYPE_CHECKING, Final

from cfsctl.errors import DigestMismatchError
from cfsctl.linux.files import AnonymousFile, random_name, write_all
from cfsctl.linux.ioctls import try_clone
from cfsctl.linux.sparse import write_sparse
from cfsctl.ostree.objects import OstreeObjectError, format_file_meta, parse_zlib_file_header
from cfsctl.ostree.sources.local_files import USER_META
from cfsctl.ostree.sources.local_repository import RepositoryMode, make_fan_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects import FileHeader
    from cfsctl.ostree.sources.local_repository import LocalRepository
    from cfsctl.repository.objects.store import ObjectStore

READ_BYTES: Final = 1 << 20
"""Bytes of an object that are copied at a time."""

DEFAULT_LEVEL: Final = 6
"""How hard an archive repository compresses unless its configuration says otherwise."""

_RAW_DEFLATE: Final = -15
_ONLY_BITS: Final = 0o775
"""Permissions that a file of a bare-user-only repository may have."""

_LINK_PREFIX: Final = ".tmp-link-"


class FileExporter:
    """Writes files to one repository, each verified while it is copied."""

    def __init__(self, objects: ObjectStore, target: LocalRepository, temporary: int) -> None:
        """Write nothing yet.

        Args:
            objects: Has the content.
            target: Where files go.
            temporary: Directory of the same file system for files under construction, borrowed.
        """
        self._objects = objects
        self._target = target
        self._temporary = temporary
        self._suffix = target.mode.file_suffix
        self._level = _read_level(target)

    def check(self, checksum: Checksum, data: bytes) -> None:
        """Check that the repository's mode can hold a file.

        Raises:
            OstreeObjectError: It cannot, or this is not a file.
        """
        header = _parse(checksum, data)
        if self._target.mode is not RepositoryMode.BARE_USER_ONLY:
            return
        name = f"file object {checksum.hex()}"
        permissions = stat.S_IMODE(header.mode)
        if not header.is_symlink and permissions & ~_ONLY_BITS:
            raise OstreeObjectError(f"{name}: expected permissions within 0775, found {permissions:#o}")
        if header.uid or header.gid or header.xattrs:
            found = f"owner {header.uid}:{header.gid} and {len(header.xattrs)} extended attributes"
            raise OstreeObjectError(f"{name}: expected owner 0:0 and no extended attributes, found {found}")

    def export(self, checksum: Checksum, data: bytes, object_id: ObjectID | None) -> None:
        """Write a file, unless it exists.

        Args:
            checksum: Its name.
            data: Its header as in an archive repository, and content that is inline.
            object_id: The object that is the content, or None.

        Raises:
            DigestMismatchError: It is not the file that its name says; nothing has that name then.
            OSError: It cannot be written, or not with the owner and attributes that it needs.
        """
        if self._target.contains_object(checksum, self._suffix):
            return
        header = _parse(checksum, data)
        content = data[header.length_bytes :]
        if header.is_symlink:
            _verify(checksum, hashlib.sha256(header.regular_header))
            self._export_link(checksum, header, data)
            return
        with AnonymousFile(self._temporary) as file:
            source = -1 if object_id is None else self._objects.open(object_id)
            try:
                self._fill(file, checksum, header, data, _iter_content(source, content), source)
            finally:
                if source >= 0:
                    os.close(source)
            self._finish(file, checksum, header)

    def _fill(
        self,
        file: AnonymousFile,
        checksum: Checksum,
        header: FileHeader,
        data: bytes,
        content: Iterator[bytes],
        source: int,
    ) -> None:
        """Write the content in the form that the repository has, and verify it."""
        digest = hashlib.sha256(header.regular_header)
        write, finish = self._open_output(file.fd, data[: header.length_bytes], source)
        size = 0
        for chunk in content:
            digest.update(chunk)
            write(chunk)
            size += len(chunk)
        finish()
        if size != header.size_bytes:
            what = f"file object {checksum.hex()}: size in bytes"
            raise DigestMismatchError(what, expected=str(header.size_bytes), actual=str(size))
        _verify(checksum, digest)

    def _open_output(
        self, fd: int, header_data: bytes, source: int
    ) -> tuple[Callable[[bytes], object], Callable[[], object]]:
        """Return what writes a piece of content to a new file, and what writes the end."""
        if self._target.mode is RepositoryMode.ARCHIVE:
            write_all(fd, header_data)
            compressor = zlib.compressobj(self._level, wbits=_RAW_DEFLATE)
            return (
                lambda chunk: write_all(fd, compressor.compress(chunk)),
                lambda: write_all(fd, compressor.flush()),
            )
        if source >= 0 and _share(fd, source):
            return len, int  # It exists completely.
        return lambda chunk: write_sparse(fd, chunk), int

    def _finish(self, file: AnonymousFile, checksum: Checksum, header: FileHeader) -> None:
        """Give a complete file its metadata and its name."""
        match self._target.mode:
            case RepositoryMode.ARCHIVE:
                pass
            case RepositoryMode.BARE_USER:
                os.setxattr(file.fd, USER_META, format_file_meta(header))
                if header.is_symlink:
                    os.fchmod(file.fd, 0o644)
                else:
                    os.fchmod(file.fd, header.mode & 0o775 | 0o400)
            case RepositoryMode.BARE_USER_ONLY:
                os.fchmod(file.fd, stat.S_IMODE(header.mode))
            case _:
                # The owner first: changing it takes setuid away.
                os.fchown(file.fd, header.uid, header.gid)
                for name, value in header.xattrs:
                    os.setxattr(file.fd, name[:-1], value)
                os.fchmod(file.fd, stat.S_IMODE(header.mode))
        if self._target.mode is not RepositoryMode.ARCHIVE:
            os.utime(file.fd, (0, 0))
        with contextlib.suppress(FileExistsError):
            file.link(make_fan_out(self._target, checksum), self._name(checksum))

    def _name(self, checksum: Checksum) -> str:
        return f"{checksum.hex()[2:]}.{self._suffix}"

    def _export_link(self, checksum: Checksum, header: FileHeader, data: bytes) -> None:
        if self._target.mode in (RepositoryMode.ARCHIVE, RepositoryMode.BARE_USER):
            with AnonymousFile(self._temporary) as file:
                archived = self._target.mode is RepositoryMode.ARCHIVE
                write_all(file.fd, data if archived else header.target + b"\0")
                self._finish(file, checksum, header)
            return
        temporary = random_name(_LINK_PREFIX)
        os.symlink(header.target, os.fsencode(temporary), dir_fd=self._temporary)
        try:
            if self._target.mode is RepositoryMode.BARE:
                os.chown(temporary, header.uid, header.gid, dir_fd=self._temporary, follow_symlinks=False)
                path = f"/proc/self/fd/{self._temporary}/{temporary}"
                for name, value in header.xattrs:
                    os.setxattr(path, name[:-1], value, follow_symlinks=False)
            os.utime(temporary, (0, 0), dir_fd=self._temporary, follow_symlinks=False)
            directory = make_fan_out(self._target, checksum)
            os.rename(temporary, self._name(checksum), src_dir_fd=self._temporary, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=self._temporary)
            raise


def _parse(checksum: Checksum, data: bytes) -> FileHeader:
    try:
        return parse_zlib_file_header(data)
    except OstreeObjectError as error:
        raise error.about(f"file object {checksum.hex()}") from error


def _iter_content(source: int, content: bytes) -> Iterator[bytes]:
    """Yield inline content, and what a descriptor has, if there is one."""
    if content:
        yield content
    while source >= 0 and (chunk := os.read(source, READ_BYTES)):
        yield chunk


def _share(fd: int, source: int) -> bool:
    """Make a new file share the blocks of another one; return whether that was possible."""
    try:
        return try_clone(fd, source)
    except OSError:  # what is wrong, the copy will tell
        return False


def _verify(checksum: Checksum, digest: hashlib._Hash) -> None:
    if digest.digest() != checksum:
        what = f"file object {checksum.hex()}"
        raise DigestMismatchError(what, expected=checksum.hex(), actual=digest.hexdigest())


def _read_level(target: LocalRepository) -> int:
    text = target.config.get("archive", {}).get("zlib-level", "")
    return int(text) if text in {"1", "2", "3", "4", "5", "6", "7", "8", "9"} else DEFAULT_LEVEL
