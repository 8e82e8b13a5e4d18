"""The common parts of Mount and OciMount."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cfsctl
from cfsctl.varlink.calls import Reply
from cfsctl.varlink.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.varlink.calls import Request


class MountRequestError(Exception):
    """Descriptors that do not go with the options of a mount."""


def find_layers(request: Request) -> cfsctl.WritableLayer | None:
    """Return where changes to a mount go, as the call has it.

    Raises:
        MountRequestError: It has not the right number of descriptors.
    """
    options = request.parameters.get_fields("options")
    wanted = 2 if options.find_bool("overlay") else 0
    if len(request.fds) != wanted:
        raise MountRequestError(
            f"Mount expects {wanted} fds for the requested options, got {len(request.fds)}"
        )
    if not request.can_pass_fds:
        raise MountRequestError("Mount needs a connection that can pass fds")
    return _make_layer(request.fds) if wanted else None


def _make_layer(fds: Sequence[int]) -> cfsctl.WritableLayer:
    upper, work = (f"/proc/self/fd/{fd}" for fd in fds)
    return cfsctl.WritableLayer(upper, work)


def mount(
    request: Request,
    repository: cfsctl.Repository,
    image: str | cfsctl.ObjectID,
    layer: cfsctl.WritableLayer | None,
) -> Reply:
    """Mount an image, and return the mount, which is attached nowhere."""
    read_write = request.parameters.get_fields("options").find_bool("read_write")
    fd = repository.mount_detached(
        image, writable_layer=layer, read_write=bool(read_write) and layer is not None
    )
    return Reply({"fd_index": 0}, [fd])


def refuse(interface: str, error: MountRequestError) -> CallError:
    """Return the error for wrong descriptors; the interfaces have it under different names."""
    return CallError(interface, "InvalidSpec", message=str(error))
