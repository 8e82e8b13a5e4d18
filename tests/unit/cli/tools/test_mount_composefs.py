"""mount.composefs: options, and what is said about wrong ones. Mounting itself needs privileges."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.tools.mount_composefs import (
    MountRequest,
    MountUsageError,
    main,
    parse_options,
    split_unescaped,
    unescape,
)
from cfsctl.digest import ObjectID
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.fsverity.kernel import VerityError
from cfsctl.mount import Verity
from cfsctl.tree.model import Directory, FileSystem

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("basedir=a", MountRequest(["a"])),
        ("basedir=a:b::c:", MountRequest(["a", "b", "c"])),
        (r"basedir=a\:b:c\,d:e\\:f\x", MountRequest(["a:b", "c,d", "e\\", "fx"])),
        ("basedir=a=b", MountRequest(["a=b"])),
        ("basedir=a,basedir=b", MountRequest(["b"])),
        ("basedir=a\\", MountRequest(["a"])),
        ("ro,basedir=a", MountRequest(["a"], read_only=True)),
        ("ro,basedir=a,rw", MountRequest(["a"], read_only=False)),
        ("basedir=a,ro=1", MountRequest(["a"], read_only=True)),
        ("basedir=a,verity", MountRequest(["a"], verity=Verity.REQUIRE)),
        ("basedir=a,tryverity", MountRequest(["a"], verity=Verity.TRY)),
        ("basedir=a,idmap=n", MountRequest(["a"], idmap="n")),
        (r"basedir=a,upperdir=u\,p,workdir=w:k", MountRequest(["a"], upperdir="u,p", workdir="w:k")),
        (
            f"tryverity,basedir=a,digest={'Ab' * 32}",
            MountRequest(["a"], ObjectID(b"\xab" * 32), Verity.REQUIRE),
        ),
        (f"basedir=a,digest={'01' * 64}", MountRequest(["a"], ObjectID(b"\1" * 64), Verity.REQUIRE)),
    ],
)
def test_options(text: str, expected: MountRequest) -> None:
    assert parse_options(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No object dirs specified"),
        ("ro", "No object dirs specified"),
        ("basedir=:", "No object dirs specified"),
        ("basedir", "No value specified for basedir option"),
        ("basedir=a,digest", "No value specified for digest option"),
        ("basedir=a,digest=", "No value specified for digest option"),
        ("basedir=a,upperdir", "No value specified for upperdir option"),
        ("basedir=a,idmap=", "No value specified for idmap option"),
        ("basedir=a,digest=abc", "Invalid digest value"),
        ("basedir=a,digest=" + "ab" * 20, "Invalid digest value"),
        ("basedir=a,digest=" + "xy" * 32, "Invalid digest value"),
        ("basedir=a,upperdir=u", "Both workdir and upperdir must be specified if used"),
        ("basedir=a,workdir=u", "Both workdir and upperdir must be specified if used"),
        ("basedir=a,foo=b", "Unsupported option: foo$"),
        ("basedir=a,,ro", "Unsupported option: $"),
        ("basedir=a,", "Unsupported option: $"),
        (r"basedir=a,r\o", r"Unsupported option: r\\o"),
    ],
)
def test_wrong_options(text: str, message: str) -> None:
    with pytest.raises(MountUsageError, match=message):
        parse_options(text)


def test_unknown_options_can_be_passed_over() -> None:
    expected = MountRequest(["a"], read_only=True)
    assert parse_options("noatime,basedir=a,x=y,ro", ignore_unknown=True) == expected
    with pytest.raises(MountUsageError, match="No value"):
        parse_options("noatime,basedir", ignore_unknown=True)


def test_splitting_and_unescaping() -> None:
    assert split_unescaped(r"a,b\,c,\\,d", ",") == ["a", r"b\,c", r"\\", "d"]
    assert split_unescaped("", ",") == [""]
    assert split_unescaped("a\\", ",") == ["a\\"]
    assert unescape(r"\a\\b\,") == r"a\b,"
    assert unescape("a\\\nb\\") == "a\nb"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected IMAGE and MOUNTPOINT, found 0 arguments"),
        (["image"], "found 1 arguments"),
        (["image", "mountpoint", "more", "-o", "basedir=a"], "found 3 arguments"),
        (["image", "mountpoint"], "No object dirs specified"),
        (["image", "mountpoint", "-o"], "requires argument"),
        (["--nonsense"], "not recognized"),
        (["-t", "ext4", "image", "mountpoint", "-o", "basedir=a"], "Unsupported fs type 'ext4'"),
    ],
)
def test_wrong_usage(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("Error: ")
    assert message in output.err
    assert "--help" in output.err


def test_help_and_version_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: mount.composefs")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mount.composefs ")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(build_image(FileSystem(Directory(0o755)), FormatVersion.V1))
    return path


def test_everything_but_the_mount_is_done_when_asked_to(image: Path, tmp_path: Path) -> None:
    options = f"basedir={tmp_path},idmap=/proc/self/ns/user,nosuid"
    argv = ["-f", "-s", "-n", "-t", "composefs", "-o", "ro", os.fspath(image), "/nowhere", "-o", options]
    assert main(argv) == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-o", "basedir=.", "./missing", "."], "Failed to open ./missing: No such file"),
        (["-o", "basedir=.:./missing", "image", "."], "Failed to open basedir ./missing: No such file"),
        (["-o", "basedir=image", "image", "."], "Failed to open basedir image: Not a directory"),
        (["-o", "basedir=.,idmap=missing", "image", "."], "Failed to open idmap: No such file"),
        (["-o", "basedir=.", "-N", "missing", "image", "."], "Failed to open namespace: No such file"),
        (["-o", "basedir=.", "image", "missing"], "mount composefs image: opening mount point: missing"),
    ],
)
def test_what_cannot_be_opened_is_named(
    argv: list[str], message: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    with pytest.raises(OSError, match=message):
        main(argv)


def test_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"no image" * 1000)
    with pytest.raises(ErofsError):
        main(["-o", f"basedir={tmp_path}", os.fspath(path), os.fspath(tmp_path)])


def test_image_without_verity_fails_a_digest(image: Path) -> None:
    options = f"basedir={image.parent},digest={'00' * 32}"
    with pytest.raises(VerityError, match=f"^Failed to mount composefs {image}: .*fs-verity"):
        main(["-o", options, os.fspath(image), os.fspath(image.parent)])


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_what_is_no_image_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    image = tmp_path / "image"
    if kind == "fifo":
        os.mkfifo(image)
    elif kind == "directory":
        image.mkdir()
    else:
        image.symlink_to("/dev/null")
    with pytest.raises(OSError, match="expected a file or a block device"):
        main(["-f", "-o", f"basedir={tmp_path}", str(image), str(tmp_path)])
    assert capsys.readouterr().out == ""
