"""Open files of layers: directly, or by a process in a user namespace where this user may not.

    worker ── one end of a socket pair ──▶ process in the namespace     once
    worker ── layer, path ──▶ its child    ── descriptor, or errno ──▶ worker

The process opens nothing but regular files beneath the directories that it was given, for reading.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.linux.user_namespace import UserNamespaceError, start_in_namespace
from cfsctl.oci.containers_storage.store import StorageUnreadableError, open_layer_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.oci.containers_storage.store import Store

_MAX_REQUEST_BYTES: Final = 1 << 17
_REQUEST: Final = struct.Struct("=HH")  # number of the store, length of the layer's ID
_ANSWER: Final = struct.Struct("=i")
_FD_BYTES: Final = array.array("i").itemsize


class LayerFiles(Protocol):
    """Opens files of layers. May be used in forked processes at the same time."""

    def open(self, store: Store, layer_id: str, path: bytes) -> int:
        """Open a file; the caller owns the descriptor.

        Raises:
            StorageUnreadableError: This user may not.
            OSError: It cannot be opened, or is not a regular file.
        """

    def close(self) -> None:
        """Release everything; may be called again."""


class DirectFiles:
    """Opens files with the rights of this process."""

    def __init__(self, reason: str = "") -> None:
        """Open nothing yet; `reason` says why there is no user namespace."""
        self._reason = reason
        self._layer: tuple[str, int] | None = None

    def open(self, store: Store, layer_id: str, path: bytes) -> int:
        """Open a file; see `LayerFiles`."""
        try:
            return open_layer_file(self._open_layer(store, layer_id), path)
        except PermissionError as error:
            hint = "run it by `podman unshare cfsctl ...`, or as root"
            raise StorageUnreadableError(
                f"layer {layer_id}: {os.fsdecode(path)}: {error.strerror}"
                f"{f' ({self._reason})' if self._reason else ''}",
                hint=hint,
            ) from error

    def _open_layer(self, store: Store, layer_id: str) -> int:
        """Return the directory of a layer, which stays open until another one is asked for."""
        key = f"{store.path}\0{layer_id}"
        if self._layer is None or self._layer[0] != key:
            self.close()
            self._layer = key, store.open_layer(layer_id)
        return self._layer[1]

    def close(self) -> None:
        """Close the directory of the last layer."""
        if self._layer is not None:
            os.close(self._layer[1])
            self._layer = None


class NamespaceFiles:
    """Opens files by a process that is root of a user namespace."""

    def __init__(self, stores: Sequence[Store]) -> None:
        """Start the process.

        Raises:
            UserNamespaceError: It cannot be started.
        """
        self._stores = list(stores)
        self._own, remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._owner = os.getpid()
        self._connection: tuple[int, socket.socket] | None = None
        try:
            with remote:
                self._process = start_in_namespace(lambda: _serve(remote, self._own, self._stores))
        except BaseException:
            self._own.close()
            raise

    def open(self, store: Store, layer_id: str, path: bytes) -> int:
        """Open a file; see `LayerFiles`."""
        connection = self._connect()
        encoded = layer_id.encode()
        connection.send(_REQUEST.pack(self._stores.index(store), len(encoded)) + encoded + path)
        answer, fds = _receive(connection, _ANSWER.size)
        if len(answer) != _ANSWER.size:
            raise StorageUnreadableError("the process in the user namespace has ended")
        (number,) = _ANSWER.unpack(answer)
        if number or len(fds) != 1:
            number = number or errno.EPROTO
            if number == errno.EACCES:
                raise StorageUnreadableError(f"layer {layer_id}: {os.fsdecode(path)}: {os.strerror(number)}")
            raise OSError(number, os.strerror(number), path)
        return fds[0]

    def _connect(self) -> socket.socket:
        """Return this process's own connection: forked workers must not read each other's answers."""
        if self._connection is None or self._connection[0] != os.getpid():
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._own.sendmsg([b"c"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _pack(theirs.fileno()))])
            self._connection = os.getpid(), mine
        return self._connection[1]

    def close(self) -> None:
        """End the process, if this is the one that started it."""
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None
        self._own.close()
        if self._owner == os.getpid() and self._process:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._process, 0)
            self._process = 0


def open_files(stores: Sequence[Store]) -> LayerFiles:
    """Return what opens files of layers with the rights that this user can have."""
    if os.geteuid() == 0 or not stores:
        return DirectFiles()
    try:
        return NamespaceFiles(stores)
    except (UserNamespaceError, OSError) as error:
        return DirectFiles(f"no user namespace: {error.strerror or error}")


def _pack(fd: int) -> bytes:
    return array.array("i", [fd]).tobytes()


def _receive(connection: socket.socket, size: int) -> tuple[bytes, list[int]]:
    data, ancillary, _, _ = connection.recvmsg(size, socket.CMSG_SPACE(_FD_BYTES))
    fds = array.array("i")
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
    return data, list(fds)


def _serve(main: socket.socket, other: socket.socket, stores: Sequence[Store]) -> None:
    """Answer until nobody is left who could ask; in the namespace."""
    import signal  # only in this process

    other.close()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes below
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of the sockets ends this process
    while True:
        data, fds = _receive(main, 1)
        if not data:
            return
        for fd in fds:
            if not os.fork():
                main.close()
                _serve_one(socket.socket(fileno=fd), stores)
                os._exit(0)
            os.close(fd)


def _serve_one(connection: socket.socket, stores: Sequence[Store]) -> None:
    files = DirectFiles()
    while data := connection.recv(_MAX_REQUEST_BYTES):
        number, length = _REQUEST.unpack_from(data)
        layer_id = data[_REQUEST.size : _REQUEST.size + length].decode()
        try:
            fd = files.open(stores[number], layer_id, data[_REQUEST.size + length :])
        except OSError as error:
            connection.send(_ANSWER.pack(error.errno or errno.EIO))
            continue
        except StorageUnreadableError:
            connection.send(_ANSWER.pack(errno.EACCES))
            continue
        connection.sendmsg([_ANSWER.pack(0)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _pack(fd))])
        os.close(fd)
