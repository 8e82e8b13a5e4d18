"""org.composefs.Oci."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import cfsctl
from cfsctl.varlink.calls import Reply
from cfsctl.varlink.errors import CallError
from cfsctl.varlink.interfaces import OCI
from cfsctl.varlink.methods.layers import finalize_image, get_layer, put_layer
from cfsctl.varlink.methods.mounting import MountRequestError, find_layers, mount
from cfsctl.varlink.methods.pulling import pull

if TYPE_CHECKING:
    from cfsctl.varlink.calls import Method, Request

_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")

_FEATURES: Final = ("splitdirfdstream-v0",)


def _fail(error: str, **parameters: object) -> CallError:
    return CallError(OCI, error, **parameters)


def _get_info(_request: Request) -> Reply:
    return Reply({"features": list(_FEATURES)})


def _list_images(request: Request) -> Reply:
    part = request.parameters.find_string("filter") or ""
    with request.handles.use(request.handle) as repository:
        found = [image.as_dict() for image in repository.oci.images() if part in image.name]
    return Reply({"images": found})


def _check(request: Request) -> Reply:
    image = request.parameters.find_string("image")
    with request.handles.use(request.handle) as repository:
        return Reply(repository.oci.fsck(image).as_dict())


def _inspect(request: Request) -> Reply:
    image = request.parameters.get_string("image")
    with request.handles.use(request.handle) as repository:
        try:
            found = repository.oci.inspect(image)
        except (cfsctl.RefNotFoundError, cfsctl.OciDigestError) as error:
            raise _fail("NoSuchImage", image=image) from error
    return Reply(found.as_dict())


def _tag(request: Request) -> None:
    digest, name = request.parameters.get_string("manifest_digest"), request.parameters.get_string("name")
    with request.handles.use(request.handle) as repository:
        try:
            repository.oci.tag(f"@{digest.removeprefix('@')}", name)
        except cfsctl.RefNotFoundError as error:
            raise _fail("NoSuchImage", image=digest) from error


def _untag(request: Request) -> None:
    with request.handles.use(request.handle) as repository:
        repository.oci.untag(request.parameters.get_string("name"))


def find_xattrs(request: Request) -> cfsctl.XattrFilter | None:
    """Return which extended attributes a call wants to keep, or None if it does not say."""
    word = request.parameters.find_string("xattrs")
    if word is None:
        return None
    return cfsctl.XattrFilter.KEEP_USER if word == "KeepUserXattrs" else cfsctl.XattrFilter.ALLOWLIST_ONLY


def _compute_id(request: Request) -> Reply:
    options = cfsctl.OciTreeOptions(
        config_stream=request.parameters.find_string("verity"),
        bootable=bool(request.parameters.find_bool("bootable")),
        xattrs=find_xattrs(request) or cfsctl.XattrFilter.ALLOWLIST_ONLY,
    )
    with request.handles.use(request.handle) as repository:
        image_id = repository.oci.compute_id(request.parameters.get_string("image"), options)
    return Reply({"image_id": image_id.hex()})


def _mount(request: Request) -> Reply:
    image = request.parameters.get_string("image")
    bootable = bool(request.parameters.find_bool("bootable"))
    with request.handles.use(request.handle) as repository:
        try:
            layer = find_layers(request)
            image_id = repository.oci.find_image(image, bootable=bootable)
        except MountRequestError as error:
            raise _fail("InternalError", message=str(error)) from error
        except cfsctl.RefNotFoundError as error:
            if image.startswith("sha256:") and not _DIGEST.fullmatch(image):
                raise _fail("InternalError", message=f"Invalid manifest digest: {error}") from error
            raise _fail("NoSuchImage", image=f"{image}: {error}") from error
        return mount(request, repository, image_id, layer)


def _has_layer(request: Request) -> Reply:
    with request.handles.use(request.handle) as repository:
        try:
            found = repository.oci.find_layer(request.parameters.get_string("diff_id"))
        except cfsctl.OciDigestError as error:
            raise _fail("InvalidDigest", message=str(error)) from error
    return Reply({"present": found is not None, "layer_verity": None if found is None else found.hex()})


METHODS: Final[dict[str, Method]] = {
    "ListImages": _list_images,
    "Check": _check,
    "Inspect": _inspect,
    "Tag": _tag,
    "Untag": _untag,
    "ComputeId": _compute_id,
    "Pull": pull,
    "OciMount": _mount,
    "GetInfo": _get_info,
    "HasLayer": _has_layer,
    "GetLayer": get_layer,
    "PutLayer": put_layer,
    "FinalizeImage": finalize_image,
}
