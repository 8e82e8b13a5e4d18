"""Answers to FUSE requests from the files of an image.

The tree never changes, so the kernel may keep all that it is told for as long as it likes: names that exist
and names that do not, attributes, directories, links and content. Directories need not be opened, so a whole
directory is one request and one more for its end. Files need not be opened either, unless that is when their
content is checked. Nothing is remembered for the kernel: every request can be answered on its own.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.erofs.format import MAX_NAME_LENGTH, DirentType, ErofsError
from cfsctl.errors import CfsError, describe
from cfsctl.fuse.files import Hole, NoSuchNodeError, Stored, attributes_of
from cfsctl.fuse.names import View
from cfsctl.fuse.protocol import (
    ATTR,
    ATTR_HEAD,
    DIRENT,
    ENTRY_HEAD,
    FOPEN_CACHE_DIR,
    FOPEN_KEEP_CACHE,
    GETXATTR_IN,
    GETXATTR_OUT,
    LSEEK_IN,
    LSEEK_OUT,
    OPEN_OUT,
    OUT_HEADER,
    READ_IN,
    STATFS_OUT,
    FuseProtocolError,
    InitFlag,
    Opcode,
    format_init,
    parse_init,
    parse_name,
)
from cfsctl.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cfsctl.erofs.read.image import Inode
    from cfsctl.fuse.files import Content, ImageFiles, Listed

    Reply = bytes | memoryview | int
    """The result, or an error number below 0."""

    Handler = Callable[[int, bytes, int], Reply]
    """Answers a request about a node, given what follows the header, and who asks."""

_LOG = get_logger(__name__)

_VALID_S: Final = 1_000_000
"""How long the kernel may keep names and attributes, in seconds."""

_MAX_PAGES: Final = 256
"""Most pages of one request, which is the most that the kernel takes without further settings."""

_MAX_BACKGROUND: Final = 64
_MAX_OPEN: Final = 128
"""Objects that are kept open."""

_MAX_ROOMS: Final = 1024
"""Sizes of reads for which there is a place to read to."""

_MAX_MESSAGES: Final = 100
"""Different problems that are reported; a damaged image could have one for each file."""

_PLUS: Final = struct.Struct(ENTRY_HEAD.format + ATTR.format[1:] + DIRENT.format[1:])
"""struct fuse_direntplus."""

_NO_ENTRY: Final = bytes(ENTRY_HEAD.size + ATTR.size)
"""A directory entry without attributes; the kernel looks it up if it needs them."""

_NO_FILE: Final = ENTRY_HEAD.pack(0, 0, _VALID_S, 0, 0, 0) + bytes(ATTR.size)
"""The answer that a name does not exist, which the kernel may keep."""

_ATTR_VALID: Final = ATTR_HEAD.pack(_VALID_S, 0, 0)
_PADDING: Final = tuple(bytes(-length % 8) for length in range(8))
_TRUSTED: Final = b"trusted."
_TYPE_OF_KIND: Final = (0, 8, 4, 2, 6, 1, 12, 10)
"""Types of directory entries, as readdir(3) has them, by `DirentType`."""

_SEEK_DATA: Final = 3
_SEEK_HOLE: Final = 4


class Opener(Protocol):
    """Opens content that is outside of the image."""

    @property
    def checks(self) -> bool:
        """Whether content is compared with its digest when it is opened."""

    def open(self, stored: Stored, /) -> int:
        """Return a descriptor for reading.

        Raises:
            CfsError: It is not what it should be.
            OSError: It cannot be opened.
        """


class Operations:
    """Answers requests about one image.

    Attributes:
        handlers: What answers each operation.
        reply: Room for a header and what was read.
        known_xattrs: Attributes of some files, by their node.
    """

    def __init__(self, files: ImageFiles, opener: Opener, *, is_initial_user_namespace: bool) -> None:
        """Prepare to serve an image.

        Args:
            files: The files.
            opener: Opens content that is outside of the image.
            is_initial_user_namespace: User IDs are those of the whole system. Otherwise nobody sees
                ``trusted.`` attributes, which cannot be read there, and the kernel does not heed POSIX ACLs:
                those with users whom the namespace does not know would make files inaccessible.
        """
        self._files = files
        self.known_xattrs: Mapping[int, Mapping[bytes, bytes]] = files.known_xattrs
        self._opener = opener
        self._is_initial = is_initial_user_namespace
        self._answers_open = opener.checks and files.view is View.PLAIN
        self._flags = 0
        self._fds: dict[int, int] = {}
        self._capacity = _MAX_PAGES * os.sysconf("SC_PAGE_SIZE")
        self.reply = memoryview(bytearray(OUT_HEADER.size + self._capacity))
        self._rooms: dict[int, list[memoryview]] = {}
        self._noted: set[str] = set()
        self.handlers: dict[int, Handler] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.READLINK: self._readlink,
            Opcode.OPEN: self._open,
            Opcode.READ: self._read,
            Opcode.STATFS: self._statfs,
            Opcode.RELEASE: _nothing,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.INIT: self._init,
            Opcode.OPENDIR: self._opendir,
            Opcode.READDIR: self._readdir,
            Opcode.RELEASEDIR: _nothing,
            Opcode.DESTROY: _nothing,
            Opcode.IOCTL: _no_ioctl,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.LSEEK: self._lseek,
        }

    def close(self) -> None:
        """Close the objects that are open."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def answer(self, opcode: int, node: int, body: bytes, uid: int) -> Reply:
        """Return the reply to a request; what goes wrong becomes an error number.

        Args:
            opcode: What is asked for, an `Opcode`.
            node: What it is about.
            body: What follows the header.
            uid: Who asks.
        """
        handler = self.handlers.get(opcode)
        if handler is None:
            return -errno.ENOSYS
        try:
            return handler(node, body, uid)
        except NoSuchNodeError:
            return -errno.ESTALE
        except FuseProtocolError as error:
            self._note(str(error))
            return -errno.EINVAL
        except struct.error as error:
            self._note(f"FUSE request {opcode}: {error}")
            return -errno.EINVAL
        except ErofsError as error:
            self._note(f"inode {node}: damaged image: {error}")
        except (CfsError, OSError) as error:
            self._note(f"inode {node}: {describe(error)}")
        return -errno.EIO

    def _note(self, problem: str) -> None:
        """Report a problem, but each only once."""
        if problem not in self._noted and len(self._noted) < _MAX_MESSAGES:
            self._noted.add(problem)
            _LOG.error("%s", problem)

    # The connection

    def _init(self, _node: int, body: bytes, _uid: int) -> Reply:
        init = parse_init(body)
        flags = (
            InitFlag.ASYNC_READ
            | InitFlag.ASYNC_DIO
            | InitFlag.DO_READDIRPLUS
            | InitFlag.PARALLEL_DIROPS
            | InitFlag.MAX_PAGES
            | InitFlag.CACHE_SYMLINKS
            | InitFlag.NO_OPENDIR_SUPPORT
        )
        if not self._answers_open:
            flags |= InitFlag.NO_OPEN_SUPPORT
        if self._is_initial and self._files.may_have_acls:
            flags |= InitFlag.POSIX_ACL
        self._flags = init.flags & flags
        return format_init(init, flags, max_pages=_MAX_PAGES, max_background=_MAX_BACKGROUND)

    def _statfs(self, _node: int, _body: bytes, _uid: int) -> Reply:
        files = self._files
        return STATFS_OUT.pack(files.block_count, 0, 0, files.inode_count, 0, 4096, 255, 4096)

    # Names and attributes

    def _lookup(self, node: int, body: bytes, _uid: int) -> Reply:
        name = parse_name(body)
        if len(name) > MAX_NAME_LENGTH:
            return -errno.ENAMETOOLONG
        inode = self._files.find(node, name)
        if inode is None:
            return _NO_FILE
        found = self._files.node_of(inode.nid)
        attributes = ATTR.pack(*attributes_of(found, inode))
        return ENTRY_HEAD.pack(found, 0, _VALID_S, _VALID_S, 0, 0) + attributes

    def _getattr(self, node: int, _body: bytes, _uid: int) -> Reply:
        return _ATTR_VALID + ATTR.pack(*attributes_of(node, self._files.inode(node)))

    def _readlink(self, node: int, _body: bytes, _uid: int) -> Reply:
        return self._files.target(node)

    def find_xattrs(self, node: int) -> Mapping[bytes, bytes] | None:
        """Return the attributes of a file, or None if they cannot be read, which `answer` reports."""
        try:
            return self._files.xattrs(node)
        except Exception:  # noqa: BLE001 - a fault of ours must not take the whole mount away
            return None

    def _getxattr(self, node: int, body: bytes, _uid: int) -> Reply:
        # An overlay asks this three times for each file.
        value = self._files.xattrs(node).get(body[GETXATTR_IN.size : -1])
        if value is None:
            parse_name(body[GETXATTR_IN.size :])
            return -errno.ENODATA
        (room,) = GETXATTR_IN.unpack_from(body)
        return _fitted(value, room)

    def _listxattr(self, node: int, body: bytes, uid: int) -> Reply:
        (room,) = GETXATTR_IN.unpack_from(body)
        names = self._files.xattrs(node)
        shows_trusted = self._is_initial and uid == 0
        return _fitted(
            b"".join(name + b"\0" for name in names if shows_trusted or not name.startswith(_TRUSTED)), room
        )

    # Directories

    def _opendir(self, _node: int, _body: bytes, _uid: int) -> Reply:
        if self._flags & InitFlag.NO_OPENDIR_SUPPORT:
            return -errno.ENOSYS
        return OPEN_OUT.pack(0, FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR, 0)

    def _readdir(self, node: int, body: bytes, _uid: int) -> Reply:
        _, offset, room = READ_IN.unpack_from(body)
        files, listed = self._files, self._files.listed(node)
        start, stop, dots = self._choose(listed, offset, room, DIRENT.size)
        pieces = [_format_entry(*dot) for dot in self._dots(node, listed, dots)]
        for index in range(start, stop):
            name, kind = listed.names[index], listed.kinds[index]
            pieces.append(_format_entry(files.node_of(listed.nids[index]), index + 3, name, kind))
        return b"".join(pieces)

    def _readdirplus(self, node: int, body: bytes, _uid: int) -> Reply:
        _, offset, room = READ_IN.unpack_from(body)
        listed = self._files.listed(node)
        start, stop, dots = self._choose(listed, offset, room, _PLUS.size)
        pieces = [_NO_ENTRY + _format_entry(*dot) for dot in self._dots(node, listed, dots)]
        try:
            inodes = self._files.inodes(listed, start, stop)
            pieces += self._format_plus(listed, start, inodes)
        except ErofsError:
            pieces += self._format_some(listed, start, stop)
        return b"".join(pieces)

    def _choose(self, listed: Listed, offset: int, room: int, head: int) -> tuple[int, int, range]:
        """Return which entries fit a reply: the first, the one after the last, and which of the dots."""
        dots = range(min(offset, 2), 2)
        room -= len(dots) * (head + 8)
        start = max(offset - 2, 0)
        stop = start
        for name in listed.names[start : start + room // (head + 8)]:
            room -= head + (len(name) + 7 & ~7)
            if room < 0:
                break
            stop += 1
        return start, stop, dots

    def _dots(self, node: int, listed: Listed, dots: range) -> Iterator[tuple[int, int, bytes, int]]:
        """Yield the entries for the directory itself and the one above it."""
        for index in dots:
            target = self._files.node_of(listed.parent_nid) if index else node
            yield target, index + 1, b".." if index else b".", DirentType.DIRECTORY

    def _format_plus(self, listed: Listed, start: int, inodes: list[Inode]) -> Iterator[bytes]:
        """Yield entries with their attributes, and the padding after each."""
        pack, node_of = _PLUS.pack, self._files.node_of
        for index, inode in enumerate(inodes, start):
            name = listed.names[index]
            node = node_of(inode[0])
            attributes = attributes_of(node, inode)
            length = len(name)
            yield pack(
                node,
                0,
                _VALID_S,
                _VALID_S,
                0,
                0,
                *attributes,
                node,
                index + 3,
                length,
                _TYPE_OF_KIND[inode[1]],
            )
            yield name + _PADDING[length & 7]

    def _format_some(self, listed: Listed, start: int, stop: int) -> Iterator[bytes]:
        """Yield the same where some inodes are damaged; those get no attributes."""
        for index in range(start, stop):
            try:
                inodes = self._files.inodes(listed, index, index + 1)
                yield b"".join(self._format_plus(listed, index, inodes))
            except ErofsError as error:
                name, nid = listed.names[index], listed.nids[index]
                self._note(f"inode {nid}: damaged image: {error}")
                yield _NO_ENTRY + _format_entry(
                    self._files.node_of(nid), index + 3, name, listed.kinds[index]
                )

    # Content

    def _open(self, node: int, _body: bytes, _uid: int) -> Reply:
        if self._flags & InitFlag.NO_OPEN_SUPPORT:
            return -errno.ENOSYS
        content = self._files.content(node)
        if self._answers_open and isinstance(content, Stored):
            # Checked each time it is opened, not just when it was for the first time.
            self._close(node)
            self._open_stored(node, content)
        return OPEN_OUT.pack(0, FOPEN_KEEP_CACHE, 0)

    def read_stored(self, node: int, offset: int, size: int) -> int | None:
        """Read from an object into `reply`, behind the room for the header; open it if it is not.

        Most reading is done here, so it is kept short.

        Returns:
            How many bytes were read, or None if the content is in the image.

        Raises:
            CfsError, OSError, NoSuchNodeError: It cannot be read.
        """
        fd = self._fds.get(node)
        if fd is None:
            content = self._files.content(node)
            if not isinstance(content, Stored):
                return None
            fd = self._open_stored(node, content)
        room = self._rooms.get(size)
        if room is None:
            room = self._make_room(size)
        return os.preadv(fd, room, offset)

    def _make_room(self, size: int) -> list[memoryview]:
        """Return a part of `reply` to read into; the kernel asks for few different sizes."""
        room = [self.reply[OUT_HEADER.size : OUT_HEADER.size + min(size, self._capacity)]]
        if len(self._rooms) < _MAX_ROOMS:
            self._rooms[size] = room
        return room

    def _read(self, node: int, body: bytes, _uid: int) -> Reply:
        _, offset, size = READ_IN.unpack_from(body)
        length = self.read_stored(node, offset, size)
        if length is not None:
            return self.reply[OUT_HEADER.size : OUT_HEADER.size + length]
        content, size = self._files.content(node), min(size, self._capacity)
        if isinstance(content, bytes):
            return content[offset : offset + size]
        return bytes(max(min(size, content.size - offset), 0))

    def _lseek(self, node: int, body: bytes, _uid: int) -> Reply:
        _, offset, whence = LSEEK_IN.unpack_from(body)
        content = self._files.content(node)
        size = len(content) if isinstance(content, bytes) else content.size
        if whence not in {_SEEK_DATA, _SEEK_HOLE}:
            return -errno.EINVAL
        if offset >= size:
            return -errno.ENXIO
        if isinstance(content, Stored):
            return self._seek_stored(node, content, offset, whence)
        is_there = isinstance(content, Hole) == (whence == _SEEK_HOLE)
        if is_there:
            return LSEEK_OUT.pack(offset)
        return LSEEK_OUT.pack(size) if whence == _SEEK_HOLE else -errno.ENXIO

    def _seek_stored(self, node: int, content: Stored, offset: int, whence: int) -> Reply:
        fd = self._fds.get(node)
        if fd is None:
            fd = self._open_stored(node, content)
        try:
            return LSEEK_OUT.pack(os.lseek(fd, offset, whence))
        except OSError as error:
            return -(error.errno or errno.EIO)

    def _open_stored(self, node: int, content: Content) -> int:
        assert isinstance(content, Stored)
        fd = self._opener.open(content)
        if len(self._fds) >= _MAX_OPEN:
            self._close(next(iter(self._fds)))
        self._fds[node] = fd
        return fd

    def _close(self, node: int) -> None:
        fd = self._fds.pop(node, None)
        if fd is not None:
            os.close(fd)


def _fitted(value: bytes, room: int) -> Reply:
    """Return a value for which the caller has that much room, or its length if it asks for that."""
    if room == 0:
        return GETXATTR_OUT.pack(len(value))
    return value if len(value) <= room else -errno.ERANGE


def _format_entry(node: int, offset: int, name: bytes, kind: int) -> bytes:
    length = len(name)
    # The type is that of the entry, which is not trusted; 0 is an unknown one.
    shown = _TYPE_OF_KIND[kind] if kind < len(_TYPE_OF_KIND) else 0
    return DIRENT.pack(node, offset, length, shown) + name + _PADDING[length & 7]


def _nothing(_node: int, _body: bytes, _uid: int) -> Reply:
    return b""


def _no_ioctl(_node: int, _body: bytes, _uid: int) -> Reply:
    return -errno.ENOTTY  # overlayfs asks for the flags of a file before it copies it
