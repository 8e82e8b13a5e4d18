"""Serving an image by FUSE in a process of its own, which stays when this one ends.

The process is a new interpreter, so it holds nothing of what this one has open. It is told on its standard
input what to do, and tells over a pipe how that went: a byte if the mount can be used, otherwise the error.
If it ends without a report, that is an error too.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError
from cfsctl.workers.pickled_errors import dump_error

if TYPE_CHECKING:
    from cfsctl.repository.mounting.fuse_server import FuseMount
    from cfsctl.repository.repository import Repository

_READY: Final = b"r"
_MODULE: Final = "cfsctl.repository.mounting.fuse_process"


class FuseServerError(CfsError):
    """The FUSE server has ended before the mount could be used."""


def serve_in_background(repository: Repository, mount: FuseMount) -> None:
    """Start a process that serves an image; return once the mount can be used.

    Raises:
        FuseServerError: The process has ended without telling why.
        CfsError, OSError: It cannot be mounted; nothing is mounted then.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            job = _Job(os.path.abspath(repository.path), repository.is_secure, mount, writer)
            status = _start(job, mount.mountpoint)
        finally:
            os.close(writer)
        with open(reader, "rb", closefd=False) as stream:
            answer = stream.read()
    finally:
        os.close(reader)
    if answer == _READY:
        return
    if answer:
        raise pickle.loads(answer)  # noqa: S301 - from our own process
    raise FuseServerError(
        f"the FUSE server has ended before {mount.mountpoint} was mounted (exit status {status})",
        hint="run it with --foreground to see more",
    )


class _Job:
    """What the process is to do."""

    def __init__(self, repository: str, is_secure: bool, mount: FuseMount, ready_fd: int) -> None:  # noqa: FBT001 - made in one place
        self.repository = repository
        self.is_secure = is_secure
        self.mount = mount
        self.ready_fd = ready_fd


def _start(job: _Job, mountpoint: str) -> int:
    """Start the process; return the exit status of the one that has started it in turn."""
    # The same modules as here; -P keeps those out that lie in the working directory.
    paths = [os.path.abspath(path) for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-P", "-m", _MODULE, mountpoint, job.mount.image_id.hex()],
        input=pickle.dumps(job),
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        pass_fds=[job.ready_fd],
        start_new_session=True,
        check=False,
    )
    return done.returncode


def run(job: _Job) -> int:
    """Serve as a job says, in a child of this process; return at once."""
    if os.fork():
        os._exit(0)  # init takes care of the child
    os.chdir("/")
    ready = _Once(job.ready_fd)
    try:
        _serve(job, ready)
    except BaseException as error:  # noqa: BLE001 - it is raised by the process that waits
        ready.tell(dump_error(error))
        return 1
    return 0


def _serve(job: _Job, ready: _Once) -> None:
    from cfsctl.repository.mounting.fuse_server import serve_image  # only in the new process
    from cfsctl.repository.repository import Repository

    # The lock is this process' own, so it stays when the other one ends.
    with Repository.open(job.repository, upgrade=False, insecure=not job.is_secure) as repository:
        serve_image(repository, job.mount, ready.succeed)


class _Once:
    """Tells the waiting process how it went."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def succeed(self) -> None:
        """Report that the mount can be used; errors go to the system's log from now on."""
        _log_to_system()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        self.tell(_READY)

    def tell(self, answer: bytes) -> None:
        """Report something, unless something was reported before.

        Raises:
            BrokenPipeError: Nobody is waiting any longer.
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with open(fd, "wb", buffering=0) as stream:
                stream.write(answer)


def _log_to_system() -> None:
    import logging  # only in the new process
    import syslog

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            syslog.syslog(syslog.LOG_ERR, self.format(record))

    syslog.openlog("cfsctl-fuse", syslog.LOG_PID, syslog.LOG_DAEMON)
    root = logging.getLogger("cfsctl")
    root.addHandler(Handler(logging.ERROR))
    root.propagate = False
