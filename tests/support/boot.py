"""Trees with boot entries for tests, and a repository with a boot partition."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import subprocess
from typing import TYPE_CHECKING, Any

from cfsctl.cli.app import main
from cfsctl.cli.errors import run_guarded
from tests.support import schemas
from tests.support.oci import Layout, Member, directory, file, make_tar
from tests.support.programs import cfsctl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def make_executable(sections: dict[str, bytes]) -> bytes:
    """Return a PE file with these sections."""
    table, data = b"", b""
    start = 0x40 + 24 + 40 * len(sections)
    for name, content in sections.items():
        at = start + len(data)
        table += struct.pack("<8sI4xII16x", name.encode(), len(content), len(content), at)
        data += content
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    return header + b"PE\0\0" + struct.pack("<2xH12xH2x", len(sections), 0) + table + data


def make_uki(cmdline: str) -> bytes:
    """Return a unified kernel image with this command line."""
    return make_executable(
        {".linux": b"kernel", ".initrd": b"initrd", ".cmdline": cmdline.encode(), ".osrel": b"NAME=X\n"}
    )


def make_android(cmdline: str, *, kernel: bytes = b"kernel") -> bytes:
    """Return an Android boot image with this command line."""
    header = struct.pack(
        "<8s10I16s512s32s1024sIQIIQ",
        b"ANDROID!",
        *(len(kernel), 0, 0, 0, 0, 0, 0, 4096, 2, 0),
        *(b"", cmdline.encode(), b"", b""),
        *(0, 0, 1660, 0, 0),
    )
    return header.ljust(4096, b"\0") + kernel.ljust(4096, b"\0")


def make_layer(members: Iterable[Member], *, mtimes: dict[str, float] | None = None) -> bytes:
    """Return a layer with what every bootable image has, and more."""
    times = mtimes or {}
    names = ("usr", "usr/lib", "usr/lib/modules", "etc", "var", "boot", "sysroot", "run")
    return make_tar([*(directory(name, mtime=times.get(name, 0)) for name in names), *members])


def kernel(version: str, *, content: bytes | None = None) -> list[Member]:
    """Return a kernel with its initramfs, large enough to be objects."""
    where = f"usr/lib/modules/{version}"
    return [
        directory(where),
        file(f"{where}/vmlinuz", content or f"kernel {version} ".encode() * 4000),
        file(f"{where}/initramfs.img", f"initramfs {version} ".encode() * 4000),
    ]


def type1(text: str, *more: Member, name: str = "a") -> list[Member]:
    """Return a boot entry in text form, and what else there is."""
    return [
        directory("boot/loader"),
        directory("boot/loader/entries"),
        file(f"boot/loader/entries/{name}.conf", text.encode()),
        *more,
    ]


OS_RELEASE = file("usr/lib/os-release", b'ID=test\nPRETTY_NAME="Test System 1"\nVERSION_ID=1\n')


def set_up(work: Path, version: str, layer: bytes, *, tag: str = "img") -> Path:
    """Make a repository with one image, as for the recorded runs; return its path."""
    layout = Layout(work / f"layout-{tag}")
    layout.add_image("t", [layer])
    repository = work / "repo"
    if not repository.exists():
        cfsctl(
            "init", "--insecure", "--algorithm=fsverity-sha256-12", f"--erofs-version={version}", repository
        )
    cfsctl("--repo", repository, "oci", "pull", f"oci:{layout.path}:t", tag)
    return repository


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def run_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run cfsctl in this process, which is much quicker than to start one; not for what forks workers."""
    words = [str(argument) for argument in arguments]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run_guarded(lambda: main(words))
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(words, status, *texts)


class Machine:
    """A repository, a boot partition, and what runs there."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.repository = work / "repo"
        self.bootdir = work / "boot"

    @property
    def at(self) -> tuple[str, Path]:
        """The option that names the repository."""
        return "--repo", self.repository

    def add(self, tag: str, layer: bytes, version: str = "1") -> None:
        set_up(self.work, version, layer, tag=tag)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of cfsctl on the repository, in this process."""
        return run_here(*self.at, *arguments)

    def prepare(self, tag: str, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.run("oci", "prepare-boot", tag, "--bootdir", self.bootdir, *arguments)
        assert done.returncode == status, done.stderr
        return done

    def prepared(self, tag: str, *arguments: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.prepare(tag, *arguments, "--json").stdout)
        schemas.check(document, "oci-prepare-boot")
        return document

    def text(self, path: str) -> str:
        return (self.bootdir / path).read_text()

    def deployments(self) -> dict[str, dict[str, Any]]:
        document = json.loads(cfsctl(*self.at, "boot", "list", "--json", "--bootdir", self.bootdir))
        schemas.check(document, "boot-list")
        return {found["image"]: found for found in document["deployments"]}

    def kept(self) -> set[str]:
        refs = self.repository / "images/refs/boot-images"
        return {path.name for path in refs.iterdir()} if refs.exists() else set()
