"""Where connections come from: a socket that is made here, or sockets that the parent process passes on."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

_BACKLOG: Final = 512
_FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START: where passed descriptors begin."""

_MAX_COUNT_DIGITS: Final = 4

_FD_NAME: Final = "varlink"
"""The name of the descriptors to serve, if others are passed as well."""

_MODE_MASK: Final = 0o177
"""Leaves the owner alone access to the socket."""

_MAX_ADDRESS_BYTES: Final = 107

_OTHER_SCHEMES: Final = frozenset({"tcp", "device", "exec", "vsock", "ssh", "ssh-exec", "ssh-unix"})
"""What addresses of varlink may begin with besides ``unix``."""

_LOCK_S: Final = 5.0
_PAUSE_S: Final = 0.05
_TRY_S: Final = 5.0


class AddressError(CfsError):
    """An address that no socket can have."""

    exit_code = ExitCode.USAGE


class AddressInUseError(CfsError):
    """An address where there is something already."""


class ActivationError(CfsError):
    """Descriptors that were passed on, and that varlink cannot be spoken on."""


class PassedSockets(NamedTuple):
    """What was passed on.

    Attributes:
        listeners: Sockets to accept connections from.
        connections: Connections.
    """

    listeners: list[socket.socket]
    connections: list[socket.socket]


def is_activated(environment: MutableMapping[str, str]) -> bool:
    """Return whether the parent process has passed on descriptors."""
    is_ours = environment.get("LISTEN_PID") == str(os.getpid())
    count = environment.get("LISTEN_FDS", "")
    return is_ours and count.isascii() and count.isdigit() and int(count[:_MAX_COUNT_DIGITS]) > 0


def is_asked_for_stdio(environment: MutableMapping[str, str]) -> bool:
    """Return whether systemd's varlinkctl has started this process to talk to it by its standard streams."""
    return environment.get("SYSTEMD_VARLINK_LISTEN") == "-"


def take_passed(environment: MutableMapping[str, str]) -> PassedSockets:
    """Return the sockets that were passed on (sd_listen_fds(3)); programs that are started do not get them.

    If some have the name ``varlink``, the others are left alone.

    Raises:
        ActivationError: One is no stream socket of the Unix family.
    """
    count = int(environment.pop("LISTEN_FDS")[:_MAX_COUNT_DIGITS])
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    environment.pop("LISTEN_PID")
    fds = range(_FIRST_FD, _FIRST_FD + count)
    for fd in fds:
        try:
            os.set_inheritable(fd, False)  # noqa: FBT003 - has no keywords
        except OSError as error:
            raise ActivationError(f"descriptor {fd} of LISTEN_FDS: {error.strerror}") from error
    chosen = [fd for fd, name in zip(fds, names, strict=False) if name == _FD_NAME] or list(fds)
    passed = PassedSockets([], [])
    for fd in chosen:
        opened = _open_stream(fd)
        is_listening = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        (passed.listeners if is_listening else passed.connections).append(opened)
    return passed


def _open_stream(fd: int) -> socket.socket:
    try:
        opened = socket.socket(fileno=fd)
    except OSError as error:
        raise ActivationError(f"descriptor {fd} of LISTEN_FDS: expected a socket") from error
    if opened.family != socket.AF_UNIX or opened.type != socket.SOCK_STREAM:
        opened.detach()
        raise ActivationError(f"descriptor {fd} of LISTEN_FDS: expected a stream socket of the Unix family")
    return opened


class BoundSocket:
    """A socket at an address, which is removed in the end.

    Attributes:
        listener: The socket.
    """

    def __init__(self, address: str) -> None:
        """Bind and listen; only the owner of this process can connect.

        A socket in the file system where nobody answers is replaced; anything else is left alone.

        Args:
            address: A path, with or without ``unix:`` before it.

        Raises:
            AddressError: No socket can have this address.
            AddressInUseError: There is something.
            OSError: The kernel refuses.
        """
        self._path = address.removeprefix("unix:")
        self._identity: tuple[int, int] | None = None
        if not self._path or "\0" in self._path:
            raise AddressError(f"varlink address {address!r}: expected a path")
        if self._path.startswith("@"):
            raise AddressError(
                f"varlink address {address}: every user could connect to an abstract socket",
                hint="use a path",
            )
        scheme, colon, _ = self._path.partition(":")
        if colon and scheme in _OTHER_SCHEMES:
            raise AddressError(
                f"varlink address {address}: expected the path of a socket, found the scheme {scheme!r}",
                hint=f"for a socket of this name, write ./{self._path}",
            )
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._bind()
        except BaseException:
            self.listener.close()
            raise

    def _bind(self) -> None:
        with _locked_directory(self._path) as place:
            self._replace_stale(place)
            # Through its directory's descriptor a path may be longer than an address.
            self._bind_to(place if len(os.fsencode(self._path)) > _MAX_ADDRESS_BYTES else self._path)
            status = os.lstat(place)
            self._identity = (status.st_dev, status.st_ino)
            self.listener.listen(_BACKLOG)

    def _bind_to(self, address: str) -> None:
        old = os.umask(_MODE_MASK)
        try:
            self.listener.bind(os.fsencode(address))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise self._in_use("") from error
            if error.errno is None:  # from Python itself: the name alone is too long
                raise AddressError(f"varlink address {self._path}: {error}") from error
            raise OSError(error.errno, f"binding varlink socket: {error.strerror}", self._path) from error
        finally:
            os.umask(old)

    def _in_use(self, what: str) -> AddressInUseError:
        return AddressInUseError(
            f"binding varlink socket at {self._path}: Address already in use{what}",
            hint="stop the other service, or choose another --address",
        )

    def _replace_stale(self, place: str) -> None:
        """Remove a socket where nobody answers; the lock keeps others from making one here meanwhile."""
        try:
            before = os.lstat(place)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(before.st_mode):
            raise self._in_use(" by something that is not a socket")
        if before.st_uid != os.geteuid():
            raise self._in_use(" by a socket of another user")
        if _answers(place):
            raise self._in_use(" by a service that answers")
        now = os.lstat(place)
        if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino):
            os.unlink(place)

    def close(self) -> None:
        """Stop listening, and remove the socket unless somebody else has put another one there."""
        if self._identity is not None:
            with contextlib.suppress(OSError, CfsError), _locked_directory(self._path) as place:
                status = os.lstat(place)
                if (status.st_dev, status.st_ino) == self._identity:
                    os.unlink(place)
            self._identity = None
        self.listener.close()


def _answers(place: str) -> bool:
    """Return whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(_TRY_S)
        try:
            probe.connect(place)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # a full backlog, or something else that only a living service can have
    return True


@contextlib.contextmanager
def _locked_directory(path: str) -> Iterator[str]:
    """Yield a short path of a name in its directory, which no other service binds in meanwhile."""
    directory, name = os.path.split(path)
    if not name:
        raise AddressError(
            f"varlink address {path}: expected the path of a socket, found that of a directory"
        )
    try:
        fd = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"varlink address: {error.strerror}", directory or ".") from error
    try:
        _lock(fd, path)
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def _lock(fd: int, path: str) -> None:
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
        else:
            return
        if time.monotonic() > deadline:
            raise AddressInUseError(f"varlink address {path}: another process keeps its directory locked")
        time.sleep(_PAUSE_S)
