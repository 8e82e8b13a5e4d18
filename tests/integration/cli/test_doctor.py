"""What `cfsctl doctor` says about this machine, and about some that lack things."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.library import doctor, kernel_features
from cfsctl.library.findings import FindingState
from tests.support.programs import CFSCTL, cfsctl, run_cfsctl
from tests.support.terminal import count_cells, run_on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.library.findings import Finding

NAMES = ["python", "kernel", "erofs", "overlayfs", "mounting", "fs-verity", "fuse", "repository", "space"]


def found(place: Path, *options: str) -> dict[str, dict[str, object]]:
    document = json.loads(cfsctl(*options, "doctor", "--json", cwd=place))
    return {finding["name"]: finding for finding in document["findings"]}


def test_without_a_repository(tmp_path: Path) -> None:
    findings = found(tmp_path, "--repo", "nowhere")
    assert list(findings)[: len(NAMES)] == NAMES
    assert findings["repository"]["state"] == "missing"
    assert "cfsctl init nowhere" in str(findings["repository"]["advice"])
    assert os.listdir(tmp_path) == []


def test_with_a_repository(tmp_path: Path) -> None:
    cfsctl("init", "--insecure", "--algorithm=fsverity-sha256-12", "store", cwd=tmp_path)
    before = sorted(os.listdir(tmp_path / "store"))
    finding = found(tmp_path, "--repo", "store")["repository"]
    assert finding["state"] == "ok"
    assert finding["found"] == "store: sha256, images of format 1"
    assert sorted(os.listdir(tmp_path / "store")) == before


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 99}'], ids=["empty", "cut", "strange"])
def test_with_a_damaged_repository(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "meta.json").write_bytes(content)
    assert found(tmp_path, "--repo", "store")["repository"]["state"] in {"unknown", "missing"}


def test_without_home(tmp_path: Path) -> None:
    done = run_cfsctl("--user", "doctor", cwd=tmp_path, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0
    assert "repository" in done.stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_fits_the_terminal(tmp_path: Path, columns: int) -> None:
    screen = run_on_terminal([CFSCTL, "--repo", "nowhere", "doctor"], columns, place=tmp_path)
    assert screen.status == 0
    assert max(map(count_cells, screen.lines)) <= columns
    missing = [line for line in screen.lines if line.startswith("missing")]
    assert screen.lines[-1].startswith(f"{len(missing)} thing")


@pytest.mark.parametrize(
    ("number", "state", "text"),
    [
        (errno.EPERM, FindingState.UNKNOWN, "may not try"),
        (errno.ENODEV, FindingState.MISSING, "the kernel has no erofs"),
        (errno.ENOSYS, FindingState.MISSING, "cannot be used"),
    ],
    ids=["not root", "no module", "old kernel"],
)
def test_kernels_that_refuse(
    monkeypatch: pytest.MonkeyPatch, number: int, state: FindingState, text: str
) -> None:
    def refuse(_name: str) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("cfsctl.linux.mountapi.fsopen", refuse)
    for finding in (kernel_features.examine_erofs(), kernel_features.examine_overlayfs()):
        assert finding.state is state
        assert text.replace("erofs", "overlay" if "overlay" in finding.name else "erofs") in finding.found
        assert finding.advice


@pytest.mark.parametrize("release", ["5.10.0", "6.1.0", "6.6.1-lts", "7", "6.12"])
def test_other_kernels(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    names = os.uname()
    fields = (names.sysname, names.nodename, release, names.version, names.machine)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(fields))
    assert (kernel_features.examine_kernel().state is FindingState.MISSING) is (release == "5.10.0")
    assert kernel_features.examine_erofs().found
    assert kernel_features.examine_overlayfs().found


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    for module in ("pycurl", "isal", "pcre2", "cfsctl.fsverity._lanes"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr("cfsctl.fsverity._lanes", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    findings: dict[str, Finding] = {one.name: one for one in doctor.examine_machine(tmp_path)}
    for name in ("libcurl", "ISA-L", "PCRE2", "hashing", "gpgv", "skopeo"):
        assert findings[name].state is FindingState.MISSING, name
        assert not findings[name].is_needed
        assert findings[name].advice
