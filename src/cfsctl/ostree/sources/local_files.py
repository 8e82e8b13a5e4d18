"""Content objects of a repository in a directory, regardless of its mode.

              content            target of a link        owner, mode               attributes
    archive   one file with a header, compressed
    bare      the file           the link's              the file's                the file's
    bare-user the file           the file, and a NUL     user.ostreemeta           user.ostreemeta
    -only     the file           the link's              mode only                 none
    -split-x. the file           the link's              the file's                rest.file-xattrs-link

Formats: ``user.ostreemeta`` is (uuua(ayay)) big-endian like a dirmeta, but with the mode of a file;
``.file-xattrs-link`` is a(ayay).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from cfsctl.linux.xattrs import list_names, read_value
from cfsctl.ostree.objects import (
    MAX_FILE_HEADER_SIZE,
    MAX_TARGET_SIZE,
    OstreeObjectError,
    format_zlib_header,
    parse_xattrs,
)
from cfsctl.ostree.sources.local_repository import RepositoryMode

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Xattrs
    from cfsctl.ostree.source import ContentSink
    from cfsctl.ostree.sources.local_repository import LocalRepository

T = TypeVar("T")

USER_META: Final = "user.ostreemeta"
"""Attribute of a file in a bare-user repository."""

READ_BYTES: Final = 1 << 17
"""Bytes of an object read at a time; most objects come in one piece."""

_OWNERSHIP: Final = struct.Struct(">III")


class _Attributes(NamedTuple):
    uid: int
    gid: int
    mode: int
    xattrs: Xattrs


def send_file(repository: LocalRepository, checksum: Checksum, sink: ContentSink[T]) -> None:
    """Pass a content object to a sink, up to but without `finish`; the sink is aborted on an error.

    Raises:
        FileNotFoundError: There is no such object.
        OstreeObjectError: Its owner, mode or attributes are invalid.
        OSError: It is neither file nor link, or cannot be read.
    """
    try:
        if repository.mode is RepositoryMode.ARCHIVE:
            fd, status = repository.open_object(checksum, repository.mode.file_suffix)
            _send_content(fd, status.st_size, sink)
        else:
            _send_bare(repository, checksum, sink)
    except OstreeObjectError as error:
        sink.abort()
        name = f"file object {checksum.hex()}"
        raise (error if str(error).startswith(name) else error.about(name)) from error
    except BaseException:
        sink.abort()
        raise


def _send_content(fd: int, size_bytes: int, sink: ContentSink[T]) -> None:
    """Pass the content of an open file on, and close it; one piece if it is small."""
    try:
        chunk = os.read(fd, min(size_bytes, READ_BYTES))
        sink.write(chunk)
        if len(chunk) == size_bytes:
            return
        while chunk := os.read(fd, READ_BYTES):
            sink.write(chunk)
    finally:
        os.close(fd)


def _send_bare(repository: LocalRepository, checksum: Checksum, sink: ContentSink[T]) -> None:
    try:
        fd, status = repository.open_object(checksum, "file")
    except OSError as error:
        if error.errno != errno.ELOOP or repository.mode is RepositoryMode.BARE_USER:
            raise
        sink.begin_plain(_read_link(repository, checksum))
        sink.write(b"")
        return
    try:
        attributes = _read_attributes(repository, checksum, fd, status)
        if stat.S_ISLNK(attributes.mode):
            sink.begin_plain(_format_header(attributes, 0, _read_stored_target(fd)))
            sink.write(b"")
            return
        sink.begin_plain(_format_header(attributes, status.st_size))
        if sink.share(fd, status.st_size):
            os.close(fd)
            return
    except BaseException:
        os.close(fd)
        raise
    _send_content(fd, status.st_size, sink)


def _format_header(attributes: _Attributes, size_bytes: int, target: bytes = b"") -> bytes:
    uid, gid, mode, xattrs = attributes
    return format_zlib_header(size_bytes, uid, gid, mode, target, xattrs)


def _read_attributes(
    repository: LocalRepository, checksum: Checksum, fd: int, status: os.stat_result
) -> _Attributes:
    """Return owner, mode and attributes of an open regular file, or of the link that it stands for."""
    match repository.mode:
        case RepositoryMode.BARE_USER:
            return _read_user_meta(fd)
        case RepositoryMode.BARE_USER_ONLY:
            return _Attributes(0, 0, status.st_mode, ())
        case RepositoryMode.BARE_SPLIT_XATTRS:
            return _Attributes(
                status.st_uid, status.st_gid, status.st_mode, _read_split(repository, checksum)
            )
        case _:
            return _Attributes(status.st_uid, status.st_gid, status.st_mode, read_xattrs(fd))


def _read_user_meta(fd: int) -> _Attributes:
    try:
        data = os.getxattr(fd, USER_META)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        raise OstreeObjectError(f"attribute {USER_META}: expected one, found none", field=USER_META) from None
    if len(data) < _OWNERSHIP.size:
        raise OstreeObjectError(
            f"attribute {USER_META}: expected at least {_OWNERSHIP.size} bytes, found {len(data)}",
            field=USER_META,
        )
    uid, gid, mode = _OWNERSHIP.unpack_from(data)
    return _Attributes(uid, gid, mode, parse_xattrs(data[_OWNERSHIP.size :]))


def _read_stored_target(fd: int) -> bytes:
    """Return the target of a link that is a regular file, without the NUL that ends it."""
    return os.read(fd, MAX_TARGET_SIZE + 2).removesuffix(b"\0")


def _read_split(repository: LocalRepository, checksum: Checksum) -> Xattrs:
    try:
        return parse_xattrs(repository.read_object(checksum, "file-xattrs-link", MAX_FILE_HEADER_SIZE))
    except FileNotFoundError as error:
        raise OstreeObjectError(
            f"attributes: expected {repository.object_path(checksum, 'file-xattrs-link')}, found none",
            field="xattrs",
        ) from error


def _read_link(repository: LocalRepository, checksum: Checksum) -> bytes:
    """Return the header of a symbolic link that is one."""
    directory, name = repository.locate(checksum)
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(f"{name}.file", flags, dir_fd=directory)
    try:
        status = os.fstat(fd)
        target = os.fsencode(os.readlink("", dir_fd=fd))
        match repository.mode:
            case RepositoryMode.BARE_USER_ONLY:
                # Links have no mode of their own; 0777 is what every file system shows.
                attributes = _Attributes(0, 0, status.st_mode, ())
            case RepositoryMode.BARE_SPLIT_XATTRS:
                xattrs = _read_split(repository, checksum)
                attributes = _Attributes(status.st_uid, status.st_gid, status.st_mode, xattrs)
            case _:
                # The magic link leads to the link itself, whose attributes no call takes by O_PATH.
                xattrs = read_xattrs(f"/proc/self/fd/{fd}")
                attributes = _Attributes(status.st_uid, status.st_gid, status.st_mode, xattrs)
        return _format_header(attributes, 0, target)
    finally:
        os.close(fd)


def read_xattrs(file: int | str) -> Xattrs:
    """Return the attributes of a file as OSTree takes them from disk: by name, empty values skipped."""
    pairs = ((os.fsencode(name) + b"\0", read_value(file, name)) for name in list_names(file))
    return tuple(sorted((name, value) for name, value in pairs if value))
