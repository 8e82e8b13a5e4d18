"""What the tests of collection beside mounts do in a mount namespace of their own.

usage: gc_mount_jobs.py JOB DIRECTORY

The directory becomes the home of a repository ``r`` with two images that differ in one file's content only,
``old`` and ``new``, of which the ref ``im`` names the new one. Prints the result as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.writer import build_image
from cfsctl.linux import mountapi
from cfsctl.linux.syscalls import CLONE_NEWNS, check, libc
from cfsctl.mount import MountOptions, WritableLayer, mount_image
from cfsctl.repository import Repository, init_repository, live_mounts
from cfsctl.repository.gc import GcResult, collect_garbage, explain_object
from cfsctl.tree.model import Directory, ExternalFile, FileSystem
from tests.support.repositories import object_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.linux.mountinfo import Mount
    from cfsctl.repository.live_mounts import LiveMount

SIZE = 3000
_MS_REC_PRIVATE = 1 << 18 | 1 << 14


def image_of(*files: ObjectID, size: int) -> bytes:
    """Return an image of files below /usr; two with as many files show nothing that tells them apart."""
    root, usr = Directory(0o755, mtime_s=10**9), Directory(0o755)
    root.entries[b"usr"] = usr
    for number, file in enumerate(files):
        usr.entries[b"file%d" % number] = ExternalFile(file, size, 0o644)
    return bytes(build_image(FileSystem(root), FormatVersion.V1))


class Place:
    """The repository and its images.

    Attributes:
        old: The image that has no ref any more.
        file: An object that only the old image needs.
    """

    def __init__(self) -> None:
        init_repository("r", insecure=True)
        self.repository = Repository.open("r")
        self.file = self.put(b"old")
        self.old = self.repository.images.write(image_of(self.file, size=SIZE), "im").object_id
        self.repository.images.write(image_of(self.put(b"new"), size=SIZE), "im")
        os.mkdir("mnt")

    def put(self, label: bytes) -> ObjectID:
        return self.repository.objects.ensure_bytes(label.ljust(SIZE)).object_id

    @contextlib.contextmanager
    def mounted(self, name: str, options: MountOptions | None = None) -> Iterator[None]:
        """Mount the old image as ``cfsctl mount NAME`` did while NAME led there."""
        fd = self.repository.objects.open(self.old)
        try:
            mount_image(fd, [self.repository.objects.objects_fd()], "mnt", options or MountOptions(name))
        finally:
            os.close(fd)
        yield
        mountapi.umount("mnt", mountapi.MNT_DETACH)

    def collect(self) -> GcResult:
        return collect_garbage(self.repository)

    def summary(self, result: GcResult) -> dict[str, object]:
        return {
            "removed": result.objects_removed,
            "complete": result.is_complete,
            "mounts": [[len(mount.image_ids), mount.is_certain] for mount in result.mounts],
            "old": self.repository.objects.contains(self.old),
            "file": self.repository.objects.contains(self.file),
            "readable": read("mnt/usr/file0"),
        }


def read(path: str) -> str:
    try:
        return Path(path).read_bytes()[:3].decode()
    except OSError as error:
        return type(error).__name__


def by(name: Callable[[Place], str], options: MountOptions | None = None) -> dict[str, object]:
    place = Place()
    with place.mounted(name(place), options):
        result = place.summary(place.collect())
    return {**result, "removed_afterwards": place.collect().objects_removed}


def by_moved_ref() -> dict[str, object]:
    return by(lambda _: "im")


def by_id() -> dict[str, object]:
    return by(lambda place: place.old.hex())


def writable() -> dict[str, object]:
    os.mkdir("upper")
    os.mkdir("work")
    return by(lambda _: "im", MountOptions("im", writable_layer=WritableLayer("upper", "work")))


def other_image() -> dict[str, object]:
    """An image of another repository is not taken for one of ours."""
    place = Place()
    os.mkdir("elsewhere")
    with contextlib.chdir("elsewhere"):
        other = Place()
        with other.mounted("im"):
            result = place.collect()
    return {"removed": result.objects_removed, "mounts": len(result.mounts)}


def unknown_image() -> dict[str, object]:
    """An image from outside that uses our objects may need any of them."""
    place = Place()
    Path("image").write_bytes(image_of(place.file, place.file, size=SIZE))
    fd = os.open("image", os.O_RDONLY)
    mount_image(fd, [place.repository.objects.objects_fd()], "mnt", MountOptions("composefs"))
    os.close(fd)
    result = place.summary(place.collect())
    mountapi.umount("mnt")
    return {**result, "removed_afterwards": place.collect().objects_removed}


def mount_erofs(source: str) -> None:
    context = mountapi.fsopen("erofs")
    mountapi.fsconfig_string(context, "source", source)
    mountapi.fsconfig_create(context)
    mount = mountapi.fsmount(context)
    mountapi.move_mount(mount, "mnt")
    os.close(mount)
    os.close(context)


def erofs(*, loop: bool) -> dict[str, object]:
    place = Place()
    source = str(object_file(place.repository, place.old).resolve())
    if loop:
        subprocess.run(["mount", "-t", "erofs", "-o", "ro,loop", source, "mnt"], check=True)
    else:
        mount_erofs(source)
    result = place.summary(place.collect())
    mountapi.umount("mnt", mountapi.MNT_DETACH)
    return {**result, "removed_afterwards": place.collect().objects_removed}


def other_namespace() -> dict[str, object]:
    """Only a child in a namespace of its own sees the mount."""
    place = Place()
    ready, tell = os.pipe()
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        check(libc().unshare(CLONE_NEWNS))
        check(libc().mount(b"none", b"/", None, _MS_REC_PRIVATE, None))
        os.chdir(os.getcwd())  # what was opened before belongs to the old namespace
        place.repository = Repository.open("r")
        place.repository.lock.release()
        with place.mounted("im"):
            os.write(tell, b"x")
            os.read(wait, 1)
            os._exit(0)
    os.close(tell)
    os.close(wait)
    os.read(ready, 1)
    result = place.summary(place.collect())
    os.close(go)
    os.waitpid(child, 0)
    return {**result, "removed_afterwards": place.collect().objects_removed}


def why() -> dict[str, object]:
    place = Place()
    with place.mounted("im"):
        steps = explain_object(place.repository, place.file).steps
    return {"steps": list(steps), "kept": explain_object(place.repository, place.file).is_kept}


def covered() -> dict[str, object]:
    """A mount under another one cannot be asked, so it may be of any image."""
    place = Place()
    with place.mounted("im"):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "mnt"], check=True)
        result = place.summary(place.collect())
        mountapi.umount("mnt")
    return {**result, "removed_afterwards": place.collect().objects_removed}


def detached(*, held: str, options: MountOptions | None = None) -> dict[str, object]:
    """Only something that is open leads into the mount still."""
    place = Place()
    with place.mounted("im", options):
        fd = os.open(f"mnt/{held}", os.O_RDONLY)
    result = place.summary(place.collect())
    if os.path.isdir(f"/proc/self/fd/{fd}"):
        result["readable"] = read(f"/proc/self/fd/{fd}/file0")
    else:
        result["readable"] = os.read(fd, 3).decode()
    os.close(fd)
    return {**result, "removed_afterwards": place.collect().objects_removed}


def detached_below_upper_layer() -> dict[str, object]:
    os.mkdir("upper")
    os.mkdir("work")
    return detached(held="usr", options=MountOptions("im", writable_layer=WritableLayer("upper", "work")))


def detached_from_elsewhere() -> dict[str, object]:
    """A detached EROFS that is like no image is none of ours."""
    place = Place()
    Path("image").write_bytes(image_of(place.file, place.file, size=SIZE))
    mount_erofs("image")
    fd = os.open("mnt", os.O_RDONLY)
    mountapi.umount("mnt", mountapi.MNT_DETACH)
    result = place.collect()
    os.close(fd)
    return {"removed": result.objects_removed, "mounts": len(result.mounts)}


def detached_overlay_from_elsewhere() -> dict[str, object]:
    """Nor is a detached overlay without an upper layer."""
    place = Place()
    os.mkdir("elsewhere")
    with contextlib.chdir("elsewhere"):
        other = Place()
        other.old = other.repository.images.write(image_of(other.file, other.file, size=SIZE)).object_id
        with other.mounted("im"):
            fd = os.open("mnt", os.O_RDONLY)
    result = place.collect()
    os.close(fd)
    return {"removed": result.objects_removed, "mounts": len(result.mounts)}


def gone_meanwhile() -> dict[str, object]:
    """A mount that ends while it is looked at keeps nothing, however little it shows of itself."""
    place = Place()
    find = live_mounts._Finder.find
    ends = [lambda: mountapi.umount("mnt")]

    def find_late(finder: live_mounts._Finder, views: list[Mount]) -> LiveMount | None:
        if ends and views[0].kind == b"overlay":
            ends.pop()()
        return find(finder, views)

    live_mounts._Finder.find = find_late  # type: ignore[method-assign,assignment]  # others may do so
    fd = place.repository.objects.open(place.old)
    mount_image(fd, [place.repository.objects.objects_fd()], "mnt", MountOptions("im"))
    os.close(fd)
    result = place.collect()
    return {"removed": result.objects_removed, "mounts": len(result.mounts)}


JOBS = {
    "detached": lambda: detached(held="usr"),
    "detached_file": lambda: detached(held="usr/file0"),
    "detached_below_upper_layer": detached_below_upper_layer,
    "detached_from_elsewhere": detached_from_elsewhere,
    "detached_overlay_from_elsewhere": detached_overlay_from_elsewhere,
    "gone_meanwhile": gone_meanwhile,
    "by_moved_ref": by_moved_ref,
    "by_id": by_id,
    "writable": writable,
    "other_image": other_image,
    "unknown_image": unknown_image,
    "erofs_file": lambda: erofs(loop=False),
    "erofs_loop": lambda: erofs(loop=True),
    "other_namespace": other_namespace,
    "why": why,
    "covered": covered,
}


def main() -> None:
    os.chdir(sys.argv[2])
    sys.stdout.write(json.dumps(JOBS[sys.argv[1]]()))


if __name__ == "__main__":
    main()
