"""What the mount tests do inside a mount namespace of their own; run as a program by `test_mount`.

usage: mount_jobs.py JOB DIRECTORY

The directory holds ``image``, ``objects`` and an empty ``mnt``. Prints the result as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from cfsctl import mount
from cfsctl.cli.tools.mount_composefs import main as mount_composefs
from cfsctl.linux import mountapi
from cfsctl.mount import MountOptions, Verity, WritableLayer, mount_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Result: TypeAlias = "dict[str, object]"


def open_directory(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def mount_it(options: MountOptions | None = None, objects: tuple[str, ...] = ("objects",)) -> None:
    image = os.open("image", os.O_RDONLY)
    dirs = [open_directory(path) for path in objects]
    try:
        mount_image(image, dirs, "mnt", options)
    finally:
        for fd in (image, *dirs):
            os.close(fd)


def read(path: str) -> str:
    """Return a file's text, or the name of the error."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def describe() -> Result:
    """Return what is mounted at ``mnt``, and what is seen there."""
    here = os.path.realpath("mnt")
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [fields for fields in map(str.split, file) if fields[4] == here]
    if not mounts:
        return {"mounts": 0}
    fields = mounts[-1]
    kind, source, options = fields[fields.index("-") + 1 :]
    link = os.lstat("mnt/link")
    return {
        "mounts": len(mounts),
        "read_only": "ro" in fields[5].split(","),
        "type": kind,
        "source": source,
        "options": [option for option in options.split(",") if "dir" not in option or option[:5] == "redir"],
        "names": sorted(os.listdir("mnt")),
        "inline": read("mnt/inline"),
        "external": read("mnt/external"),
        "external_again": read("mnt/dir/again"),
        "same_inode": os.stat("mnt/external").st_ino == os.stat("mnt/dir/again").st_ino,
        "link": os.readlink("mnt/link"),
        "owners": [os.stat("mnt/inline").st_uid, link.st_uid],
        "mode": oct(os.stat("mnt/inline").st_mode),
        "label": os.getxattr("mnt/inline", "user.note").decode(),
    }


def leftovers() -> Result:
    """Return what should not be there any more."""
    return {
        "temporary": [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("cfsctl-mount-")],
        "open": len(os.listdir("/proc/self/fd")),
        "loops": subprocess.run(
            ["losetup", "--list", "--noheadings", "--output", "BACK-FILE"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.count(os.getcwd()),
    }


@contextmanager
def refusing(name: str, when: Callable[..., bool], number: int) -> Iterator[None]:
    """Make a call of `cfsctl.mount` fail as an older kernel's would."""
    real = getattr(mount, name)

    def refuse(*arguments: object) -> object:
        if when(*arguments):
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    setattr(mount, name, refuse)
    try:
        yield
    finally:
        setattr(mount, name, real)


def is_proc_source(_context: int, key: str, value: object) -> bool:
    return key == "source" and str(value).startswith("/proc/")


@contextmanager
def without_descriptors() -> Iterator[None]:
    with refusing("fsconfig_fd", lambda *_: True, errno.EINVAL):
        yield


# Jobs


def plain() -> Result:
    before = leftovers()
    mount_it(MountOptions("first", acl=False))
    return {**describe(), "leaves_nothing": leftovers() == before}


def by_path() -> Result:
    before = leftovers()
    with without_descriptors():
        mount_it(MountOptions("by-path"))
    return {**describe(), "leaves_nothing": leftovers() == before}


def many_directories(*, paths: bool) -> Result:
    dirs = []
    for number in range(40):
        os.makedirs(f"more/{number}", exist_ok=True)
        dirs.append(f"more/{number}")
    dirs += ["more/3", "objects", "objects"]  # the content is in the last; repeated ones do no harm
    if not paths:
        mount_it(objects=tuple(dirs))
    else:
        with without_descriptors():
            mount_it(objects=tuple(dirs))
    return describe()


def on_loop_device() -> Result:
    with refusing("fsconfig_string", is_proc_source, errno.ENOTBLK):
        mount_it(MountOptions("loop"))
    result = describe()
    attached = leftovers()["loops"]
    mountapi.umount("mnt", mountapi.MNT_DETACH)
    return {**result, "attached": attached, "after": leftovers()["loops"]}


def without_loop_device() -> Result:
    no_file = refusing("fsconfig_string", is_proc_source, errno.ENOTBLK)
    with no_file, refusing("attach_loop", lambda *_: True, errno.ENOENT):
        return failing(mount_it)


def stacked() -> Result:
    mount_it(MountOptions("one"))
    mount_it(MountOptions("two"))
    result = describe()
    mountapi.umount("mnt")
    return {"top": result["source"], "mounts": result["mounts"], "below": describe()["source"]}


def long_name() -> Result:
    mount_it(MountOptions("n" * 400))
    return {"length": len(str(describe()["source"]))}


def with_verity() -> Result:
    result: Result = {}
    for verity in Verity:
        mount_it(MountOptions(verity=verity))
        seen = describe()
        result[verity.value] = [seen["inline"], seen["external"], "verity=require" in str(seen["options"])]
        mountapi.umount("mnt")
    return result


def verity_unknown_by_path() -> Result:
    with without_descriptors():
        return verity_unknown_when_set()


def verity_unknown_when_set() -> Result:
    def when(_context: int, key: str, _value: object) -> bool:
        return key == "verity"

    with refusing("fsconfig_string", when, errno.EINVAL):
        required = failing(lambda: mount_it(MountOptions(verity=Verity.REQUIRE)))
        mount_it(MountOptions(verity=Verity.TRY))
    return {**required, "external": describe()["external"]}


def writable(*, read_write: bool) -> Result:
    os.makedirs("upper/u", exist_ok=True)
    os.makedirs("upper/w", exist_ok=True)
    layer = WritableLayer("upper/u", "upper/w")
    mount_it(MountOptions(writable_layer=layer, read_write=read_write))
    try:
        with open("mnt/external", "a", encoding="utf-8") as file:
            file.write("more")
    except OSError as error:
        return {"error": errno.errorcode[error.errno or 0], "upper": os.listdir("upper/u")}
    return {
        "external": read("mnt/external"),
        "upper": read("upper/u/external"),
    }


def writable_by_path() -> Result:
    with without_descriptors():
        return writable(read_write=True)


def mapped_owners() -> Result:
    keeper = subprocess.Popen(["unshare", "--user", "sleep", "60"])
    try:
        wait_for_namespace(keeper.pid, "user")
        for kind in ("uid_map", "gid_map"):
            with open(f"/proc/{keeper.pid}/{kind}", "w", encoding="ascii") as file:
                file.write("0 100000 65536")
        userns = os.open(f"/proc/{keeper.pid}/ns/user", os.O_RDONLY)
        mount_it(MountOptions(userns_fd=userns))
        return {"owners": describe()["owners"]}
    finally:
        keeper.kill()
        keeper.wait()


def wait_for_namespace(pid: int, kind: str) -> None:
    """Wait until a process has a namespace of its own."""
    ours = os.readlink(f"/proc/self/ns/{kind}")
    while os.readlink(f"/proc/{pid}/ns/{kind}") == ours:
        time.sleep(0.005)


def failing(action: Callable[[], object]) -> Result:
    """Return what an action fails with, and that it leaves nothing behind."""
    before = leftovers()
    try:
        action()
    except OSError as error:
        return {
            "errno": errno.errorcode[error.errno or 0],
            "text": error.strerror,
            "leaves_nothing": leftovers() == before and describe() == {"mounts": 0},
        }
    return {"errno": None}


def not_an_image() -> Result:
    with open("image", "r+b") as file:
        file.truncate(0)
        file.truncate(1 << 16)
    return failing(mount_it)


def broken_overlay() -> Result:
    os.makedirs("upper/u/inner", exist_ok=True)
    # The work directory lies inside the upper one, which overlayfs refuses.
    return failing(lambda: mount_it(MountOptions(writable_layer=WritableLayer("upper/u", "upper/u/inner"))))


def nowhere() -> Result:
    def at(mountpoint: str) -> None:
        image = os.open("image", os.O_RDONLY)
        try:
            mount_image(image, [], mountpoint)
        finally:
            os.close(image)

    return {path: failing(lambda path=path: at(path)) for path in ("missing", "image")}  # type: ignore[misc] # default binds the loop variable


def through_a_link() -> Result:
    os.symlink("mnt", "link-to-mnt")
    status = mount_composefs(["-o", "basedir=objects,ro", "image", "link-to-mnt"])
    return {"status": status, **describe()}


def program(*options: str) -> Result:
    status = mount_composefs(["image", "mnt", "-o", ",".join(["basedir=objects", *options])])
    return {"status": status, **describe()}


def in_another_namespace() -> Result:
    keeper = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "60"])
    try:
        wait_for_namespace(keeper.pid, "mnt")
        target = os.path.realpath("mnt")
        child = os.fork()
        if not child:
            options = f"basedir={os.path.realpath('objects')}"
            arguments = ["-N", str(keeper.pid), "-o", options, os.path.realpath("image"), target]
            os._exit(mount_composefs(arguments))
        _, status = os.waitpid(child, 0)
        with open(f"/proc/{keeper.pid}/mountinfo", encoding="utf-8") as file:
            there = sum(line.split()[4] == target for line in file)
        return {"status": status, "there": there, "here": describe()["mounts"]}
    finally:
        keeper.kill()
        keeper.wait()


JOBS: dict[str, Callable[[], Result]] = {
    "plain": plain,
    "by-path": by_path,
    "many": lambda: many_directories(paths=False),
    "many-by-path": lambda: many_directories(paths=True),
    "loop": on_loop_device,
    "no-loop": without_loop_device,
    "stacked": stacked,
    "long-name": long_name,
    "verity": with_verity,
    "verity-unknown": verity_unknown_when_set,
    "verity-unknown-by-path": verity_unknown_by_path,
    "writable": lambda: writable(read_write=True),
    "writable-by-path": writable_by_path,
    "upper-read-only": lambda: writable(read_write=False),
    "mapped": mapped_owners,
    "not-an-image": not_an_image,
    "broken-overlay": broken_overlay,
    "nowhere": nowhere,
    "link": through_a_link,
    "program": program,
    "program-ro": lambda: program("ro", "tryverity"),
    "namespace": in_another_namespace,
}


def main(job: str, directory: str) -> None:
    os.chdir(directory)
    try:
        os.close(mountapi.fsopen("overlay"))
    except PermissionError:
        result: Result = {"skip": "mounting is not allowed here"}
    else:
        result = JOBS[job]()
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
