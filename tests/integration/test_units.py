"""The units for systemd: systemd understands them, and they say no more than what is true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.programs import CFSCTL, require
from tests.support.varlink import SERVICE, Client, passed_service

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "packaging" / "systemd").iterdir())
USER_UNITS = sorted((ROOT / "packaging" / "systemd-user").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
HOST_UNITS = Path("/usr/lib/systemd/system")
MAX_EXPOSURE = 20
"""Tenths of a point: systemd calls up to 20 `OK` and gives root without any hardening 96."""

OTHER_EXPOSURES = {"cfsctl-varlink.service": 37}
"""It mounts, talks to registries, and reads what its clients name."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a system that has the units, what they depend on, and a cfsctl."""
    require("systemd-analyze", "systemd")
    if not HOST_UNITS.is_dir():
        pytest.skip(f"no units of systemd in {HOST_UNITS}")
    root = tmp_path_factory.mktemp("system")
    shutil.copytree(HOST_UNITS, root / HOST_UNITS.relative_to("/"), symlinks=True)
    (root / "etc" / "systemd" / "system").mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(unit, root / "etc" / "systemd" / "system")
    (root / "usr" / "bin").mkdir()
    (root / "usr" / "bin" / "cfsctl").write_text("#!/bin/sh\n")
    (root / "usr" / "bin" / "cfsctl").chmod(0o755)
    return root


def verify(root: Path, name: str) -> list[str]:
    """Return what systemd has to say about a unit of ours."""
    instance = name.replace("@.", "@instance.")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={root}", instance],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    lines = done.stderr.splitlines()
    found = [line for line in lines if "cfsctl" in line]
    return found if done.returncode == 0 or found else lines


def test_every_service_has_what_starts_it() -> None:
    names = {path.name for path in UNITS}
    starts = {"fsck": "timer", "gc": "timer", "pull@": "timer", "varlink": "socket"}
    assert names == {f"cfsctl-{verb}.{kind}" for verb, start in starts.items() for kind in ("service", start)}
    names = {path.name for path in USER_UNITS}
    assert names == {f"cfsctl-{verb}.{kind}" for verb in ("gc", "pull@") for kind in ("service", "timer")}


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong(unit: Path, system: Path) -> None:
    assert verify(system, unit.name) == []


@pytest.mark.parametrize("unit", USER_UNITS, ids=lambda path: path.name)
def test_systemd_of_a_user_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    require("systemd-analyze", "systemd")
    for each in USER_UNITS:
        text = each.read_text().replace("ExecStart=cfsctl", "ExecStart=true")  # which is on every machine
        (tmp_path / each.name.replace("@.", "@instance.")).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", tmp_path / unit.name.replace("@.", "@instance.")],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert [line for line in done.stderr.splitlines() if "cfsctl" in line] == []


def test_verification_would_find_a_mistake(system: Path) -> None:
    broken = system / "etc" / "systemd" / "system" / "cfsctl-broken.service"
    broken.write_text(SERVICES[0].read_text().replace("ProtectSystem=", "ProtectSistem="))
    assert any("ProtectSistem" in line for line in verify(system, broken.name))


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_a_service_may_do_little(unit: Path, tmp_path: Path) -> None:
    require("systemd-analyze", "systemd")
    allowed = OTHER_EXPOSURES.get(unit.name, MAX_EXPOSURE)
    instance = tmp_path / unit.name.replace("@.", "@instance.")
    shutil.copy(unit, instance)
    options = ("--no-pager", "security", "--offline=true")
    done = subprocess.run(
        ["systemd-analyze", *options, f"--threshold={allowed}", instance],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd cannot judge a unit that is not loaded (before 250)")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_varlink_service_serves_the_socket_of_its_unit(tmp_path: Path) -> None:
    service = (ROOT / "packaging" / "systemd" / "cfsctl-varlink.service").read_text()
    listening = (ROOT / "packaging" / "systemd" / "cfsctl-varlink.socket").read_text()
    (arguments,) = re.findall(r"^ExecStart=cfsctl (.*)$", service, re.MULTILINE)
    (name,) = re.findall(r"^FileDescriptorName=(.*)$", listening, re.MULTILINE)
    with passed_service(tmp_path, arguments.split(), name) as address, Client.connect(address) as client:
        assert "interfaces" in client.call(f"{SERVICE}.GetInfo").parameters


TIMED = [
    unit
    for unit in (*UNITS, *USER_UNITS)
    if unit.suffix == ".service" and unit.with_suffix(".timer").exists()
]


@pytest.mark.parametrize("unit", TIMED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_command_of_a_service_is_one_of_ours_and_ends(unit: Path, tmp_path: Path) -> None:
    command = re.findall(r"^ExecStart=cfsctl --(?:system|user) (.*)$", unit.read_text(), re.MULTILINE)
    assert len(command) == 1
    assert "--lock-timeout" in command[0]
    repository = tmp_path / "repository"
    subprocess.run([CFSCTL, "init", "--insecure", repository], check=True, capture_output=True)
    fake = FakeOstreeRepository()
    fake.commit({"usr": {"file": b"content" * 100}}, "main")
    fake.write(tmp_path / "source")
    variables = {"$OPTIONS": "--no-delta", "${SOURCE}": f"file://{tmp_path}/source", "$REFS": "main"}
    text = command[0].replace("%%", "%")
    for name, value in variables.items():
        text = text.replace(name, value)
    arguments = text.split()
    subprocess.run([CFSCTL, "--repo", repository, *arguments], check=True, capture_output=True, timeout=120)


def test_leftovers_go_at_the_next_start_only(tmp_path: Path) -> None:
    require("systemd-tmpfiles", "systemd")
    empty, used, keys = (
        tmp_path / "tmp" / name for name in ("cfsctl-mount-1", "cfsctl-mount-2", "cfsctl-gpg-1")
    )
    (used / "file").parent.mkdir(parents=True)
    (used / "file").touch()
    empty.mkdir()
    (keys / "private-keys-v1.d").mkdir(parents=True)
    configuration = ROOT / "packaging" / "tmpfiles.d" / "cfsctl.conf"
    command = ["systemd-tmpfiles", f"--root={tmp_path}", "--remove", str(configuration)]
    subprocess.run(command, check=True, capture_output=True)
    assert empty.exists()
    assert keys.exists()
    # A directory that has something in it stays, which the program mentions with a status of its own.
    subprocess.run([*command, "--boot"], check=False, capture_output=True)
    assert not empty.exists()
    assert not keys.exists()
    assert (used / "file").exists()
