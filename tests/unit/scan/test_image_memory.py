"""The memory of images: what is believed, and that an image is the one that would be built."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write import image as builder
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.repository import Repository
from cfsctl.scan import create_image, image_memory
from cfsctl.scan.image_memory import MEMORY_NAME
from cfsctl.tree.transform import XattrFilter
from tests.support.repositories import make_repository, object_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cfsctl.digest import ObjectID

    Change = Callable[[Path], object]


class _Site:
    """A tree and a repository, and a count of the images that are built."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.usr = path / "tree" / "usr"
        self.usr.mkdir(parents=True)
        (self.usr / "file").write_bytes(b"content" * 100)
        (self.usr / "inline").write_bytes(b"inline")
        (self.usr / "same").write_bytes(b"content" * 100)
        (self.usr / "link").symlink_to("file")
        self.repository = make_repository(path / "repo")
        self.memory = path / "repo" / MEMORY_NAME
        self.built = 0
        real = builder.build_image

        def build(*arguments: object, **options: object) -> bytearray:
            self.built += 1
            return real(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(builder, "build_image", build)
        # The code under test may have been written a moment ago.
        monkeypatch.setattr(image_memory, "STARTED_NS", 1 << 62)

    def create(self, **options: object) -> ObjectID:
        return create_image(self.repository, str(self.path / "tree"), "ref", **options)  # type: ignore[arg-type]

    def is_recalled(self, **options: object) -> bool:
        """Make the image and say whether that went without building; it is always the right one."""
        before = self.built
        found = self.create(**options)
        recalled = self.built == before
        assert found == self.create(use_cache=False, **options)
        data = object_file(self.repository, found).read_bytes()
        assert compute_digest(data, self.repository.algorithm) == found
        return recalled


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Site]:
    """Make a repository that remembers the image of a tree."""
    site = _Site(tmp_path, monkeypatch)
    with site.repository:
        assert not site.is_recalled()
        assert site.is_recalled()
        yield site


def test_the_memory_is_readable_like_the_rest_of_a_repository(site: _Site) -> None:
    assert stat.S_IMODE(site.memory.stat().st_mode) == 0o644


def _set_time(usr: Path) -> None:
    os.utime(usr / "file", ns=(1, 1))


def _restore_time(change: Change) -> Change:
    """Return a change after which the directory has the time that it had before."""

    def restoring(usr: Path) -> None:
        before = usr.stat().st_mtime_ns
        change(usr)
        os.utime(usr, ns=(before, before))

    return restoring


def _change_target(usr: Path) -> None:
    before = (usr / "link").lstat().st_mtime_ns
    (usr / "link").unlink()
    (usr / "link").symlink_to("same")
    os.utime(usr / "link", ns=(before, before), follow_symlinks=False)


def _link_same(usr: Path) -> None:
    """Make two files one, whose content and times are the same."""
    before = (usr / "same").stat().st_mtime_ns
    (usr / "same").unlink()
    (usr / "same").hardlink_to(usr / "file")
    os.utime(usr / "file", ns=(before, before))


def _rewrite(name: str) -> Change:
    """Return a change of content that keeps size and times."""

    def rewrite(usr: Path) -> None:
        before = (usr / name).stat()
        (usr / name).write_bytes(b"x" * before.st_size)
        os.utime(usr / name, ns=(before.st_mtime_ns, before.st_mtime_ns))

    return rewrite


CHANGES: dict[str, Change] = {
    "content": _rewrite("file"),
    "inline content": _rewrite("inline"),
    "mode": lambda usr: (usr / "file").chmod(0o751),
    "mode of a directory": lambda usr: usr.chmod(0o751),
    "owner": lambda usr: os.chown(usr / "file", 1234, -1),
    "group": lambda usr: os.chown(usr, -1, 1234),
    "time": _set_time,
    "target": _restore_time(_change_target),
    "hard link": _restore_time(_link_same),
    "rename": _restore_time(lambda usr: (usr / "file").rename(usr / "other")),
    "exchange": _restore_time(
        lambda usr: [
            (usr / a).rename(usr / b) for a, b in (("file", "x"), ("inline", "file"), ("x", "inline"))
        ]
    ),
    "removal": _restore_time(lambda usr: (usr / "same").unlink()),
    "new directory": _restore_time(lambda usr: (usr / "empty").mkdir()),
    "fifo": _restore_time(lambda usr: os.mkfifo(usr / "fifo")),
    "device": _restore_time(lambda usr: os.mknod(usr / "null", 0o20600, os.makedev(1, 3))),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_tree_has_another_image(site: _Site, change: Change) -> None:
    before = site.create()
    try:
        change(site.usr)
    except PermissionError:
        pytest.skip("needs root")
    assert not site.is_recalled()
    assert site.create() != before
    assert site.is_recalled()


def test_a_changed_device_number_has_another_image(site: _Site) -> None:
    for minor in (3, 5):
        with suppress(FileNotFoundError):
            (site.usr / "device").unlink()
        try:
            os.mknod(site.usr / "device", 0o20600, os.makedev(1, minor))
        except PermissionError:
            pytest.skip("needs root")
        os.utime(site.usr / "device", ns=(1, 1))
        os.utime(site.usr, ns=(1, 1))
        assert not site.is_recalled()


def test_a_changed_attribute_has_another_image(site: _Site) -> None:
    options = {"propagate_usr": False}
    for value in (b"one", b"two"):
        try:
            os.setxattr(site.usr / "file", "user.key", value)
        except OSError:
            pytest.skip("the file system has no attributes")
        assert not site.is_recalled(**options)
    assert site.is_recalled(**options)


def test_options_are_told_apart(site: _Site) -> None:
    assert not site.is_recalled(propagate_usr=False)
    assert not site.is_recalled(xattr_filter=XattrFilter.KEEP_USER)
    assert site.is_recalled(propagate_usr=False)


def test_formats_are_told_apart(site: _Site) -> None:
    site.repository.erofs_versions = (FormatVersion.V1, FormatVersion.V2)
    assert not site.is_recalled()
    assert site.is_recalled()
    site.repository.erofs_versions = (FormatVersion.V2,)
    assert site.is_recalled()
    site.repository.erofs_versions = (FormatVersion.V0,)
    assert not site.is_recalled()


def test_code_is_told_apart(site: _Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_memory, "_digest_code", lambda _: b"another program")
    assert not site.is_recalled()
    assert site.is_recalled()


def test_code_that_cannot_be_read_recalls_nothing(site: _Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_memory, "_DECIDING", ("nowhere",))
    before = site.memory.read_bytes()
    assert not site.is_recalled()
    assert not site.is_recalled()
    assert site.memory.read_bytes() == before


def test_code_that_was_replaced_in_the_meantime_recalls_nothing(
    site: _Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is loaded may be the code from before."""
    monkeypatch.setattr(image_memory, "STARTED_NS", 0)
    before = site.memory.read_bytes()
    assert not site.is_recalled()
    assert not site.is_recalled()
    assert site.memory.read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"short", b"content"])
def test_an_image_that_is_damaged_is_built_again(site: _Site, damage: bytes) -> None:
    path = object_file(site.repository, site.create())
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(damage if damage != b"content" else content[:-1] + bytes((content[-1] ^ 1,)))
    assert not site.is_recalled()
    assert path.read_bytes() == content


def test_an_image_that_is_missing_is_built_again(site: _Site) -> None:
    path = object_file(site.repository, site.create())
    path.unlink()
    assert not site.is_recalled()
    assert path.is_file()


def _replace_image(data: bytes) -> bytes:
    """Name another object of the same size, with a checksum that is right."""
    body = data[:-33] + bytes((data[-33] ^ 1,))
    return body + hashlib.sha256(body).digest()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "short": lambda data: data[:-1],
    "long": lambda data: data + bytes(1),
    "bit": lambda data: data[:20] + bytes((data[20] ^ 1,)) + data[21:],
    "checksum": lambda data: data[:-1] + bytes((data[-1] ^ 1,)),
    "no image": _replace_image,
    "part of a record": lambda data: data[:50] + hashlib.sha256(data[:50]).digest(),
    "other magic": lambda data: (
        b"12345678" + data[8:-32] + hashlib.sha256(b"12345678" + data[8:-32]).digest()
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_memory_is_not_used_and_written_again(
    site: _Site, damage: Callable[[bytes], bytes]
) -> None:
    site.memory.write_bytes(damage(site.memory.read_bytes()))
    assert not site.is_recalled()
    assert site.is_recalled()


def test_an_oversized_memory_is_not_read(site: _Site) -> None:
    os.truncate(site.memory, 1 << 40)
    assert not site.is_recalled()


@pytest.mark.parametrize("place", ["memory", "repository"])
def test_what_others_can_write_is_not_believed(site: _Site, place: str) -> None:
    path = site.memory if place == "memory" else site.memory.parent
    path.chmod(0o770 if place == "repository" else 0o620)
    assert not site.is_recalled()
    assert site.is_recalled() == (place == "memory")


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory", "second name"])
def test_what_is_no_file_is_not_opened(site: _Site, kind: str) -> None:
    kept = site.path / "kept"
    site.memory.rename(kept)
    if kind == "fifo":
        os.mkfifo(site.memory)
    elif kind == "symlink":
        site.memory.symlink_to(kept)
    elif kind == "second name":
        site.memory.hardlink_to(kept)
    else:
        site.memory.mkdir()
    assert not site.is_recalled()


@pytest.mark.parametrize("option", ["use_cache", "verify_cache"])
def test_without_the_cache_images_are_built(site: _Site, option: str) -> None:
    before = site.built
    site.create(**{option: option != "use_cache"})
    assert site.built == before + 1


def test_a_copied_repository_recalls_the_same(site: _Site) -> None:
    """The key has nothing to do with the place."""
    shutil.copytree(site.path / "repo", site.path / "copy", symlinks=True)
    with Repository.open(str(site.path / "copy")) as copy:
        before = site.built
        assert create_image(copy, str(site.path / "tree")) == site.create()
        assert site.built == before


def test_only_the_newest_are_kept(site: _Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_memory, "_MAX_RECORDS", 2)
    for mode in (0o700, 0o710):
        site.usr.chmod(mode)
        assert not site.is_recalled()
    assert site.memory.stat().st_size == 8 + 2 * (32 + 8 + Algorithm.SHA512.digest_size) + 32
    site.usr.chmod(0o700)
    assert site.is_recalled()
