"""The service as a process: handles, concurrency, ends of calls, and its own end."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import stat
import subprocess
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cfsctl
from tests.support.programs import CFSCTL, run_cfsctl
from tests.support.varlink import (
    OCI,
    REPOSITORY,
    SERVICE,
    TIMEOUT_S,
    Client,
    passed_service,
    running_service,
    start_passed,
    wait_for_gone,
)
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.varlink import Service


# handles


def test_a_handle_belongs_to_its_connection(service: Service, client: Client, repository: Path) -> None:
    handle = client.open(repository)
    with service.connect() as other:
        refused = other.call(f"{REPOSITORY}.ListImageRefs", handle=handle)
        assert refused.error == f"{REPOSITORY}.InvalidHandle"
        assert refused.last["parameters"] == {"handle": handle}
        assert other.call(f"{REPOSITORY}.CloseRepository", handle=handle).error.endswith("InvalidHandle")
        assert other.open(repository) == handle + 1
    assert client.call(f"{REPOSITORY}.ListImageRefs", handle=handle).parameters["images"]


def test_the_next_connection_may_go_on_with_a_handle(service: Service, repository: Path) -> None:
    with service.connect() as first:
        handle = first.open(repository)
    # As varlinkctl does it; nothing waits for the service to notice that the first connection has ended.
    with service.connect() as second:
        assert second.call(f"{OCI}.ListImages", handle=handle).parameters["images"]
        with service.connect() as third:
            assert third.call(f"{OCI}.ListImages", handle=handle).error.endswith("InvalidHandle")
        assert second.call(f"{REPOSITORY}.CloseRepository", handle=handle).last == {"continues": False}
    with service.connect() as last:
        assert last.call(f"{OCI}.ListImages", handle=handle).error.endswith("InvalidHandle")


def test_open_handles_keep_nobody_from_collecting_garbage(client: Client, repository: Path) -> None:
    handles = [client.open(repository) for _ in range(3)]
    outside = run_cfsctl("--repo", repository, "--lock-timeout", "0", "gc")
    assert outside.returncode == 0, outside.stderr
    collected = client.call(f"{REPOSITORY}.Gc", handle=handles[0], dry_run=False, roots=[])
    assert "error" not in collected.last


def test_a_collection_does_not_wait_for_handles_of_others(
    service: Service, client: Client, repository: Path
) -> None:
    mine = client.open(repository)
    with service.connect() as other:
        other.open(repository)
        assert "result" in client.call(f"{REPOSITORY}.Gc", handle=mine, dry_run=False, roots=[]).parameters


def test_roots_are_kept_and_those_that_do_not_exist_ignored(client: Client, repository: Path) -> None:
    with cfsctl.Repository.open(repository) as opened:
        image = str(opened.find_image("plain"))
        opened.remove_image("plain")
        opened.oci.untag("site")
    handle = client.open(repository)
    arguments: dict[str, Any] = {"handle": handle, "dry_run": False, "roots": [image, "no-such-root"]}
    client.call(f"{REPOSITORY}.Gc", **arguments)
    assert client.call(f"{REPOSITORY}.ImageObjects", handle=handle, name=image).parameters["object_ids"]


def test_a_directory_that_was_replaced_is_noticed(client: Client, repository: Path) -> None:
    handle = client.open(repository)
    repository.rename(repository.with_name("moved"))
    cfsctl.init_repository(repository, insecure=True)
    answer = client.call(f"{REPOSITORY}.Fsck", handle=handle)
    assert answer.error == f"{REPOSITORY}.InternalError"
    assert "no longer the repository" in answer.last["parameters"]["message"]


def test_a_connection_cannot_have_any_number_of_handles(client: Client, repository: Path) -> None:
    for _ in range(1000):
        client.open(repository)
    answer = client.call(f"{REPOSITORY}.OpenRepository", path=os.fspath(repository))
    assert answer.error == f"{REPOSITORY}.InternalError"


# concurrency


def test_a_long_call_keeps_no_other_waiting(
    service: Service, client: Client, repository: Path, tmp_path: Path
) -> None:
    handle = client.open(repository)
    read, write = os.pipe()  # a layer that does not come
    fds = [read, os.open(tmp_path, os.O_RDONLY)]
    parameters = {"handle": handle, "diff_id": f"sha256:{'1' * 64}", "zerocopy": False}
    client.send({"method": f"{OCI}.PutLayer", "parameters": parameters}, fds)
    with service.connect() as other:
        assert other.call(f"{OCI}.ListImages", handle=other.open(repository)).parameters["images"]
    os.close(write)
    answer, _ = client.receive()
    assert answer is not None
    assert answer["error"] == f"{OCI}.DiffIdMismatch"
    for fd in fds:
        os.close(fd)


def test_calls_that_come_together_are_answered_in_order(client: Client, repository: Path) -> None:
    handle = client.open(repository)
    for number in range(50):
        client.send({"method": f"{REPOSITORY}.CloseRepository", "parameters": {"handle": 1000 + number}})
    for number in range(50):
        answer, _ = client.receive()
        assert answer == {"error": f"{REPOSITORY}.InvalidHandle", "parameters": {"handle": 1000 + number}}
    assert client.call(f"{REPOSITORY}.CloseRepository", handle=handle).last == {"continues": False}


def test_calls_without_reply_are_performed(service: Service, client: Client, repository: Path) -> None:
    handle = client.open(repository)
    parameters = {"handle": handle, "name": "site"}
    client.send({"method": f"{OCI}.Untag", "parameters": parameters, "oneway": True})
    client.send({"method": f"{OCI}.Nonsense", "parameters": parameters, "oneway": True})
    assert client.call(f"{OCI}.ListImages", handle=handle).parameters["images"] == []
    with service.connect() as other:
        mine = other.open(repository)
        digest = str(cfsctl.Repository.open(repository).oci.inspect(_digest_of(repository)).digest)
        parameters = {"handle": mine, "manifest_digest": digest, "name": "again"}
        other.send({"method": f"{OCI}.Tag", "parameters": parameters, "oneway": True})
    # The client has gone without waiting, which it never does for such a call.
    wait_until((repository / "streams" / "refs" / "oci" / "again").is_symlink)


def _digest_of(repository: Path) -> str:
    (name,) = (path.name for path in (repository / "streams").glob("oci-manifest-*"))
    return "@" + name.removeprefix("oci-manifest-")


def test_an_upgrade_is_refused(client: Client) -> None:
    answer = client.request({"method": f"{SERVICE}.GetInfo", "upgrade": True})
    assert answer.error == f"{SERVICE}.MethodNotImplemented"
    assert "interfaces" in client.call(f"{SERVICE}.GetInfo").parameters


# the end of a call


def test_a_call_ends_with_its_client(service: Service, repository: Path, tmp_path: Path) -> None:
    client = service.connect()
    handle = client.open(repository)
    read, write = os.pipe()
    fds = [read, os.open(tmp_path, os.O_RDONLY)]
    parameters = {"handle": handle, "diff_id": f"sha256:{'1' * 64}", "zerocopy": False}
    client.send({"method": f"{OCI}.PutLayer", "parameters": parameters}, fds)
    for fd in fds:
        os.close(fd)
    with service.connect() as other:  # answered, so the first call runs: it came before
        other.call(f"{SERVICE}.GetInfo")
    client.close()
    # Nobody has the pipe open any more once the call has ended.
    wait_until(lambda: _is_broken(write))
    wait_until(lambda: not service.processes())
    os.close(write)
    locked = run_cfsctl("--repo", repository, "--lock-timeout", "0", "gc")
    assert locked.returncode == 0, locked.stderr


def _is_broken(write: int) -> bool:
    try:
        os.write(write, b"\0\0\0\0\0")  # an empty piece
    except BrokenPipeError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_service_ends_cleanly(tmp_path: Path, repository: Path, number: signal.Signals) -> None:
    with running_service(tmp_path) as service, service.connect() as idle, service.connect() as busy:
        idle.open(repository)
        handle = busy.open(repository)
        read, write = os.pipe()
        fds = [read, os.open(tmp_path, os.O_RDONLY)]
        parameters = {"handle": handle, "diff_id": f"sha256:{'1' * 64}", "zerocopy": False}
        busy.send({"method": f"{OCI}.PutLayer", "parameters": parameters}, fds)
        children = service.processes()
        assert len(children) == 2
        assert service.stop(number) == 0
        assert not service.address.exists()
        for client in (idle, busy):
            wait_for_gone(client.socket)
        for pid in children:
            assert not Path(f"/proc/{pid}").exists()
        for fd in (*fds, write):
            os.close(fd)


def test_messages_that_are_no_calls_end_the_connection_and_no_other(service: Service, client: Client) -> None:
    for data in (b"nonsense\0", b"[]\0", b"\xff\0", b"{" * 100_000 + b"\0", b'{"a":NaN}\0'):
        with service.connect() as bad:
            bad.socket.sendall(data)
            wait_for_gone(bad.socket)
    answer = client.request({"method": 1})
    assert answer.last == {"error": f"{SERVICE}.InvalidParameter", "parameters": {"parameter": "method"}}
    assert "interfaces" in client.call(f"{SERVICE}.GetInfo").parameters


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_name_can_have_is_refused(client: Client, text: str) -> None:
    refused = client.call(f"{REPOSITORY}.OpenRepository", path=text)
    assert refused.last == {"error": f"{SERVICE}.InvalidParameter", "parameters": {"parameter": "path"}}
    refused = client.call(f"{REPOSITORY}.InitRepository", path="/nowhere", algorithm=text, insecure=True)
    assert refused.last == {"error": f"{SERVICE}.InvalidParameter", "parameters": {"parameter": "algorithm"}}


def test_a_message_without_end_is_refused(service: Service) -> None:
    with service.connect() as bad, pytest.raises(OSError):  # noqa: PT011 - broken pipe, or reset
        bad.socket.sendall(b"x" * (64 << 20))


def test_a_reader_that_is_slow_gets_all(service: Service, client: Client, repository: Path) -> None:
    handle = client.open(repository)
    count = 20_000
    requests = [{"method": f"{SERVICE}.GetInterfaceDescription", "parameters": {"interface": OCI}}] * count

    def send() -> None:
        for request in requests:
            client.send(request)

    sender = threading.Thread(target=send)
    sender.start()
    (pid,) = service.processes()
    # Nothing is read until the buffers of the socket are full: then the service waits, and stores nothing.
    wait_until(lambda: _unread_bytes(client.socket) > 100_000)
    for _ in range(count):
        answer, _ = client.receive()
        assert answer is not None
        assert answer["parameters"]["description"].startswith(f"interface {OCI}")
    sender.join()
    status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    assert int(peak.split()[1]) < 200 << 10
    assert client.call(f"{REPOSITORY}.CloseRepository", handle=handle).last == {"continues": False}


def _unread_bytes(connection: socket.socket) -> int:
    found = array.array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, found)
    return found[0]


# the socket


def test_only_the_owner_can_connect(service: Service) -> None:
    mode = os.lstat(service.address).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_an_old_socket_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    address = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(os.fspath(address))
    with running_service(tmp_path) as service:
        with service.connect() as client:
            assert "interfaces" in client.call(f"{SERVICE}.GetInfo").parameters
        second = run_cfsctl("varlink", "--address", address)
        assert second.returncode == 1
        assert "Address already in use" in second.stderr
        with service.connect() as client:
            client.call(f"{SERVICE}.GetInfo")
    address.write_text("precious")
    third = run_cfsctl("varlink", "--address", address)
    assert third.returncode == 1
    assert address.read_text() == "precious"


def test_a_service_that_was_killed_leaves_a_socket_that_the_next_replaces(tmp_path: Path) -> None:
    with running_service(tmp_path) as first:
        first.process.kill()
        first.process.wait(TIMEOUT_S)
        assert first.address.exists()
        with running_service(tmp_path) as second, second.connect() as client:
            client.call(f"{SERVICE}.GetInfo")
        assert not second.address.exists()


def test_of_services_that_start_together_one_has_the_socket(tmp_path: Path) -> None:
    address = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(os.fspath(address))
    command = [os.fspath(CFSCTL), "varlink", "--address", os.fspath(address)]
    several = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    lines = {}
    for process in several:
        assert process.stderr is not None
        lines[process.pid] = process.stderr.readline()
    serving = [process for process in several if b"serving" in lines[process.pid]]
    assert len(serving) == 1, lines
    with Client.connect(address) as client:
        client.call(f"{SERVICE}.GetInfo")
    for process in several:
        process.terminate()
        with process:
            process.wait(TIMEOUT_S)
    assert not address.exists()


def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    with running_service(directory):
        fd = os.open(directory, os.O_PATH)
        with Client.connect(f"/proc/self/fd/{fd}/socket") as client:
            client.call(f"{SERVICE}.GetInfo")
        os.close(fd)


@pytest.mark.parametrize("address", ["", "unix:", "@name", "missing/socket", "directory/", "tcp:[::1]:80"])
def test_addresses_that_cannot_be(tmp_path: Path, address: str) -> None:
    done = run_cfsctl("varlink", "--address", address, cwd=tmp_path)
    assert done.returncode in {2, 17}
    assert "varlink address" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.listdir(tmp_path)


# other ways to start


@pytest.mark.parametrize("arguments", [[], ["varlink"], ["oci", "varlink"]])
def test_a_connection_that_is_passed_on_is_served(repository: Path, arguments: list[str]) -> None:
    ours, theirs = socket.socketpair()
    process = start_passed(arguments, theirs.fileno())
    theirs.close()
    with Client(ours) as client, process:
        assert client.open(repository) == 1
        client.close()
        assert process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize("names", [None, "varlink", "varlink:other"])
def test_a_socket_that_is_passed_on_is_served(tmp_path: Path, repository: Path, names: str | None) -> None:
    with passed_service(tmp_path, [], names) as address:
        with Client.connect(address) as client:
            handle = client.open(repository)
        with Client.connect(address) as client:
            assert client.call(f"{REPOSITORY}.Fsck", handle=handle).parameters["ok"]
    assert address.exists()  # it belongs to whoever made it


def test_what_is_passed_on_must_be_a_socket(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with start_passed([], fd) as process:
        assert process.stderr is not None
        assert b"expected a socket" in process.stderr.read()
        assert process.wait(TIMEOUT_S) == 1
    os.close(fd)


def test_descriptors_for_another_process_are_left_alone() -> None:
    environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    done = run_cfsctl("varlink", env=environment)
    assert done.returncode == 1
    assert "no --address given and not socket-activated" in done.stderr


def test_standard_input_and_output_are_a_connection(repository: Path) -> None:
    requests = (
        b'{"method":"org.composefs.Repository.OpenRepository","parameters":{"path":"%s"}}\0'
        b'{"method":"org.composefs.Repository.Fsck","parameters":{"handle":1}}\0'
        b'{"method":"org.composefs.Repository.Mount","parameters":{"handle":1,"name":"plain","options":{}}}\0'
    ) % os.fsencode(repository)
    done = subprocess.run(
        [CFSCTL, "varlink", "--stdio"], input=requests, capture_output=True, check=True, timeout=TIMEOUT_S
    )
    opened, checked, mounted, end = done.stdout.split(b"\0")
    assert b'"handle":1' in opened
    assert b'"ok":true' in checked
    assert b"InvalidSpec" in mounted  # a pipe cannot pass the mount
    assert end == b""


@pytest.mark.parametrize("arguments", [[], ["varlink"]])
def test_varlinkctl_starts_it_through_ssh(arguments: list[str]) -> None:
    done = subprocess.run(
        [CFSCTL, *arguments],
        input=b'{"method":"org.varlink.service.GetInfo"}\0',
        env={**os.environ, "SYSTEMD_VARLINK_LISTEN": "-"},
        capture_output=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    assert b'"product":"cfsctl"' in done.stdout


def test_nowhere_to_serve() -> None:
    done = run_cfsctl("varlink")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: no --address given and not socket-activated")
    both = run_cfsctl("varlink", "--stdio", "--address", "x")
    assert both.returncode == 2
