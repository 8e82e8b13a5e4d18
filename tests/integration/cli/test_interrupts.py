"""An interrupted command says what it keeps, leaves no process behind, and the next run goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cfsctl.ostree.objects import ObjectKind, loose_path
from tests.fakes.faulty_server import FaultyServer, drip, stall
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.oci import digest_of, directory, file, make_tar
from tests.support.programs import CFSCTL, cfsctl, run_cfsctl
from tests.support.waiting import has_ended, wait_until

REASONS = {signal.SIGINT: b"interrupted", signal.SIGTERM: b"ended by SIGTERM"}
SIGNALS = pytest.mark.parametrize("number", REASONS, ids=lambda number: number.name)
GO_ON = b"run the same command again to go on from there"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    cfsctl("init", "--insecure", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def served(tmp_path: Path) -> tuple[Path, list[str]]:
    """Return a repository and the paths of its files below it, the largest one first."""
    source = FakeOstreeRepository()
    files = {f"file-{number}": os.urandom(3000) for number in range(40)}
    source.commit({"usr": {**files, "large": os.urandom(2_000_000)}}, "ref")
    source.write(tmp_path / "ostree")
    stored = [key for key in source.objects if key[1] is ObjectKind.FILE]
    stored.sort(key=lambda key: len(source.objects[key]), reverse=True)
    return tmp_path / "ostree", [loose_path(*key) for key in stored]


def start(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [CFSCTL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | (env or {}),
    )


def children_of(pid: int) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(entry.name))
    return found


def end(process: subprocess.Popen[bytes], number: signal.Signals, kept: bytes) -> bytes:
    """Send the signal; check how the process ends, and that its workers do."""
    workers = children_of(process.pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 128 + number, err
    last = err.splitlines()[-1]
    assert last.startswith(b"cfsctl: " + REASONS[number] + b": "), err
    assert kept in last
    wait_until(lambda: all(map(has_ended, workers)))
    return out


@pytest.fixture(params=["pycurl", "requests"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "pycurl":
        pytest.importorskip("pycurl")
        return {}
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "pycurl.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": str(tmp_path / "without")}


@SIGNALS
def test_server_that_stops_answering(
    store: Path, served: tuple[Path, list[str]], transport: dict[str, str], number: signal.Signals
) -> None:
    root, files = served
    with FaultyServer(root) as server:
        silent = files[-3:]  # fewer than a process has connections
        for path in silent:
            server.on(f"/{path}", stall())
        process = start("--repo", store, "ostree", "pull", server.url, "ref", env=transport)

        def is_in_the_middle() -> bool:
            counts = [server.counts[f"/{path}"] for path in files]
            stored = [path for path in (store / "objects").rglob("*") if path.is_file()]
            return any(counts[-3:]) and len(stored) >= 8

        wait_until(is_in_the_middle, process)
        assert end(process, number, GO_ON) == b""
    with FaultyServer(root) as server:
        cfsctl("--repo", store, "ostree", "pull", server.url, "ref")
        fetched = sum(server.counts[f"/{path}"] for path in files)
    assert fetched < len(files)
    cfsctl("--repo", store, "fsck", "--deep")


MOMENTS = [round(random.Random(17).uniform(0.0, 0.9), 3) for _ in range(10)]
"""Seconds from when the program catches signals, before it has imported much, to waiting for the server."""


def catches_signals(process: subprocess.Popen[bytes]) -> bool:
    """Return whether it is the program that gets a signal; while Python starts, it is Python."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) & 1 << (signal.SIGTERM - 1))
    return False


@pytest.mark.parametrize("is_other", [False, pytest.param(True, marks=pytest.mark.deep)], ids=["", "other"])
@pytest.mark.parametrize("number", range(len(MOMENTS)))
def test_any_moment_of_a_pull_from_a_silent_server(
    tmp_path: Path, store: Path, served: tuple[Path, list[str]], number: int, *, is_other: bool
) -> None:
    """The exit status is that of an interrupt, and the next pull goes on."""
    root, files = served
    environment = {}
    if bool(number % 2) is not is_other:
        (tmp_path / "without").mkdir()
        (tmp_path / "without" / "pycurl.py").write_text("raise ImportError\n")
        environment["PYTHONPATH"] = str(tmp_path / "without")
    with FaultyServer(root) as server:
        for path in [f"/{file}" for file in files[10:]] or ["/summary"]:
            server.on(path, stall())
        process = start("--repo", store, "ostree", "pull", server.url, "ref", env=environment)
        wait_until(lambda: catches_signals(process), process)
        time.sleep(MOMENTS[number])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert out == b""
    assert err == b"" or GO_ON in err.splitlines()[-1]
    assert b"Traceback" not in err
    cfsctl("--repo", store, "ostree", "pull-local", root, "ref")
    cfsctl("--repo", store, "fsck", "--deep")


TIMED = {
    "silent server": ["ostree", "pull", "URL", "ref"],
    "list": ["ostree", "list-refs", "URL"],
    "lock": ["gc"],
}


@pytest.mark.parametrize("name", TIMED)
def test_time_limit(store: Path, served: tuple[Path, list[str]], name: str) -> None:
    with (
        FaultyServer(served[0]) as server,
        subprocess.Popen(["flock", "--shared", store, "cat"], stdin=subprocess.PIPE) as holder,
    ):
        server.on("/summary", stall())
        server.on("/config", stall())
        words = [word.replace("URL", server.url) for word in TIMED[name]]
        done = run_cfsctl("--repo", store, "--timeout", "3", *words)
        assert holder.stdin is not None
        holder.stdin.close()
    assert done.returncode == 124
    last = done.stderr.splitlines()[-1]
    assert last.startswith("cfsctl: not done within the time that --timeout gives")
    assert ("run the same command again" in last) is (name == "silent server")


def test_time_limit_as_json(store: Path, served: tuple[Path, list[str]]) -> None:
    with FaultyServer(served[0]) as server:
        server.on("/summary", stall())
        done = run_cfsctl("--repo", store, "--json", "--timeout=1", "ostree", "pull", server.url, "ref")
    document = json.loads(done.stderr)
    assert (document["kind"], document["exit_code"], done.returncode) == ("timeout", 124, 124)


def test_time_that_is_not_used_up(store: Path) -> None:
    assert run_cfsctl("--repo", store, "--timeout=1h", "images").returncode == 0
    assert run_cfsctl("--repo", store, "--timeout=0", "images").returncode == 0


@pytest.mark.parametrize("option", ["--stall-timeout=1", "--connect-timeout=1s"])
def test_patience_with_a_server(store: Path, transport: dict[str, str], option: str) -> None:
    with FaultyServer() as server:
        server.on("/config", stall())
        server.on("/summary", stall())
        retries = "0" if "stall" in option else "1"
        silent = run_cfsctl(
            *("--repo", store, "ostree", "pull", server.url, "ref", option, f"--retries={retries}"),
            *(() if "stall" in option else ("--stall-timeout=1",)),
            env=os.environ | transport,
        )
        assert max(server.counts.values()) == int(retries) + 1
    assert silent.returncode == 13


@pytest.mark.parametrize("option", ["--stall-timeout=0", "--connect-timeout=soon", "--retries=-1"])
def test_patience_that_cannot_be(option: str) -> None:
    for command in (["ostree", "pull", "http://x", "ref"], ["oci", "pull", "docker://x/y", "z"]):
        done = run_cfsctl(*command, option)
        assert done.returncode == 2
        assert option.partition("=")[0] in done.stderr


def test_one_large_file(store: Path, served: tuple[Path, list[str]]) -> None:
    root, files = served
    with FaultyServer(root) as server:
        server.on(f"/{files[0]}", drip((root / files[0]).read_bytes(), 0.05))
        process = start("--repo", store, "ostree", "pull", server.url, "ref")
        wait_until(lambda: server.counts[f"/{files[0]}"] > 0, process)
        end(process, signal.SIGINT, GO_ON)
    cfsctl("--repo", store, "ostree", "pull-local", root, "ref")


@pytest.mark.parametrize("path", ["/config", "/summary", "/refs/heads/ref"])
def test_server_that_is_silent_from_the_start(store: Path, served: tuple[Path, list[str]], path: str) -> None:
    with FaultyServer(served[0]) as server:
        server.on(path, stall())
        server.on("/summary", stall())
        process = start("--repo", store, "ostree", "pull", server.url, "ref")
        wait_until(lambda: server.counts.total() > 0, process)
        end(process, signal.SIGINT, GO_ON)


def test_interrupted_twice(store: Path, served: tuple[Path, list[str]]) -> None:
    root, files = served
    with FaultyServer(root) as server:
        for path in files:
            server.on(f"/{path}", stall())
        process = start("--repo", store, "ostree", "pull", server.url, "ref")
        wait_until(lambda: sum(server.counts[f"/{path}"] for path in files) > 2, process)
        process.send_signal(signal.SIGINT)
        end(process, signal.SIGINT, GO_ON)


def test_as_json(store: Path, served: tuple[Path, list[str]]) -> None:
    with FaultyServer(served[0]) as server:
        server.on("/summary", stall())
        process = start("--repo", store, "--json", "ostree", "pull", server.url, "ref")
        wait_until(lambda: server.counts.total() > 0, process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 143
    assert b'"kind": "interrupted"' in err
    assert b'"exit_code": 143' in err


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["create-image", "{tree}", "name"], b"files that were stored are kept"),
        (["copy", "image", "{other}"], GO_ON),
        (["fsck"], b"run it again"),
        (["gc"], b"only garbage was removed"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_other_commands(tmp_path: Path, store: Path, arguments: list[str], kept: bytes) -> None:
    """They are interrupted while they wait for a lock."""
    tree, other = tmp_path / "tree", tmp_path / "other"
    (tree / "usr").mkdir(parents=True)
    (tree / "usr" / "file").write_bytes(b"x" * 1000)
    cfsctl("init", "--insecure", other)
    cfsctl("--repo", store, "create-image", tree, "image")
    words = [word.format(tree=tree, other=other) for word in arguments]
    with subprocess.Popen(["flock", "--exclusive", store, "cat"], stdin=subprocess.PIPE) as holder:
        probe = ["flock", "--nonblock", "--shared", str(store), "true"]
        wait_until(lambda: subprocess.run(probe, check=False).returncode != 0, holder)
        process = start("--repo", store, *words)
        assert process.stderr is not None
        assert b"waiting" in process.stderr.readline()
        end(process, signal.SIGINT, kept)
        assert holder.stdin is not None
        holder.stdin.close()
    cfsctl("--repo", store, *words)


MEANWHILE = """
import os, signal, sys
from cfsctl.cli.main import main
name, number, calls = sys.argv[1], int(sys.argv[2]), 0
called = getattr(os, name)
def interrupted(*arguments, **options):
    global calls
    calls += 1
    result = called(*arguments, **options)
    if calls == 5:
        signal.raise_signal(number)
    return result
setattr(os, name, interrupted)
sys.argv[:] = ["cfsctl", *sys.argv[3:]]
sys.exit(main())
"""
"""Runs cfsctl, which gets a signal right after the fifth call of a function of the system."""

MIDDLES = {
    "gc": ("unlink", ["gc"], b"only garbage was removed"),
    "create-image": ("link", ["create-image", "tree", "new"], b"files that were stored are kept"),
    "copy": ("link", ["copy", "image", "other"], GO_ON),
    "import-layer": ("link", ["oci", "import-layer", "DIGEST", "name"], b"nothing got a name yet"),
    "fsck": ("scandir", ["fsck"], b"run it again"),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize("name", MIDDLES)
def test_in_the_middle_of_the_work(tmp_path: Path, store: Path, name: str, number: signal.Signals) -> None:
    function, words, kept = MIDDLES[name]
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    for index in range(30):
        (tmp_path / "tree" / "usr" / f"file{index}").write_bytes(b"%d" % index * 1000)
    layer = make_tar([directory("usr"), *(file(f"usr/{n}", b"%d" % n * 900) for n in range(30))])
    words = [digest_of(layer) if word == "DIGEST" else word for word in words]
    cfsctl("init", "--insecure", tmp_path / "other")
    cfsctl("--repo", store, "create-image", tmp_path / "tree", "image")
    if name == "gc":
        (store / "images" / "refs" / "image").unlink()
    elif name == "create-image":
        shutil.rmtree(store)
        cfsctl("init", "--insecure", store)
    done = subprocess.run(
        [sys.executable, "-c", MEANWHILE, function, str(int(number)), "--repo", store, *words],
        cwd=tmp_path,
        input=layer,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 128 + number, done.stderr
    assert done.stdout == b""
    assert kept in done.stderr.splitlines()[-1]
    for place in (store, tmp_path / "other"):
        cfsctl("--repo", place, "fsck", "--deep")
    cfsctl("--repo", store, *words, cwd=tmp_path, stdin=layer)
    if name == "gc":
        assert not [path for path in (store / "objects").glob("*/*") if path.is_file()]
