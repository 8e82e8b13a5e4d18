"""The recorded calls, one after the other on one connection."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.oci import unpack
from tests.support.programs import run_cfsctl
from tests.support.varlink import OCI, REPOSITORY, SERVICE, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.varlink import Answer, Client

VECTORS = Path(__file__).parents[2] / "vectors" / "varlink"
CALLS: list[dict[str, Any]] = json.loads((VECTORS / "calls.json").read_text())

INVALID = f"{SERVICE}.InvalidParameter"

MALFORMED = {
    "unknown-method": (f"{SERVICE}.MethodNotFound", {"method": f"{REPOSITORY}.Nope"}),
    "unknown-interface": (f"{SERVICE}.MethodNotFound", {"method": "org.foo.Bar"}),
    "missing-param": (INVALID, {"parameter": "handle"}),
    "missing-params": (INVALID, {"parameter": "handle"}),
    "wrong-type": (INVALID, {"parameter": "handle"}),
    "neg": (INVALID, {"parameter": "handle"}),
    "pull-missing-fields": (INVALID, {"parameter": "local_fetch"}),
    "computeid-badx": (INVALID, {"parameter": "xattrs"}),
    "computeid-nobootable": (INVALID, {"parameter": "bootable"}),
    "gc-noroots": (INVALID, {"parameter": "roots"}),
    "mount-noopts": (INVALID, {"parameter": "options"}),
}
"""Calls after which the original closes the connection, and the standard error that we answer with."""

EQUAL_TO = {
    "service-info-empty-object": "service-info",
    "oci-getinfo-empty-object": "oci-getinfo",
    "inspect-digest": "inspect",
    "inspect-config-digest": "inspect",
    "computeid-manifest-digest": "computeid",
    "computeid-config-digest": "computeid",
}
"""Calls that the original refuses, and the one whose answer they get."""

DIFFERENT = {
    "ensure-existing-null": {"parameters": {"status": "Opened"}, "continues": False},
    "tag-missing": {"error": f"{OCI}.NoSuchImage", "parameters": {"image": f"sha256:{'0' * 64}"}},
}
"""Calls whose recorded result is a fault: see docs/reference/varlink.md."""

UNSTABLE = {
    "objects_device_id",
    "manifest_verity",
    "config_verity",
    "message",
    "objects_bytes",
    "objects_removed",  # leftovers of streams that the original writes twice, or under a wrong name
    "streams_pruned",
    "objects_checked",
}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Answer]]:
    """Return the answer to each call."""
    directory = tmp_path_factory.mktemp("varlink")
    unpack(VECTORS / "layouts.tar.xz", directory)
    (directory / "src").mkdir()
    unpack(VECTORS / "src.tar.xz", directory / "src")
    with running_service(directory) as service, service.connect() as client:
        replay = _Replay(client, directory)
        yield {call["name"]: replay.run(call) for call in CALLS}


class _Replay:
    def __init__(self, client: Client, directory: Path) -> None:
        self._client = client
        self._directory = directory
        self._layer = b""
        self._directories: list[int] = []

    def run(self, call: dict[str, Any]) -> Answer:
        name: str = call["name"]
        if name == "refs":
            made = run_cfsctl("--repo", "a/b/repo", "create-image", "src", "my-image", cwd=self._directory)
            assert made.returncode == 0, made.stderr
        fds = self._make_fds(name, call["fds_sent"])
        answer = self._client.request(call["request"], fds)
        for fd in fds:
            os.close(fd)
        if name == "getlayer":
            self._keep_layer(answer)
        else:
            for fd in answer.all_fds():
                os.close(fd)
        return answer

    def _keep_layer(self, answer: Answer) -> None:
        pipe, *rest = answer.all_fds()
        with open(pipe, "rb") as stream:
            self._layer = stream.read()
        count = answer.last["parameters"]["dir_count"]
        self._directories = rest[:count]
        for fd in rest[count:]:
            os.close(fd)

    def _make_fds(self, name: str, count: int) -> list[int]:
        if not count:
            return []
        if name.startswith("mount"):
            for directory in ("upper", "work"):
                (self._directory / directory).mkdir(exist_ok=True)
            paths = [self._directory / "upper", self._directory / "work"]
            return [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths]
        read, write = os.pipe()
        os.write(write, b"garbage" if name == "putlayer-garbage" else self._layer)
        os.close(write)
        return [read, *map(os.dup, self._directories)][:count]


def clean(value: object) -> object:
    """Return a value without what differs between implementations."""
    if isinstance(value, dict):
        return {key: "*" if key in UNSTABLE else clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        # Images are listed by name here, and in the order of the directory by the original.
        return sorted(map(clean, value), key=str) if all(isinstance(v, dict) for v in value) else value
    return value


def result(frames: list[dict[str, Any]]) -> object:
    return [{**frame, "parameters": clean(frame.get("parameters"))} for frame in frames]


def recorded(name: str) -> dict[str, Any]:
    return next(call for call in CALLS if call["name"] == name)


@pytest.mark.parametrize(
    "call", [call for call in CALLS if "mount" not in call["name"]], ids=lambda c: c["name"]
)
def test_answers_are_those_that_were_recorded(answers: dict[str, Answer], call: dict[str, Any]) -> None:
    check(answers, call)


@needs_root
@pytest.mark.privileged
@pytest.mark.parametrize("call", [call for call in CALLS if "mount" in call["name"]], ids=lambda c: c["name"])
def test_mounts_are_those_that_were_recorded(answers: dict[str, Answer], call: dict[str, Any]) -> None:
    check(answers, call)


def check(answers: dict[str, Answer], call: dict[str, Any]) -> None:
    name: str = call["name"]
    answer = answers[name]
    assert not answer.is_closed
    if name in MALFORMED:
        error, parameters = MALFORMED[name]
        assert answer.frames == [{"error": error, "parameters": parameters}]
        return
    if name in DIFFERENT:
        assert answer.frames == [DIFFERENT[name]]
        return
    if name in {"gc-dangling-tag", "check-dangling-tag"}:  # there is none
        assert "error" not in answer.last
        assert answer.parameters.get("ok") in {True, None}
        return
    expected = recorded(EQUAL_TO.get(name, name))
    assert result(answer.frames) == result(expected["replies"])
    assert [len(fds) for fds in answer.fds] == expected["fds_received"]


def test_every_call_has_a_reply(answers: dict[str, Answer]) -> None:
    assert len(answers) == len(CALLS) == 135
    closed = {call["name"] for call in CALLS if call.get("connection_closed")}
    assert closed == MALFORMED.keys() | {"service-info-empty-object", "oci-getinfo-empty-object"}


def test_the_statistics_of_pulls_are_those_of_the_command_line(answers: dict[str, Answer]) -> None:
    stats = answers["pull"].parameters["completed"]["stats"]
    assert stats == "2 new + 0 already present objects; 292 B stored, 19.71 KiB inlined"
