"""A place with one of everything that commands work on."""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import subprocess
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.oci import Layout, directory, file, make_tar
from tests.support.ostree_client import run_ostree
from tests.support.programs import CFSCTL, run_program
from tests.support.signatures import sign_detached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    """Return the environment without what would change how cfsctl behaves."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CFSCTL_")}


def run(place: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run cfsctl in a directory; nothing stands on its standard input unless that is given."""
    files = {name: file_number(file) for name, file in options.items() if name in {"stdin", "stdout"}}
    if files.keys() == options.keys() and all(fd >= 0 for fd in files.values()):
        done = run_program(
            CFSCTL,
            *arguments,
            cwd=place,
            env=environment(),
            stdin=files.get("stdin"),
            stdout=files.get("stdout"),
        )
        out, err = (
            TextIOWrapper(BytesIO(data or b""), "utf-8", "replace").read()
            for data in (done.stdout, done.stderr)
        )
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)
    defaults: dict[str, object] = {
        "cwd": place,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": environment(),
        "text": True,
        "errors": "replace",
        "timeout": 120,
    }
    finished: subprocess.CompletedProcess[str] = subprocess.run(
        [CFSCTL, *arguments],
        check=False,
        **{**defaults, **options},  # type: ignore[call-overload]  # options of subprocess.run
    )
    return finished


def file_number(file: object) -> int:
    """Return the descriptor of an open file; negative for the markers of `subprocess`."""
    return file if isinstance(file, int) else file.fileno()  # type: ignore[attr-defined]  # a file


KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
"""Signs the commit of the place."""

_PUBLIC: Final = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
TRUSTED: Final = f"--verify-key=ed25519=inline:{_PUBLIC}"
"""The option that demands its signature."""


def sign(repository: Path) -> None:
    """Sign the commit of the branch `test`, as a libostree with ed25519 does."""
    checksum = (repository / "refs" / "heads" / "test").read_text().strip()
    path = repository / "objects" / checksum[:2] / f"{checksum[2:]}.commit"
    path.with_suffix(".commitmeta").write_bytes(sign_detached(KEY, path.read_bytes()))


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Hold the repository as a collector does."""
    fd = os.open(place / "repo", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a tree, an image file, a repository of both and, if possible, a commit."""
    place = tmp_path_factory.mktemp("commands")
    (place / "tree" / "usr" / "bin").mkdir(parents=True)
    (place / "tree" / "usr" / "bin" / "program").write_bytes(b"x" * 5000)
    (place / "tree" / "usr" / "note").write_text("a note\n")
    for name in ("usr", "boot", "sysroot", "etc", "var"):
        (place / "bootable" / name).mkdir(parents=True)
    (place / "mountpoint").mkdir()
    (place / "remotes").mkdir()
    remote = '[remote "configured"]\nurl=https://example.com/repo\ngpg-verify=false\n'
    (place / "remotes" / "configured.conf").write_text(remote)
    assert run(place, "init", "--insecure", "repo").returncode == 0
    assert run(place, "init", "--insecure", "target").returncode == 0
    assert run(place, "--repo", "repo", "create-image", "bootable", "web").returncode == 0
    assert run(place, "--repo", "repo", "create-image", "tree", "web", "--keep=1").returncode == 0
    image = (place / "repo" / "images" / "refs" / "web").resolve()
    shutil.copy(image, place / "web.img")
    layer = make_tar([directory("usr"), file("usr/program", b"x" * 5000)])
    (place / "layer").write_bytes(layer)
    Layout(place / "layout").add_image("app", [layer])
    assert run(place, "--repo", "repo", "oci", "build", "tree", "app").returncode == 0
    assert run(place, "--repo", "repo", "oci", "pull", "oci:layout:app", "app", "--keep=1").returncode == 0
    (place / "oci-image-id").write_text(run(place, "--repo", "repo", "oci", "compute-id", "app").stdout)
    if shutil.which("ostree") is not None:
        (place / "ostree-repo").mkdir()
        run_ostree(place / "ostree-repo", "init", "--mode=archive")
        run_ostree(place / "ostree-repo", "commit", "--branch=test", f"--tree=dir={place / 'tree'}")
        sign(place / "ostree-repo")
        run_ostree(place / "ostree-repo", "summary", "-u")
        delta = ["generate", "--empty", "--inline", f"--filename={place / 'delta'}", "test"]
        run_ostree(place / "ostree-repo", "static-delta", *delta)
        pulled = run(place, "--repo", "repo", "ostree", "pull-local", "ostree-repo", "test")
        assert pulled.returncode == 0
        keep_commit(place)
    return place


def keep_commit(place: Path) -> None:
    """Have a commit in the history of the tag `test`."""
    own = run(place, "--repo", "repo", "ostree", "commit", "web", "--timestamp=@0").stdout.split()[1]
    pulled = run(place, "--repo", "repo", "ostree", "images", "-q").stdout.strip()
    assert run(place, "--repo", "repo", "ostree", "tag", own, "test").returncode == 0
    assert run(place, "--repo", "repo", "ostree", "tag", pulled, "test", "--keep=1").returncode == 0


@pytest.fixture
def place(prepared: Path, tmp_path: Path) -> Path:
    """Return a copy of it that may be changed."""
    copy = tmp_path / "place"
    shutil.copytree(prepared, copy, symlinks=True)
    return copy


@pytest.fixture(scope="session")
def prepared_to_boot(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of it with images that can be booted, and a boot entry of one."""
    place = tmp_path_factory.mktemp("booting") / "place"
    shutil.copytree(prepared, place, symlinks=True)
    modules = place / "bootable" / "usr" / "lib" / "modules" / "6.1.0"
    modules.mkdir(parents=True)
    for name in ("vmlinuz", "initramfs.img"):
        (modules / name).write_bytes(name.encode() * 1000)
    (place / "bootdir").mkdir()
    assert run(place, "--repo", "repo", "create-image", "--bootable", "bootable", "bootable").returncode == 0
    prepare = ("boot", "prepare", "--bootdir=bootdir", "bootable")
    assert run(place, "--repo", "repo", *prepare).returncode == 0
    boot_layer = make_tar(
        [
            directory("usr"),
            directory("usr/lib"),
            directory("usr/lib/modules"),
            directory("usr/lib/modules/6.1.0"),
            file("usr/lib/modules/6.1.0/vmlinuz", b"kernel" * 1000),
            file("usr/lib/modules/6.1.0/initramfs.img", b"initramfs" * 1000),
            directory("boot"),
            directory("etc"),
            directory("var"),
            directory("sysroot"),
        ]
    )
    Layout(place / "boot-layout").add_image("boot-app", [boot_layer])
    pull = ("oci", "pull", "--bootable", "oci:boot-layout:boot-app", "boot-app")
    assert run(place, "--repo", "repo", *pull).returncode == 0
    return place
