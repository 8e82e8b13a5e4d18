"""Layers that go from one repository to another, and streams that lie."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cfsctl
from cfsctl.dirfdstream import encode_inline, encode_reference
from tests.support.programs import run_cfsctl
from tests.support.varlink import OCI, REPOSITORY
from tests.support.waiting import has_ended, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.varlink import Answer, Client, Service


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    cfsctl.init_repository(path, insecure=True, algorithm=cfsctl.Algorithm.SHA256)
    return path


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    fds = os.pipe()
    yield fds
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue


def inspect(client: Client, handle: int) -> tuple[str, str, str]:
    """Return manifest, config and the digest of the only layer of an image."""
    found = client.call(f"{OCI}.Inspect", handle=handle, image="site").parameters
    (diff_id,) = json.loads(found["config"])["rootfs"]["diff_ids"]
    return found["manifest"], found["config"], diff_id


def get_layer(client: Client, handle: int, diff_id: str) -> Answer:
    return client.call(f"{OCI}.GetLayer", more=True, handle=handle, params={"diff_id": diff_id})


def put_layer(client: Client, handle: int, diff_id: str, data: bytes, directories: Sequence[int]) -> Answer:
    read, write = os.pipe()
    sender = threading.Thread(target=_send, args=(write, data))
    sender.start()
    answer = client.call(
        f"{OCI}.PutLayer", fds=[read, *directories], handle=handle, diff_id=diff_id, zerocopy=False
    )
    os.close(read)
    sender.join()
    return answer


def _send(fd: int, data: bytes) -> None:
    try:
        with open(fd, "wb", buffering=0) as pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass


def test_an_image_goes_to_another_repository(client: Client, repository: Path, target: Path) -> None:
    source, sink = client.open(repository), client.open(target)
    manifest, config, diff_id = inspect(client, source)
    got = get_layer(client, source, diff_id)
    data, *rest = got.all_fds()
    directories = rest[: got.last["parameters"]["dir_count"]]
    put = client.call(
        f"{OCI}.PutLayer", fds=[data, *directories], handle=sink, diff_id=diff_id, zerocopy=False
    ).parameters
    for fd in got.all_fds():
        os.close(fd)
    assert (put["already_present"], put["objects_already_present"]) == (False, 0)
    assert put["objects_hardlinked"] + put["objects_reflinked"] + put["objects_copied"] == 1
    # No image has the layer yet, and nobody may collect it.
    locked = run_cfsctl("--repo", target, "--lock-timeout", "0", "gc")
    assert locked.returncode == 11
    client.call(f"{REPOSITORY}.Gc", handle=sink, dry_run=False, roots=[])
    layers = [{"diff_id": diff_id, "layer_verity": put["layer_verity"]}]
    arguments: dict[str, Any] = {"manifest_json": manifest, "config_json": config, "layers": layers}
    done = client.call(f"{OCI}.FinalizeImage", handle=sink, name="copied", **arguments).parameters
    assert done["config_digest"] == f"sha256:{hashlib.sha256(config.encode()).hexdigest()}"
    assert run_cfsctl("--repo", target, "--lock-timeout", "0", "gc").returncode == 0
    for handle, name in ((source, "site"), (sink, "copied")):
        assert client.call(f"{OCI}.Check", handle=handle, image=name).parameters["ok"]
    ids = [
        client.call(f"{OCI}.ComputeId", handle=handle, image=name, bootable=False).parameters
        for handle, name in ((source, "site"), (sink, "copied"))
    ]
    assert ids[0] == ids[1]


def test_a_layer_that_nobody_reads_keeps_nothing_running(
    service: Service, client: Client, repository: Path
) -> None:
    handle = client.open(repository)
    got = get_layer(client, handle, inspect(client, handle)[2])
    (pid,) = service.processes()
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for fd in got.all_fds():
        os.close(fd)
    wait_until(lambda: all(has_ended(child) for child in children.read_text().split()))


def test_a_layer_can_be_read_after_its_connectionhas_ended(service: Service, repository: Path) -> None:
    with service.connect() as client:
        handle = client.open(repository)
        diff_id = inspect(client, handle)[2]
        got = get_layer(client, handle, diff_id)
    data, *rest = got.all_fds()
    with open(data, "rb") as stream:
        assert stream.read()
    for fd in rest:
        os.close(fd)
    wait_until(lambda: not service.processes())


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "file").write_bytes(b"x" * 1000)
    (shared / "link").symlink_to("file")
    (shared / "out").symlink_to("/etc/passwd")
    (shared / "directory").mkdir()
    os.mkfifo(shared / "fifo")
    fd = os.open(shared, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


HOSTILE = {
    "absolute": encode_reference(10, 0, b"/etc/passwd"),
    "parent": encode_reference(10, 0, b"../secret"),
    "link": encode_reference(1000, 0, b"link"),
    "link-out": encode_reference(10, 0, b"out"),
    "magic-link": encode_reference(10, 0, b"directory/../../../proc/self/exe"),
    "directory": encode_reference(10, 0, b"directory"),
    "fifo": encode_reference(10, 0, b"fifo"),
    "missing": encode_reference(10, 0, b"missing"),
    "nul": encode_reference(10, 0, b"fi\0le"),
    "other-size": encode_reference(999, 0, b"file"),
    "no-such-directory": encode_reference(10, 1, b"file"),
    "huge": encode_reference((1 << 63) - 1, 0, b"file"),
    "not-an-archive": encode_reference(1000, 0, b"file"),
    "cut": struct.pack("<BI", 0, 100),
    "long-piece": struct.pack("<BI", 0, (256 << 20) + 1),
    "garbage": b"garbage",
    "other-layer": b"".join(map(bytes, encode_inline(bytes(1024)))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_streams_that_lie_store_no_layer(client: Client, target: Path, directory: int, name: str) -> None:
    handle = client.open(target)
    diff_id = f"sha256:{'1' * 64}"
    answer = put_layer(client, handle, diff_id, HOSTILE[name], [directory])
    assert answer.error == f"{OCI}.{'DiffIdMismatch' if name == 'other-layer' else 'InternalError'}"
    assert "internal error" not in answer.last["parameters"].get("message", "")
    assert client.call(f"{OCI}.HasLayer", handle=handle, diff_id=diff_id).parameters["present"] is False
    assert run_cfsctl("--repo", target, "--lock-timeout", "0", "fsck").returncode == 0


def test_nothing_is_stored_of_an_image_that_is_not_whole(
    client: Client, repository: Path, target: Path
) -> None:
    manifest, config, diff_id = inspect(client, client.open(repository))
    handle = client.open(target)
    good: dict[str, Any] = {"handle": handle, "manifest_json": manifest, "config_json": config, "name": "new"}
    layer = {"diff_id": diff_id, "layer_verity": "00" * 32}
    changes: list[dict[str, Any]] = [
        {"layers": []},
        {"layers": [layer]},
        {"layers": [layer], "config_json": config + " "},
        {"layers": [layer], "manifest_json": "{"},
        {"layers": [layer], "config_json": "[]"},
        {"layers": [layer], "name": "@x"},
    ]
    for changed in changes:
        answer = client.call(f"{OCI}.FinalizeImage", **(good | changed))
        assert answer.error == f"{OCI}.InternalError"
    assert not (target / "streams").exists() or not list((target / "streams").glob("oci-*"))
    assert client.call(f"{OCI}.Check", handle=handle).parameters["ok"]


def test_a_client_can_end_a_wait_for_the_lock(service: Service, repository: Path) -> None:
    with cfsctl.Repository.open(repository):
        client = service.connect()
        handle = client.open(repository)
        parameters = {"handle": handle, "dry_run": False, "roots": []}
        client.send({"method": f"{REPOSITORY}.Gc", "parameters": parameters})
        with service.connect() as other:
            assert other.call(f"{OCI}.ListImages", handle=other.open(repository)).parameters["images"]
        client.close()
        wait_until(lambda: not service.processes())
