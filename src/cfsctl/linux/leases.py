"""File leases: who has a file open."""

from __future__ import annotations

import errno
import fcntl
import signal


def is_open_for_writing(fd: int) -> bool | None:
    """Return whether anybody has a file open for writing, or mapped for it; None if that cannot be told.

    The kernel tells by granting a read lease or not (fcntl(2), "Leases"), which is given back at once. It
    grants one to the file's owner and to CAP_LEASE only, and not on network file systems.

    Args:
        fd: The file, open for reading only, borrowed.
    """
    try:
        # If another process opens the file now, the kernel signals us; the default signal would kill this
        # process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
