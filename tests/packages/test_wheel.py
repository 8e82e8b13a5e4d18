"""The wheel: what is in it, and that it works with the oldest and the newest of what it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ROUND = Path(__file__).with_name("round.sh")
SHARED = {
    "docs/man/man1": "share/man/man1",
    "docs/man/man5": "share/man/man5",
    "docs/man/man8": "share/man/man8",
    "packaging/systemd": "share/cfsctl/systemd",
    "packaging/systemd-user": "share/cfsctl/systemd-user",
    "packaging/tmpfiles.d": "share/cfsctl/tmpfiles.d",
    "packaging/dracut": "share/cfsctl/dracut",
    "packaging/mkinitcpio": "share/cfsctl/mkinitcpio",
}
COMPLETIONS = {
    "completions/cfsctl.bash": "share/bash-completion/completions/cfsctl",
    "completions/_cfsctl": "share/zsh/site-functions/_cfsctl",
    "completions/cfsctl.fish": "share/fish/vendor_completions.d/cfsctl.fish",
    **{
        f"completions/{tool}.{shell}": f"share/{target}/{tool}{suffix}"
        for tool in ("mkcomposefs", "composefs-info", "mount.composefs")
        for shell, target, suffix in (
            ("bash", "bash-completion/completions", ""),
            ("fish", "fish/vendor_completions.d", ".fish"),
        )
    },
}


def run(*command: str | Path, timeout_s: float = 900, more: Mapping[str, str] | None = None) -> str:
    """Run a program, which must succeed, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CFSCTL_")}
    environment.update(more or {})
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(BIN / "hatchling", "build", "-t", "wheel", "-d", directory)
    (found,) = directory.glob("cfsctl-*.whl")
    return found


def test_wheel_has_manuals_completions_and_units(wheel: Path) -> None:
    expected = dict(COMPLETIONS)
    for source, target in SHARED.items():
        for path in (ROOT / source).rglob("*"):
            if path.is_file():
                name = path.relative_to(ROOT / source)
                expected[f"{source}/{name}"] = f"{target}/{name}"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (data,) = {name.split("/")[0] for name in names if ".data/" in name}
        for original, target in expected.items():
            assert archive.read(f"{data}/data/{target}") == (ROOT / original).read_bytes()
        assert {name for name in names if ".data/" in name} == {f"{data}/data/{t}" for t in expected.values()}
        assert "cfsctl/py.typed" in names
        assert not [name for name in names if name.startswith(("tests", "docs", "src"))]


@pytest.mark.parametrize(
    "environment", [{"CFSCTL_NO_EXTENSION": "1"}, {"CC": "/nonexistent/cc"}, {"CC": "false"}]
)
def test_wheel_is_pure_where_nothing_can_be_compiled(environment: dict[str, str], tmp_path: Path) -> None:
    run(BIN / "hatchling", "build", "-t", "wheel", "-d", tmp_path, more=environment)
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".so", ".c", ".h"))]


def test_wheel_has_the_extension_where_it_can_be_compiled(wheel: Path) -> None:
    include = Path(sysconfig.get_paths()["include"])
    if shutil.which("cc") is None or not (include / "Python.h").exists():
        pytest.skip("no C compiler, or Python's headers are missing")
    assert "-cp311-abi3-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "cfsctl/fsverity/_lanes.abi3.so" in names
    assert not [name for name in names if name.endswith((".c", ".h"))]


def dependencies() -> dict[str, str]:
    """Return the lowest version of everything that pyproject.toml names, as a table."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["fast"]]
    return dict(name.split(">=") for name in named)


@pytest.mark.packages
@pytest.mark.parametrize("resolution", ["lowest-direct", "highest"])
def test_wheel_works_in_an_empty_environment(wheel: Path, resolution: str, tmp_path: Path) -> None:
    uv, environment = BIN / "uv", tmp_path / "environment"
    run(uv, "venv", "--python", sys.executable, environment)
    # pycurl of old has no wheels: with the lowest versions, the oldest that has one for this Python.
    built: list[str | Path] = ["--no-build", "--resolution", resolution, "--python", environment]
    run(uv, "pip", "install", *built, "-r", ROOT / "pyproject.toml", "--extra", "fast")
    run(uv, "pip", "install", "--python", environment, "--offline", "--no-deps", wheel)
    run(uv, "pip", "check", "--python", environment)
    if resolution == "lowest-direct":
        found = dict(
            line.split("==")
            for line in run(uv, "pip", "freeze", "--python", environment).splitlines()
            if "==" in line
        )
        for name, lowest in dependencies().items():
            if name != "pycurl":
                assert f"{found[name]}.".startswith(f"{lowest}."), name
    run("sh", ROUND, environment / "bin" / "python", ROOT / "demo", environment / "bin" / "cfsctl")
    assert (environment / "share" / "cfsctl" / "systemd" / "cfsctl-gc.timer").is_file()
    assert (environment / "share" / "man" / "man1" / "cfsctl.1").is_file()
    for tool in ("mkcomposefs", "composefs-info"):
        run(environment / "bin" / tool, "--help")
