"""Configuration files: defaults that the environment and the command line override."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import cfsctl, run_cfsctl

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("configured", "named", "environment"):
        cfsctl("--config=", "init", "--insecure", tmp_path / name)
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
        create = ("create-image", "--no-propagate-usr-to-root", tmp_path / "tree", f"in-{name}")
        cfsctl("--config=", "--repo", tmp_path / name, *create)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def run(place: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CFSCTL_", "XDG_"))}
    return run_cfsctl(*arguments, env={**clean, "HOME": str(place / "home"), **variables})


def test_what_says_where_the_repository_is(place: Path) -> None:
    file = write(place / "home" / ".config" / "cfsctl" / "config.toml", f'repo = "{place / "configured"}"\n')
    assert "in-configured" in run(place, "images").stdout
    assert "in-environment" in run(place, "images", CFSCTL_REPO=str(place / "environment")).stdout
    assert "in-named" in run(place, "--repo", place / "named", "images").stdout
    other = write(place / "other.toml", f'repo = "{place / "named"}"\n')
    assert "in-named" in run(place, "--config", other, "images").stdout
    assert "in-named" in run(place, "images", CFSCTL_CONFIG=str(other)).stdout
    for nothing in ({"CFSCTL_CONFIG": ""}, {"XDG_CONFIG_HOME": str(place / "nowhere")}):
        if "CFSCTL_CONFIG" in nothing:
            done = run(place, "--config=", "images")
        else:
            done = run(place, "images", **nothing)
        assert "in-configured" not in done.stdout
    file.write_text(f'repo = "{place / "configured"}"\nuser = true\n')
    done = run(place, "images")
    assert done.returncode == 2
    assert "cannot be used together" in done.stderr
    # The command line alone counts if it says anything.
    assert "in-named" in run(place, "--repo", place / "named", "images").stdout


def test_options_of_commands(place: Path) -> None:
    text = f'repo = "{place / "named"}"\n[gc]\ndry-run = true\nroot = ["refs/none", "refs/other"]\n'
    file = write(place / "some.toml", text)
    done = run(place, "--config", file, "gc")
    assert "Dry run" in done.stdout or "refs/none" in done.stderr
    file.write_text(f'repo = "{place / "named"}"\n[gc]\ndry-run = true\n')
    assert "Dry run" in run(place, "--config", file, "gc").stdout
    file.write_text(f'repo = "{place / "named"}"\n[ostree.pull-local]\nbase-name = "missing-base"\n')
    done = run(place, "--config", file, "ostree", "pull-local", place, "x")
    assert done.returncode != 0
    file.write_text('[gc]\ngrace = "soon"\n')
    done = run(place, "--config", file, "--repo", place / "named", "gc")
    assert done.returncode == 2
    assert "soon" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("repo = ", "expected TOML"),
        ("\udcff", "expected TOML"),
        ("frob = 1", "frob: no such option"),
        ("json = true", "json: no such option, or not one that a file can set"),
        ("[frob]\nx = 1", "[frob]: no such command"),
        ("[gc]\nfrob = 1", "gc.frob: no such option"),
        ("[ostree.frob]\nx = 1", "[ostree.frob]: no such command"),
        ("[gc.inner]\nx = 1", "[gc.inner]: no such command"),
        ("lock-timeout = 1979-05-27", "lock-timeout: expected text, a number"),
        ("a = " + "[" * 5000, "expected TOML"),
    ],
)
def test_file_that_cannot_be_used(place: Path, text: str, message: str) -> None:
    file = place / "some.toml"
    file.write_text(text, errors="surrogateescape")
    file.chmod(0o600)
    done = run(place, "--config", file, "images")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{file}: " in done.stderr
    assert message in done.stderr


def test_file_that_others_can_write(place: Path) -> None:
    file = write(place / "some.toml", f'repo = "{place / "named"}"\n')
    file.chmod(0o666)
    done = run(place, "--config", file, "images")
    assert (done.returncode, done.stdout) == (1, "")
    assert "write permission" in done.stderr
    assert "chmod go-w" in done.stderr
    assert run(place, "--config", place / "missing.toml", "images").returncode == 17
    assert run(place, "--config", place, "images").returncode == 1
    os.mkfifo(place / "pipe")
    assert run(place, "--config", place / "pipe", "images").returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_root_ignores_the_file_of_the_user_who_called_sudo(place: Path) -> None:
    file = write(place / "home" / ".config" / "cfsctl" / "config.toml", f'repo = "{place / "configured"}"\n')
    os.chown(file, 65534, 65534)
    assert "in-configured" not in run(place, "images").stdout
