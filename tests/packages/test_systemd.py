"""The units under a systemd that runs: a container with the files of this machine and nothing else of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.programs import CFSCTL
from tests.support.repositories import flip_bit

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging" / "systemd"
USER_UNITS = ROOT / "packaging" / "systemd-user"
SYSTEM_PYTHON = Path("/usr/bin/python3")

pytestmark = pytest.mark.packages

# The only change to the units: where the program is, and where its single file may unpack itself.
DROP_IN = "[Service]\nExecSearchPath=/opt/bin:/usr/bin\nEnvironment=SHIV_ROOT=/opt/shiv\n"

PROBE = """\
[Unit]
After=basic.target
[Service]
Type=oneshot
Delegate=yes
ExecStart=/bin/sh /opt/probe.sh
"""

# Services may only read what the single file was unpacked to.
BEGIN = "exec >/result/log 2>&1\nexport SHIV_ROOT=/opt/shiv PATH=/opt/bin:$PATH\ncfsctl --version\n"
END = "echo end\nsystemctl poweroff --force --force >/dev/null 2>&1\n"

SCRIPT = """\
systemctl start cfsctl-gc.timer cfsctl-fsck.timer
systemctl list-timers --all --no-pager --no-legend | sed 's/^/timer /'
systemctl start cfsctl-gc.service
systemctl show --value -p Result -p ExecMainStatus cfsctl-gc | sed 's/^/gc /'
systemctl start cfsctl-fsck.service
systemctl show --value -p Result -p ExecMainStatus cfsctl-fsck | sed 's/^/fsck /'
journalctl --no-pager -o cat -u cfsctl-gc -u cfsctl-fsck | sed 's/^/journal /'
"""

PULL_SCRIPT = """\
systemctl start cfsctl-pull@site.timer
systemctl list-timers --all --no-pager --no-legend | sed 's/^/timer /'
systemctl start cfsctl-pull@site.service
systemctl show --value -p Result -p ExecMainStatus cfsctl-pull@site | sed 's/^/pull /'
journalctl --no-pager -o cat -u cfsctl-pull@site | sed 's/^/journal /'
"""

PULL_SETTINGS = "SOURCE=file:///source\nREFS=main\nOPTIONS=--no-delta\n"

VARLINK_SCRIPT = """\
systemctl start cfsctl-varlink.socket
stat -c 'mode %a' /run/cfsctl/varlink
systemctl show --value -p ActiveState cfsctl-varlink.service | sed 's/^/before /'
/usr/bin/python3 /opt/client.py 2>&1 | sed 's/^/client /'
systemctl show --value -p ActiveState -p Result cfsctl-varlink.service | sed 's/^/after /'
systemctl stop cfsctl-varlink.socket cfsctl-varlink.service
systemctl show --value -p ActiveState -p Result -p ExecMainStatus cfsctl-varlink.service | sed 's/^/stopped /'
[ -e /run/cfsctl/varlink ] || echo 'socket is gone'
journalctl --no-pager -o cat -u cfsctl-varlink | sed 's/^/journal /'
"""

CLIENT = """\
import array, json, os, socket, sys

def call(method, **parameters):
    connection.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\\0")
    data, room = b"", array.array("i")
    while not data.endswith(b"\\0"):
        more, rights, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
        data += more
        for _, _, fds in rights:
            room.frombytes(fds)
    reply = json.loads(data[:-1])
    print(method.rpartition(".")[2], reply.get("error", "done"), len(room), flush=True)
    return reply.get("parameters", {}), list(room)

connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/cfsctl/varlink")
call("org.varlink.service.GetInfo")
opened, _ = call("org.composefs.Repository.OpenRepository", path="/sysroot/composefs")
handle = opened["handle"]
call("org.composefs.Repository.Fsck", handle=handle)
call("org.composefs.Repository.Gc", handle=handle, roots=[], dry_run=True)
mounted, fds = call("org.composefs.Repository.Mount", handle=handle, name="kept", options={})
print("files", *sorted(os.listdir(os.open(".", os.O_RDONLY, dir_fd=fds[0]))), mounted)
"""

USER_SCRIPT = """\
export XDG_RUNTIME_DIR=/run/user/0 HOME=/root
mkdir -p -m 700 $XDG_RUNTIME_DIR /root/.config/cfsctl/pull
cp /opt/site.env /root/.config/cfsctl/pull
cfsctl --user init --insecure >/dev/null
/lib/systemd/systemd --user &
manager=$!
for _ in $(seq 600); do
    [ ! -S $XDG_RUNTIME_DIR/systemd/private ] || break
    sleep 0.1
done
systemctl --user is-system-running --wait | sed 's/^/manager /'
systemctl --user start cfsctl-gc.timer cfsctl-pull@site.timer
systemctl --user list-timers --all --no-pager --no-legend | sed 's/^/timer /'
systemctl --user start cfsctl-pull@site.service
systemctl --user show --value -p Result -p ExecMainStatus cfsctl-pull@site | sed 's/^/pull /'
systemctl --user start cfsctl-gc.service
systemctl --user show --value -p Result -p ExecMainStatus cfsctl-gc | sed 's/^/gc /'
cfsctl --user ostree images 2>&1 | sed 's/^/images /'
journalctl --no-pager -o cat -n 40 | sed 's/^/journal /'
kill $manager
wait $manager
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


def make_source(path: Path) -> Path:
    """Return an OSTree repository with the branch main."""
    source = FakeOstreeRepository()
    source.commit({"file": source.add_file(b"content" * 1000)}, "main")
    source.write(path)
    return path


def cfsctl(repository: Path, *arguments: str | Path) -> None:
    subprocess.run([CFSCTL, "--repo", repository, *arguments], check=True, capture_output=True, timeout=60)


def copy_units(source: Path, target: Path) -> Path:
    """Copy units, and say where the program is."""
    shutil.copytree(source, target)
    for service in list(target.glob("*.service")):
        (target / f"{service.name}.d").mkdir()
        (target / f"{service.name}.d" / "place.conf").write_text(DROP_IN)
    return target


def boot(work: Path, store: Path, script: str = SCRIPT) -> list[str]:
    """Boot, run a script, and return the lines of what came of it."""
    units = copy_units(UNITS, work / "units")
    (units / "probe.service").write_text(PROBE)
    user_units = copy_units(USER_UNITS, work / "user-units")
    (work / "probe.sh").write_text(BEGIN + script + END)
    (work / "client.py").write_text(CLIENT)
    for name in ("site.env", "pull.env"):
        (work / name).write_text(PULL_SETTINGS)
    (work / "result").mkdir()
    binds = {
        ROOT / "dist" / "cfsctl.pyz": "/opt/bin/cfsctl",
        **{work / name: f"/opt/{name}" for name in ("probe.sh", "client.py", "site.env")},
        work / "pull.env": "/etc/cfsctl/pull/site.env",
        make_source(work / "source"): "/source",
        **{path: f"/etc/systemd/system/{path.name}" for path in units.iterdir()},
        **{path: f"/etc/systemd/user/{path.name}" for path in user_units.iterdir()},
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


def test_timer_pulls_what_its_settings_say(store: Path, tmp_path: Path) -> None:
    lines = boot(tmp_path, store, PULL_SCRIPT)
    assert any(line.startswith("timer ") and "cfsctl-pull@site.service" in line for line in lines), lines
    assert [line for line in lines if line.startswith("pull ")] == ["pull success", "pull 0"], lines
    listed = subprocess.run(
        [CFSCTL, "--repo", store, "ostree", "images"], capture_output=True, text=True, check=True
    )
    assert "main" in listed.stdout


def test_varlink_service_starts_when_somebody_connects(store: Path, tmp_path: Path) -> None:
    lines = boot(tmp_path, store, VARLINK_SCRIPT)
    assert "mode 600" in lines
    assert "before inactive" in lines
    said = [line for line in lines if line.startswith("client ")]
    assert said[:5] == [
        "client GetInfo done 0",
        "client OpenRepository done 0",
        "client Fsck done 0",
        "client Gc done 0",
        "client Mount done 1",
    ], "\n".join(lines)
    assert said[5].startswith("client files usr")
    assert [line for line in lines if line.startswith("after ")] == ["after success", "after active"], lines
    stopped = [line for line in lines if line.startswith("stopped ")]
    assert sorted(stopped) == ["stopped 0", "stopped inactive", "stopped success"], lines
    assert "socket is gone" in lines


def test_units_of_users(store: Path, tmp_path: Path) -> None:
    lines = boot(tmp_path, store, USER_SCRIPT)
    assert "manager running" in lines or "manager degraded" in lines, lines
    timers = {line.split()[-1] for line in lines if line.startswith("timer ") and "cfsctl" in line}
    assert timers == {"cfsctl-gc.service", "cfsctl-pull@site.service"}
    assert [line for line in lines if line.startswith("pull ")] == ["pull success", "pull 0"], lines
    assert [line for line in lines if line.startswith("gc ")] == ["gc success", "gc 0"], lines
    assert any(line.startswith("images ") and "main" in line for line in lines), lines
