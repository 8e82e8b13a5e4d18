"""Layers that go from one repository to another: GetLayer, PutLayer, FinalizeImage."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Final

import cfsctl
from cfsctl.varlink.calls import Reply
from cfsctl.varlink.channel import close_all
from cfsctl.varlink.errors import CallError
from cfsctl.varlink.interfaces import OCI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.varlink.calls import Request
    from cfsctl.varlink.producers import Producer

_DIRECTORIES: Final = 2
"""Slots for directories, of which only one is used: receivers have to go by the number."""

_FDS_OF_FRAME: Final = 2


def _fail(error: str, **parameters: object) -> CallError:
    return CallError(OCI, error, **parameters)


def get_layer(request: Request) -> Reply:
    """Send a layer as a splitdirfdstream through a pipe, which goes on after the reply."""
    diff_id = request.parameters.get_fields("params").find_string("diff_id")
    if diff_id is None:
        raise _fail("InvalidRequest", message="GetLayer: diff_id is required for the repo service")
    if not request.can_pass_fds:
        raise _fail("InvalidRequest", message="GetLayer needs a connection that can pass fds")
    fds: list[int] = []
    with request.handles.use(request.handle) as repository:
        try:
            repository.oci.layer(diff_id)
        except cfsctl.OciDigestError as error:
            raise _fail("InvalidDigest", message=str(error)) from error
        except cfsctl.RefNotFoundError as error:
            raise _fail("NoSuchLayer", diff_id=diff_id) from error
        try:
            data, lifetime = request.producers.start(_make_producer(request, diff_id))
            fds += (data, repository.oci.open_objects(), os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            fds += (lifetime, os.dup(lifetime))
            return _send_frames(request, fds)
        except BaseException:
            close_all(fds)
            raise


def _make_producer(request: Request, diff_id: str) -> Producer:
    """Return what yields the stream, in a process that has the repository open itself."""
    handle = request.handle

    def produce(when_ready: Callable[[], object]) -> Iterator[bytes | memoryview]:
        with request.handles.use_alone(handle) as repository:
            layer = repository.oci.layer(diff_id)
            when_ready()
            yield from layer.iter_sent(0)

    return produce


def _send_frames(request: Request, fds: list[int]) -> Reply:
    results = {"dir_count": _DIRECTORIES}
    while request.stream.is_wanted and len(fds) > _FDS_OF_FRAME:
        frame = fds[:_FDS_OF_FRAME]
        request.stream.send(results, frame)
        del fds[:_FDS_OF_FRAME]
        close_all(frame)
    return Reply(results, fds)


def put_layer(request: Request) -> Reply:
    """Store a layer that comes as a splitdirfdstream."""
    if len(request.fds) < 2:
        raise _fail(
            "InvalidRequest", message=f"expected at least 2 fds (1 pipe + >=1 dir fd), got {len(request.fds)}"
        )
    diff_id = request.parameters.get_string("diff_id")
    pipe, *directories = request.fds
    with request.handles.use(request.handle) as repository:
        try:
            received = repository.oci.receive_layer(
                diff_id,
                _make_reader(pipe),
                directories,
                must_share=bool(request.parameters.find_bool("zerocopy")),
            )
        except cfsctl.OciDigestError as error:
            raise _fail("InvalidDigest", message=str(error)) from error
        except cfsctl.ReceivedDigestError as error:
            raise _fail("DiffIdMismatch", expected=error.expected, actual=error.actual) from error
        request.handles.keep(request.handle, repository, f"oci-layer-{diff_id.removeprefix('@')}")
    counts = received.counts
    shared = counts.reflinked + counts.hardlinked
    return Reply(
        {
            "layer_verity": received.stream_id.hex(),
            "already_present": not received.is_new,
            "objects_reflinked": counts.reflinked,
            "objects_hardlinked": counts.hardlinked,
            "objects_copied": counts.new - shared,
            "objects_already_present": counts.present,
        }
    )


def _make_reader(fd: int) -> Callable[[int], bytes]:
    """Return what reads a pipe, also one that its owner has made non-blocking."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)

    def read(size: int) -> bytes:
        while True:
            try:
                return os.read(fd, size)
            except BlockingIOError:
                poll.poll()

    return read


def finalize_image(request: Request) -> Reply:
    """Name an image whose layers are stored."""
    parameters = request.parameters
    layers = {
        layer.get_string("diff_id"): layer.get_string("layer_verity")
        for layer in parameters.get_list_of_fields("layers")
    }
    with request.handles.use(request.handle) as repository:
        try:
            done = repository.oci.finalize(
                parameters.get_string("manifest_json").encode(),
                parameters.get_string("config_json").encode(),
                layers,
                parameters.find_string("name"),
            )
        except (cfsctl.OciDigestError, cfsctl.DigestFormatError) as error:
            raise _fail("InvalidDigest", message=str(error)) from error
    request.handles.release(request.handle)
    return Reply(
        {
            "manifest_digest": str(done.manifest_digest),
            "manifest_verity": done.manifest_id.hex(),
            "config_digest": str(done.config_digest),
            "config_verity": done.config_id.hex(),
        }
    )
