"""org.composefs.Repository."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import cfsctl
from cfsctl.varlink.calls import Reply
from cfsctl.varlink.errors import CallError
from cfsctl.varlink.interfaces import REPOSITORY
from cfsctl.varlink.methods.mounting import MountRequestError, find_layers, mount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.varlink.calls import Method, Request

_STATUS: Final = {
    cfsctl.InitStatus.CREATED: "Created",
    cfsctl.InitStatus.UPGRADED: "Upgraded",
}


def _fail(error: str, **parameters: object) -> CallError:
    return CallError(REPOSITORY, error, **parameters)


def _init_repository(request: Request) -> Reply:
    algorithm = _find_algorithm(request) or cfsctl.Algorithm.SHA512
    status = cfsctl.init_repository(
        request.parameters.get_string("path"),
        algorithm=algorithm,
        insecure=_is_insecure(request),
        lock_timeout_s=request.options.lock_timeout_s,
    )
    return Reply({"created": status is cfsctl.InitStatus.CREATED})


def _ensure_repository(request: Request) -> Reply:
    path = request.parameters.get_string("path")
    algorithm = _find_algorithm(request)
    if algorithm is None:
        found = _find_existing(path)
        if found is not None:
            return Reply({"status": found})
    status = cfsctl.init_repository(
        path,
        algorithm=algorithm or cfsctl.Algorithm.SHA512,
        insecure=_is_insecure(request),
        exist_ok=True,
        lock_timeout_s=request.options.lock_timeout_s,
    )
    return Reply({"status": _STATUS.get(status, "Opened")})


def _find_existing(path: str) -> str | None:
    """Return the result of opening a repository of any algorithm, or None if there is none."""
    for may_upgrade, status in ((False, "Opened"), (True, "Upgraded")):
        try:
            cfsctl.Repository.open(path, upgrade=may_upgrade).close()
        except cfsctl.NotARepositoryError:
            continue
        return status
    return None


def _find_algorithm(request: Request) -> cfsctl.Algorithm | None:
    text = request.parameters.find_string("algorithm")
    for algorithm in cfsctl.Algorithm:
        if algorithm.label == text:
            return algorithm
    if text is None:
        return None
    labels = " or ".join(algorithm.label for algorithm in cfsctl.Algorithm)
    raise _fail("InvalidSpec", message=f"invalid algorithm: expected {labels}, found {text}")


def _is_insecure(request: Request) -> bool:
    chosen = request.parameters.find_bool("insecure")
    return request.options.insecure if chosen is None else chosen


def _open_repository(request: Request) -> Reply:
    path = _choose_path(request)
    try:
        with request.handles.open(path) as (handle, repository):
            return Reply(
                {
                    "handle": handle,
                    "hash_algorithm": repository.algorithm.hash_name,
                    "objects_device_id": _find_device(repository),
                }
            )
    except cfsctl.NotARepositoryError as error:
        raise _fail("RepoNotFound", message=str(error)) from error


def _choose_path(request: Request) -> str:
    path = request.parameters.find_string("path")
    is_user = bool(request.parameters.find_bool("user"))
    is_system = bool(request.parameters.find_bool("system"))
    if (path is not None) + is_user + is_system != 1:
        raise _fail("InvalidSpec", message="exactly one of `path`, `user`, `system` must be set")
    if path is not None:
        return path
    return cfsctl.find_user_repository(os.environ) if is_user else cfsctl.SYSTEM_REPOSITORY


def _find_device(repository: cfsctl.Repository) -> int:
    try:
        return os.stat(os.path.join(repository.path, "objects")).st_dev
    except OSError:  # none yet
        return repository.identity[0]


def _close_repository(request: Request) -> None:
    request.handles.close(request.handle)


def _fsck(request: Request) -> Reply:
    metadata_only = bool(request.parameters.find_bool("metadata_only"))
    with request.handles.use(request.handle) as repository:
        return Reply(repository.fsck(metadata_only=metadata_only).as_dict())


def _gc(request: Request) -> Reply:
    dry_run = bool(request.parameters.find_bool("dry_run"))
    wanted = request.parameters.get_list_of_strings("roots")
    with request.handles.use(request.handle) as repository:
        result = repository.gc(
            extra_roots=_find_roots(repository, [*wanted, *request.handles.list_roots(repository)]),
            dry_run=dry_run,
            lock_timeout_s=request.options.lock_timeout_s,
        )
    if not result.is_complete:
        raise _fail("InternalError", message="; ".join(result.problems) or "the collection is not complete")
    counts = {
        "objects_removed": result.objects_removed,
        "objects_bytes": result.bytes_removed,
        "images_pruned": result.images_pruned,
        "streams_pruned": result.streams_pruned,
    }
    return Reply({"result": counts, "dry_run": dry_run})


def _find_roots(repository: cfsctl.Repository, names: Iterable[str]) -> list[str]:
    """Return the roots that exist; others are ignored, as composefs-rs does."""
    return [name for name in names if repository.has_root(name)]


def _image_objects(request: Request) -> Reply:
    name = request.parameters.get_string("name")
    with request.handles.use(request.handle) as repository:
        try:
            found = repository.image_objects(name)
        except cfsctl.RefNotFoundError as error:
            raise _fail("NoSuchRef", reference=name) from error
        prefix = repository.algorithm.hash_name
    return Reply({"object_ids": [f"{prefix}:{object_id.hex()}" for object_id in found]})


def _list_image_refs(request: Request) -> Reply:
    with request.handles.use(request.handle) as repository:
        images = repository.images()
    return Reply({"images": [{"name": name, "digest": found.hex()} for name, found in images.items()]})


def _mount(request: Request) -> Reply:
    name = request.parameters.get_string("name")
    with request.handles.use(request.handle) as repository:
        try:
            layer = find_layers(request)
        except MountRequestError as error:
            raise _fail("InvalidSpec", message=str(error)) from error
        return mount(request, repository, name, layer)


METHODS: Final[dict[str, Method]] = {
    "InitRepository": _init_repository,
    "EnsureRepository": _ensure_repository,
    "OpenRepository": _open_repository,
    "CloseRepository": _close_repository,
    "Fsck": _fsck,
    "Gc": _gc,
    "ImageObjects": _image_objects,
    "ListImageRefs": _list_image_refs,
    "Mount": _mount,
}
