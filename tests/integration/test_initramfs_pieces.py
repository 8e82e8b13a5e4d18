"""The dracut module and the hooks for mkinitcpio, with their hosts played by a few shell functions."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import setup_root_zipapp

PACKAGING = Path(__file__).parents[2] / "packaging"
MODULE = PACKAGING / "dracut" / "37composefs"
PROGRAM = "usr/lib/composefs/composefs-setup-root.pyz"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")

DRACUT = """
set -eu
require_binaries() { command -v "$@" >/dev/null; }
inst() { echo "file $1"; }
inst_simple() { echo "file $1${2:+ as $2}"; }
inst_multiple() { :; }
instmods() { echo "modules $*"; }
dfatal() { echo "fatal: $*"; }
SYSTEMCTL=echo
moddir=%s initdir=/initramfs systemdsystemunitdir=/usr/lib/systemd/system dracutsysrootdir=%s
. "$moddir/module-setup.sh"
"""

# As mkinitcpio has them: what build() returns counts for nothing, and die() ends everything.
MKINITCPIO = """
set -u
add_module() { echo "module $1"; }
add_file() { echo "file $1"; }
add_binary() { echo "binary $1"; }
add_symlink() { echo "link $1 to $2"; }
add_runscript() { echo runscript; }
map() { for each in "${@:2}"; do "$1" "$each"; done; }
die() { printf "fatal: $1\\n" "${@:2}"; exit 1; }
python3() { :; }
. %s
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that has the zipapp where it is installed."""
    path = tmp_path_factory.mktemp("root")
    setup_root_zipapp.build(path / PROGRAM)
    return path


def test_dracut_module_is_added_only_when_asked_for(root: Path, tmp_path: Path) -> None:
    assert run(DRACUT % (MODULE, root) + "check").returncode == 255
    assert run(DRACUT % (MODULE, tmp_path) + "check").returncode == 1
    assert run(DRACUT % (MODULE, root) + "depends; installkernel").stdout == (
        "systemd\nmodules erofs overlay loop\n"
    )


def test_dracut_module_installs_what_the_program_needs(root: Path) -> None:
    done = run(DRACUT % (MODULE, root) + "install")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    files = {line.removeprefix("file ") for line in lines if line.startswith("file ")}
    assert f"/{PROGRAM}" in files
    assert any(name.endswith("/os.py") for name in files)
    assert any("/python3" in name and "/lib/" not in name for name in files)
    assert lines[-1].endswith("add-requires initrd-root-fs.target composefs-setup-root.service")


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (DRACUT % (MODULE, "%s") + "install; echo went on", 1),
        (MKINITCPIO + "build; echo went on", 1),
    ],
    ids=["dracut", "mkinitcpio"],
)
def test_program_that_does_not_run_makes_no_initramfs(script: str, status: int, tmp_path: Path) -> None:
    """As with Debian's python3-minimal, which lacks modules."""
    program = tmp_path / PROGRAM
    program.parent.mkdir(parents=True)
    program.write_text("import a_module_that_is_missing\n")
    done = run(script % (tmp_path if "dracutsysrootdir" in script else install_hook(tmp_path)))
    assert done.returncode == status
    assert "does not run; it needs all of Python's standard library" in done.stdout
    assert "went on" not in done.stdout
    assert "file " not in done.stdout


def test_service_runs_what_is_installed() -> None:
    text = (MODULE / "composefs-setup-root.service").read_text()
    assert f"ExecStart=/usr/bin/python3 -IS /{PROGRAM}\n" in text
    for line in (
        "Requires=sysroot.mount",
        "After=sysroot.mount",
        "Before=initrd-root-fs.target initrd-switch-root.target",
        "ConditionKernelCommandLine=|composefs",
        "ConditionKernelCommandLine=|composefs.digest",
    ):
        assert f"{line}\n" in text


@pytest.mark.parametrize("hook", ["install/composefs", "hooks/composefs"])
def test_hooks_of_mkinitcpio_are_valid(hook: str) -> None:
    path = PACKAGING / "mkinitcpio" / hook
    assert run(f"bash -n {path}").returncode == 0
    assert run(MKINITCPIO % path + "declare -F").returncode == 0


def install_hook(root: Path) -> Path:
    """Return the hook, changed to look for everything below a directory."""
    hook = root / "hook"
    text = (PACKAGING / "mkinitcpio/install/composefs").read_text()
    hook.write_text(text.replace("=/usr/lib/", f"={root}/usr/lib/"))
    return hook


def test_hook_of_mkinitcpio_adds_a_script(root: Path) -> None:
    done = run(MKINITCPIO % install_hook(root) + "build")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["module erofs", "module overlay", "module loop"]
    assert f"file {root}/{PROGRAM}" in lines
    assert any(line.startswith("binary ") and "/python3" in line for line in lines)
    assert lines[-1] == "runscript"


def test_hook_of_mkinitcpio_adds_a_unit_where_systemd_runs(root: Path, tmp_path: Path) -> None:
    """Scripts do not run there, so that the machine would boot what lies on the disk."""
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    units = tmp_path / "usr/lib/systemd/system"
    systemd = MKINITCPIO % install_hook(tmp_path) + "add_systemd_unit() { return 1; }\n"
    missing = run(systemd + "build; echo went on")
    assert (missing.returncode, missing.stdout.splitlines()[-1]) == (
        1,
        f"fatal: composefs: {units}/composefs-setup-root.service is missing",
    )
    units.mkdir(parents=True)
    shutil.copy(MODULE / "composefs-setup-root.service", units)
    done = run(systemd + "build")
    assert done.returncode == 0, done.stderr
    unit = "composefs-setup-root.service"
    assert done.stdout.splitlines()[-2:] == [
        f"file {units}/{unit}",
        f"link {units}/initrd-root-fs.target.requires/{unit} to ../{unit}",
    ]


@pytest.mark.parametrize(("cmdline", "runs"), [("quiet rw", False), ("quiet composefs=?00", True)])
def test_hook_of_mkinitcpio_runs_for_composefs_only(cmdline: str, *, runs: bool) -> None:
    """Here it cannot succeed, so what it says when it fails tells that it ran; and it never just goes on."""
    stubs = (
        f"cat() {{ echo '{cmdline}'; }}; err() {{ echo failed; }}\n"
        "launch_interactive_shell() { echo shell; [ $((shells += 1)) -lt 2 ] || exit 0; }\nshells=0\n"
    )
    script = MKINITCPIO % (PACKAGING / "mkinitcpio" / "hooks" / "composefs")
    done = run(f"{script}{stubs}run_latehook; echo went on")
    assert done.stdout == ("failed\nshell\nfailed\nshell\n" if runs else "went on\n")
