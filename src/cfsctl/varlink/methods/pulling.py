"""org.composefs.Oci.Pull: a pull whose progress is sent as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cfsctl
from cfsctl.varlink.calls import Reply
from cfsctl.varlink.errors import CallError
from cfsctl.varlink.interfaces import OCI

if TYPE_CHECKING:
    from cfsctl.varlink.calls import Request, Stream

_UNITS: Final = {cfsctl.Unit.BYTES: "Bytes", cfsctl.Unit.ITEMS: "Items"}
_TRANSPORTS: Final = {
    "oci": "OCI layout",
    "oci-archive": "OCI archive",
    "dir": "directory",
    "docker": "registry",
    "registry": "registry",
    "docker-archive": "Docker archive",
    "docker-daemon": "Docker daemon",
    "containers-storage": "containers-storage",
}
_LOCAL_FETCH: Final = {
    "auto": "auto",
    "if-possible": "auto",
    "zerocopy": "zerocopy",
    "zero-copy": "zerocopy",
}
"""Words for how files of containers-storage are shared; any other word is for not at all."""


def pull(request: Request) -> Reply:
    """Pull an image."""
    parameters = request.parameters
    image = _find_source(request)
    options = _make_options(request)
    with request.handles.use(request.handle) as repository:
        events = _Events(request.stream, image.partition(":")[0])
        try:
            result = repository.oci.pull(
                image,
                parameters.find_string("name"),
                options,
                progress=events.report,
                on_layers=events.announce,
            )
        except cfsctl.DigestFormatError as error:
            raise CallError(OCI, "InvalidDigest", message=f"invalid expected_digest: {error}") from error
        if options.expected_boot_image is not None and result.boot_image is None:
            raise CallError(
                OCI, "BootImageMismatch", expected=options.expected_boot_image, tried=result.boot_tried
            )
        request.stream.send({"message": "Storing manifest"})
        config_id = repository.oci.inspect(str(result.manifest_digest)).config_stream
        return Reply({"completed": _describe(result, config_id, repository)})


def _make_options(request: Request) -> cfsctl.OciPullOptions:
    parameters = request.parameters
    bootable = bool(parameters.find_bool("bootable"))
    expected = parameters.find_string("expected_digest")
    xattrs = parameters.find_string("xattrs")
    if expected is not None and not bootable:
        raise CallError(OCI, "InvalidRequest", message="expected_digest requires bootable")
    if expected is not None and xattrs is not None:
        raise CallError(
            OCI,
            "InvalidRequest",
            message="expected_digest and xattrs are mutually exclusive: expected_digest searches every mode",
        )
    keep_user = xattrs == "KeepUserXattrs"
    return cfsctl.OciPullOptions(
        bootable=bootable,
        expected_boot_image=expected,
        boot_xattrs=cfsctl.XattrFilter.KEEP_USER if keep_user else cfsctl.XattrFilter.ALLOWLIST_ONLY,
        local_fetch=_LOCAL_FETCH.get(parameters.get_string("local_fetch"), "disabled"),
    )


def _find_source(request: Request) -> str:
    """Return the reference of the image; the call may say where its containers-storage is."""
    image = request.parameters.get_string("image")
    root = request.parameters.find_string("storage_root")
    transport, _, name = image.partition(":")
    if root is None or transport != "containers-storage" or name.startswith("["):
        return image
    return f"{transport}:[overlay@{root}]{name}"


class _Events:
    """Turns the progress of a pull into replies."""

    def __init__(self, stream: Stream, transport: str) -> None:
        self._stream = stream
        self._place = _TRANSPORTS.get(transport, transport)
        self._totals: dict[str, int | None] = {}
        self._done: dict[str, int] = {}

    def announce(self, layers: int) -> None:
        """Send how many layers there are."""
        self._stream.send({"message": f"Importing {layers} layers from {self._place}"})

    def report(self, event: cfsctl.Event) -> None:
        """Send one event."""
        match event:
            case cfsctl.Started(_, total, unit):
                self._totals[event.id] = total
                started = {"id": _name(event.id), "total": total, "unit": _UNITS[unit]}
                self._stream.send({"started": started})
            case cfsctl.Advanced(_, done, total):
                self._totals[event.id] = total
                self._done[event.id] = done
                self._stream.offer(_progress(event.id, done, total))
            case cfsctl.Skipped():
                self._stream.send({"skipped": {"id": _name(event.id)}})
            case cfsctl.Done(_, done):
                if self._done.pop(event.id, None) != done:
                    self._stream.send(_progress(event.id, done, self._totals.pop(event.id, None)))
                self._stream.send({"done": {"id": _name(event.id), "transferred": done}})
            case cfsctl.Message(text):
                self._stream.send({"message": text})
            case cfsctl.Waiting():
                pass


def _name(event_id: str) -> str:
    """Return what the interface calls something: layers by their digests alone."""
    return event_id.removeprefix("layer ")


def _progress(event_id: str, done: int, total: int | None) -> dict[str, object]:
    return {"progress": {"id": _name(event_id), "fetched": done, "total": total}}


def _describe(
    result: cfsctl.OciPullResult, config_id: cfsctl.ObjectID, repository: cfsctl.Repository
) -> dict[str, object]:
    mode = version = None
    if result.boot_image is not None:
        match = result.boot_match
        mode = (match.kind.xattr_filter if match is not None else result.boot_xattrs).value
        version = match.version if match is not None else repository.erofs_versions[0]
    return {
        "manifest_digest": str(result.manifest_digest),
        "config_digest": str(result.config_digest),
        "manifest_verity": result.manifest_id.hex(),
        "config_verity": config_id.hex(),
        "stats": result.counts.describe(),
        "boot_image": None if result.boot_image is None else result.boot_image.hex(),
        "boot_image_mode": mode,
        "boot_image_format_version": None if version is None else f"V{version.value}",
    }
