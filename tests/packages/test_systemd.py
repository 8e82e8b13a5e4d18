"""The units under a systemd that runs: a container with the files of this machine and nothing else of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import CFSCTL
from tests.support.repositories import flip_bit

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging" / "systemd"
SYSTEM_PYTHON = Path("/usr/bin/python3")

pytestmark = pytest.mark.packages

# The only change to the units: where the program is, and where its single file may unpack itself.
DROP_IN = "[Service]\nExecSearchPath=/opt/bin:/usr/bin\nEnvironment=SHIV_ROOT=/tmp/shiv\n"

PROBE = """\
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh /opt/probe.sh
"""

SCRIPT = """\
exec >/result/log 2>&1
systemctl start cfsctl-gc.timer cfsctl-fsck.timer
systemctl list-timers --all --no-pager --no-legend | sed 's/^/timer /'
systemctl start cfsctl-gc.service
systemctl show --value -p Result -p ExecMainStatus cfsctl-gc | sed 's/^/gc /'
systemctl start cfsctl-fsck.service
systemctl show --value -p Result -p ExecMainStatus cfsctl-fsck | sed 's/^/fsck /'
journalctl --no-pager -o cat -u cfsctl-gc -u cfsctl-fsck | sed 's/^/journal /'
echo end
systemctl poweroff --force --force >/dev/null 2>&1
"""


def require() -> None:
    if os.geteuid():
        pytest.skip("containers need root")
    if shutil.which("systemd-nspawn") is None or not Path("/lib/systemd/systemd").exists():
        pytest.skip("there is no systemd-nspawn (packages systemd and systemd-container)")
    question = "import sys; print(sys.version_info.minor)"
    minor = subprocess.run([SYSTEM_PYTHON, "-c", question], capture_output=True, text=True, check=False)
    if minor.stdout.strip() != str(sys.version_info.minor):
        pytest.skip(f"{SYSTEM_PYTHON} is of another version than the packages in the single file")


def cfsctl(repository: Path, *arguments: str | Path) -> None:
    subprocess.run([CFSCTL, "--repo", repository, *arguments], check=True, capture_output=True, timeout=60)


def boot(work: Path, store: Path) -> list[str]:
    """Boot, start both services, and return the lines of what came of it."""
    units = work / "units"
    shutil.copytree(UNITS, units)
    for name in ("cfsctl-gc", "cfsctl-fsck"):
        (units / f"{name}.service.d").mkdir()
        (units / f"{name}.service.d" / "place.conf").write_text(DROP_IN)
    (units / "probe.service").write_text(PROBE)
    (work / "probe.sh").write_text(SCRIPT)
    (work / "result").mkdir()
    binds = {
        ROOT / "dist" / "cfsctl.pyz": "/opt/bin/cfsctl",
        work / "probe.sh": "/opt/probe.sh",
        **{path: f"/etc/systemd/system/{path.name}" for path in units.iterdir()},
    }
    done = subprocess.run(
        [
            "systemd-nspawn",
            "--quiet",
            "--directory=/",
            "--volatile=yes",
            "--register=no",
            "--keep-unit",
            f"--bind={work / 'result'}:/result",
            f"--bind={store}:/sysroot/composefs",
            *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
            "--boot",
            "systemd.unit=probe.service",
            "systemd.firstboot=no",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=180,
    )
    log = work / "result" / "log"
    if not log.exists():
        pytest.skip(f"systemd does not boot in a container here: {done.stderr[-300:]}")
    lines = log.read_text().splitlines()
    assert lines[-1] == "end", lines
    return lines


@pytest.fixture(scope="module")
def _zipapp() -> None:
    require()
    subprocess.run(["make", "-s", "zipapp"], cwd=ROOT, check=True, capture_output=True, timeout=900)


@pytest.fixture
def store(tmp_path: Path, _zipapp: None) -> Path:
    """Return a repository with an image, and with another one that is garbage since days."""
    store = tmp_path / "store"
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "tree" / "usr" / "file").write_bytes(b"kept" * 5000)
    cfsctl(store, "init", "--insecure")
    cfsctl(store, "create-image", tmp_path / "tree", "kept")
    (tmp_path / "tree" / "usr" / "more").write_bytes(b"more" * 50)
    cfsctl(store, "create-image", tmp_path / "tree", "gone")
    (store / "images" / "refs" / "gone").unlink()
    return store


def test_services_do_their_work_under_their_hardening(store: Path, tmp_path: Path) -> None:
    lines = boot(tmp_path, store)
    assert {line.split()[-1] for line in lines if line.startswith("timer ") and "cfsctl" in line} == {
        "cfsctl-gc.service",
        "cfsctl-fsck.service",
    }
    assert [line for line in lines if line.startswith("gc ")] == ["gc success", "gc 0"]
    assert [line for line in lines if line.startswith("fsck ")] == ["fsck success", "fsck 0"]
    # All of it is younger than a day, which is what the unit keeps.
    assert "journal Objects: 0 removed (0 bytes)" in lines
    assert "journal status: ok" in lines


def test_damage_is_a_failure_that_monitors_see(store: Path, tmp_path: Path) -> None:
    for path in (store / "objects").glob("*/*"):
        if path.stat().st_size == 20_000:
            flip_bit(path, 100)
    lines = boot(tmp_path, store)
    assert [line for line in lines if line.startswith("gc ")] == ["gc success", "gc 0"]
    assert [line for line in lines if line.startswith("fsck ")] == ["fsck exit-code", "fsck 15"]
    assert any("object-digest-mismatch" in line for line in lines)
