"""Programs hear of an operation several times a second and can end it, also while nothing arrives.

Without that, each of these would go on until a time-out of half a minute and end with its error.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

import cfsctl
from cfsctl.ostree.objects import ObjectKind, loose_path
from tests.fakes.faulty_server import FaultyServer, stall
from tests.fakes.ostree_repository import FakeOstreeRepository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.faulty_server import Exchange, Reaction

PROGRAM = """
import sys
if sys.argv[1] == "requests":
    sys.modules["cfsctl.http.curl"] = None
if "threaded" in sys.argv:  # such a process may not fork
    import threading
    threading.Thread(target=threading.Event().wait, daemon=True).start()
import cfsctl

class Ended(Exception): pass

heard = advanced = 0
def watch(event):
    global heard, advanced
    heard += isinstance(event, cfsctl.Waiting)
    advanced += isinstance(event, cfsctl.Advanced) and event.id == "files" and bool(event.size_bytes)
    if heard >= 5 and (advanced >= 3 or "advance" not in sys.argv):
        raise Ended

with cfsctl.Repository.open("store") as repository:
    try:
        if sys.argv[2] == "pull":
            repository.pull(sys.argv[3], "ref", progress=watch)
        elif sys.argv[2] == "list-refs":
            cfsctl.list_refs(sys.argv[3], progress=watch)
        else:
            options = cfsctl.RegistryOptions(verify_tls=False)
            repository.oci.pull(sys.argv[3], "name", registry=options, progress=watch)
    except Ended:
        print("ended")
"""
"""Ends what it does as soon as it has heard five times that it waits."""


@pytest.fixture(params=["curl", "requests"])
def transport(request: pytest.FixtureRequest) -> str:
    if request.param == "curl":
        pytest.importorskip("pycurl")
    return str(request.param)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    cfsctl.Repository.init(tmp_path / "store", insecure=True).close()
    return tmp_path


@pytest.fixture
def served(place: Path) -> tuple[Path, list[str]]:
    """Return a repository and the paths of its files below it, the largest one first."""
    source = FakeOstreeRepository()
    files = {f"file-{number}": os.urandom(3000) for number in range(5)}
    source.commit({"usr": {**files, "large": os.urandom(3_000_000)}}, "ref")
    source.write(place / "ostree")
    stored = [key for key in source.objects if key[1] is ObjectKind.FILE]
    stored.sort(key=lambda key: len(source.objects[key]), reverse=True)
    return place / "ostree", [loose_path(*key) for key in stored]


def run(place: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout == "ended\n", done.stderr
    assert done.returncode == 0


def is_sound(place: Path) -> bool:
    with cfsctl.Repository.open(place / "store") as repository:
        return repository.fsck(deep=True).is_ok


@pytest.mark.parametrize("verb", ["pull", "list-refs"])
def test_silent_from_the_start(
    place: Path, served: tuple[Path, list[str]], transport: str, verb: str
) -> None:
    with FaultyServer(served[0]) as server:
        for path in ("/summary", "/config", "/refs/heads/ref", "/summary.idx"):
            server.on(path, stall())
        run(place, transport, verb, server.url)


@pytest.mark.parametrize("way", ["forked", "threaded"])
def test_silent_in_the_middle(place: Path, served: tuple[Path, list[str]], transport: str, way: str) -> None:
    root, files = served
    with FaultyServer(root) as server:
        server.on(f"/{files[0]}", stall((root / files[0]).read_bytes()[:2_000_000], 3_000_000))
        run(place, transport, "pull", server.url, "advance", way)
    assert is_sound(place)
    with cfsctl.Repository.open(place / "store") as repository:
        assert repository.pull(root, "ref").tag == "ref"


@pytest.mark.parametrize("way", ["forked", "threaded"])
def test_large_object_that_travels(
    place: Path, served: tuple[Path, list[str]], transport: str, way: str
) -> None:
    root, files = served
    body = (root / files[0]).read_bytes()

    with FaultyServer(root) as server:
        server.on(f"/{files[0]}", drip_in_pieces(body))
        run(place, transport, "pull", server.url, "advance", way)
    assert is_sound(place)


def drip_in_pieces(body: bytes) -> Reaction:
    def react(exchange: Exchange) -> bool:
        exchange.send_head(200, {"Content-Length": str(len(body))})
        for start in range(0, len(body), 100_000):
            exchange.send(body[start : start + 100_000])
            if not exchange.wait(0.3):
                return False
        return True

    return react


@pytest.fixture
def deaf() -> Iterator[int]:
    """Return a port whose queue of connections is full, so that a further one takes forever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.settimeout(0)
            one.connect_ex(("127.0.0.1", port))
        yield port
        for one in waiting:
            one.close()


@pytest.mark.parametrize("verb", ["pull", "list-refs"])
def test_no_connection(place: Path, deaf: int, transport: str, verb: str) -> None:
    run(place, transport, verb, f"http://127.0.0.1:{deaf}/")


def test_silent_registry(place: Path, transport: str) -> None:
    with FaultyServer(place) as server:
        server.on("/v2/name/manifests/latest", stall())
        server.on("/v2/", stall())
        run(place, transport, "oci", f"docker://{server.url.removeprefix('http://')}/name:latest")


def test_lock_of_another(place: Path) -> None:
    events: list[cfsctl.Event] = []

    def watch(event: cfsctl.Event) -> None:
        events.append(event)
        if len(events) > 4:
            raise KeyError("enough")

    with subprocess.Popen(["flock", "--exclusive", place / "store", "cat"], stdin=subprocess.PIPE) as holder:
        probe = ["flock", "--nonblock", "--shared", str(place / "store"), "true"]
        while subprocess.run(probe, check=False).returncode == 0:
            time.sleep(0.01)
        with pytest.raises(KeyError, match="enough"):
            cfsctl.Repository.open(place / "store", progress=watch)
        assert holder.stdin is not None
        holder.stdin.close()
    assert isinstance(events[0], cfsctl.Message)
    assert {type(event) for event in events[1:]} == {cfsctl.Waiting}


def test_cancellation_from_another_thread(place: Path, served: tuple[Path, list[str]]) -> None:
    root, files = served
    events: list[cfsctl.Event] = []
    cancellation = cfsctl.Cancellation(events.append)
    with FaultyServer(root) as server:
        server.on(f"/{files[0]}", stall())

        def cancel() -> None:
            while not server.counts[f"/{files[0]}"]:
                time.sleep(0.01)
            cancellation.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with (
            cfsctl.Repository.open(place / "store") as repository,
            pytest.raises(cfsctl.CancelledError),
        ):
            repository.pull(server.url, "ref", progress=cancellation)
        thread.join()
    assert events
    with cfsctl.Repository.open(place / "store") as repository:
        with pytest.raises(cfsctl.CancelledError):
            repository.pull(root, "ref", progress=cancellation)
        assert repository.pull(root, "ref").tag == "ref"


def test_nobody_is_told_between_results(place: Path, served: tuple[Path, list[str]]) -> None:
    """What the caller does between two results of a generator is not part of the operation."""
    from cfsctl import heartbeat

    with cfsctl.Repository.open(place / "store") as repository:
        for _ in repository.pull_refs(served[0], ["ref"], progress=lambda _event: None):
            assert not heartbeat.is_watched()
    assert not heartbeat.is_watched()
