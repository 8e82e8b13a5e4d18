"""Fuzz what clients of the varlink service send: each call gets one reply that its interface allows.

    python fuzz/fuzz_varlink.py CORPUS [libFuzzer options]

Needs atheris. The first byte of an input chooses what it is: calls (c), an interface definition (i), or a
splitdirfdstream (d). Calls go to a small repository; those that write to paths of their own choice, start
processes or mount are left out.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["cfsctl"]):
    import cfsctl
    from cfsctl.dirfdstream import DirfdStreamError, StreamDecoder
    from cfsctl.varlink.channel import Channel
    from cfsctl.varlink.connection import Connection
    from cfsctl.varlink.idl import InterfaceError, parse_interface
    from cfsctl.varlink.interfaces import NAMES, load_interface
    from cfsctl.varlink.messages import MAX_MESSAGE_BYTES, MessageError, decode_call, decode_object
    from cfsctl.varlink.options import ServiceOptions
    from cfsctl.varlink.registry import HandleRecord, Owner, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY, OCI, SERVICE = NAMES
SAFE = {
    REPOSITORY: ("CloseRepository", "Fsck", "Gc", "ImageObjects", "ListImageRefs"),
    OCI: (
        "ListImages",
        "Check",
        "Inspect",
        "Tag",
        "Untag",
        "ComputeId",
        "GetInfo",
        "HasLayer",
        "PutLayer",
        "FinalizeImage",
    ),
    SERVICE: ("GetInfo", "GetInterfaceDescription"),
}
MAX_MESSAGES = 16
DIGEST = "sha256:" + "a" * 64
SEEDS: dict[str, dict[str, object]] = {
    f"{REPOSITORY}.Fsck": {"handle": 1, "metadata_only": True},
    f"{REPOSITORY}.Gc": {"handle": 1, "dry_run": True, "roots": ["plain", DIGEST]},
    f"{REPOSITORY}.ImageObjects": {"handle": 1, "name": "refs/plain"},
    f"{REPOSITORY}.ListImageRefs": {"handle": 1},
    f"{REPOSITORY}.CloseRepository": {"handle": 2},
    f"{OCI}.ListImages": {"handle": 1, "filter": "s"},
    f"{OCI}.Check": {"handle": 1, "image": "site"},
    f"{OCI}.Inspect": {"handle": 1, "image": "site"},
    f"{OCI}.Tag": {"handle": 1, "manifest_digest": DIGEST, "name": "a/b:c"},
    f"{OCI}.Untag": {"handle": 1, "name": "a/b:c"},
    f"{OCI}.ComputeId": {"handle": 1, "image": "site", "bootable": False, "xattrs": "KeepUserXattrs"},
    f"{OCI}.HasLayer": {"handle": 1, "diff_id": DIGEST},
    f"{OCI}.PutLayer": {"handle": 1, "diff_id": DIGEST, "zerocopy": True},
    f"{OCI}.FinalizeImage": {
        "handle": 1,
        "manifest_json": "{}",
        "config_json": "{}",
        "layers": [{"diff_id": DIGEST, "layer_verity": "ab" * 32}],
        "name": "new",
    },
    f"{SERVICE}.GetInfo": {},
    f"{SERVICE}.GetInterfaceDescription": {"interface": OCI},
}


class _NoSignals:
    """Ends nothing; see `cfsctl.varlink.signals.CallSignals`."""

    is_gone = is_ending = False

    @contextlib.contextmanager
    def interruptible(self, *, with_client: bool) -> Iterator[None]:  # noqa: ARG002 - as the other has it
        yield


class _Handles:
    """The handles of one owner, of whom there are no others; see `HandleStore`."""

    def __init__(self, path: str) -> None:
        self._registry = Registry()
        self._owner = Owner(0, lambda: False)
        status = os.stat(path)
        for _ in range(2):
            self.open(HandleRecord(path, status.st_dev, status.st_ino))

    def open(self, record: HandleRecord) -> int | None:
        return self._registry.open(self._owner, record)

    def find(self, handle: int) -> HandleRecord | None:
        return self._registry.find(self._owner, handle)

    def close(self, handle: int) -> bool:
        return self._registry.close(self._owner, handle)


@functools.cache
def _repository() -> str:
    directory = Path(tempfile.mkdtemp(prefix="cfsctl-fuzz-"))
    (directory / "tree" / "usr").mkdir(parents=True)
    (directory / "tree" / "usr" / "file").write_bytes(b"content" * 100)
    path = directory / "repository"
    with cfsctl.Repository.init(path, insecure=True, algorithm=cfsctl.Algorithm.SHA256) as made:
        made.oci.build(str(directory / "tree"), "site")
        made.create_image(directory / "tree", "plain")
    return os.fspath(path)


def one_input(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind == b"i":
        with contextlib.suppress(InterfaceError):
            parse_interface(rest.decode("latin-1"))
    elif kind == b"d":
        decoder = StreamDecoder()
        with contextlib.suppress(DirfdStreamError):
            for piece in decoder.feed(rest):
                assert len(piece) <= len(rest)
            decoder.finish()
    else:
        _check_calls(rest)


def _check_calls(data: bytes) -> None:
    # Nobody reads meanwhile, so the replies must fit into the buffer of the socket.
    messages = [message for message in data[: 1 << 15].split(b"\0")[:MAX_MESSAGES] if _is_safe(message)]
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"".join(message + b"\0" for message in messages))
        ours.shutdown(socket.SHUT_WR)
        channel = Channel(theirs.detach())
        try:
            Connection(channel, _Handles(_repository()), ServiceOptions(), _NoSignals()).run()  # type: ignore[arg-type]  # has what is used
        finally:
            channel.close()
        received = b""
        while piece := ours.recv(1 << 16):
            received += piece
    *replies, end = received.split(b"\0")
    assert end == b""
    assert len(replies) <= len(messages)
    for reply in replies:
        assert len(reply) <= MAX_MESSAGE_BYTES
        _check_reply(decode_object(reply))


def _is_safe(message: bytes) -> bool:
    try:
        call = decode_call(message)
    except MessageError:
        return True  # which the connection is to say
    interface, _, method = call.method.rpartition(".")
    return interface not in SAFE or method in SAFE[interface]


def _check_reply(reply: dict[str, object]) -> None:
    error = reply.get("error")
    if error is None:
        assert reply["continues"] is False
        return
    assert isinstance(error, str)
    assert isinstance(reply["parameters"], dict)
    interface, _, name = error.rpartition(".")
    load_interface(interface).check_error(name, reply["parameters"])
    assert "internal error" not in str(reply["parameters"].get("message")), reply


def seed(corpus: Path) -> None:
    """Put one input of each kind into a new corpus."""
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    for number, (method, parameters) in enumerate(SEEDS.items()):
        call = json.dumps({"method": method, "parameters": parameters}).encode()
        (corpus / f"call-{number}").write_bytes(b"c" + call + b"\0")
    (corpus / "interface").write_bytes(b"i" + load_interface(OCI).description.encode())
    (corpus / "stream").write_bytes(b"d\0\2\0\0\0ab\2" + struct.pack("<QII", 5, 1, 3) + b"x/y")


if __name__ == "__main__":
    for argument in sys.argv[1:2]:
        seed(Path(argument))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
