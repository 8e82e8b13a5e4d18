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
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.linux import mountapi
from cfsctl.linux.mountinfo import list_processes
from cfsctl.linux.syscalls import CLONE_NEWNS, check, libc
from cfsctl.mount import MountOptions, WritableLayer, mount_image
from cfsctl.repository import Repository, init_repository
from cfsctl.repository.gc.collect import collect_garbage, explain_object
from cfsctl.repository.gc.mount_finder import MountFinder
from cfsctl.tree.model import Directory, ExternalFile, FileSystem
from tests.support.repositories import object_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.linux.mountinfo import Mount
    from cfsctl.repository.gc.mount_finder import LiveMount
    from cfsctl.repository.gc.results import GcResult

SIZE = 3000
_MS_REC_PRIVATE = 1 << 18 | 1 << 14
NOBODY = 65534
CLONE_NEWPID = 0x20000000


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


def other_thread() -> dict[str, object]:
    """Only a thread in a namespace of its own sees the mount."""
    import threading

    place = Place()
    place.repository.lock.release()
    ready, done = threading.Event(), threading.Event()

    def work() -> None:
        check(libc().unshare(CLONE_NEWNS))
        check(libc().mount(b"none", b"/", None, _MS_REC_PRIVATE, None))
        os.chdir(place_path)
        place.repository = Repository.open("r")  # what was opened before belongs to the old namespace
        place.repository.lock.release()
        with place.mounted("im"):
            ready.set()
            done.wait()

    place_path = os.getcwd()
    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    try:
        return collect_elsewhere()
    finally:
        done.set()
        thread.join()


def empty_namespace(kept_by: str) -> dict[str, object]:
    """The mount is in a namespace without processes, which a file keeps, mounted or open."""
    # The kernel lets a namespace be mounted only in an older one. Since Linux 6.18 the numbers that decide
    # it are given to each processor in batches: only on one processor is what is made later also younger.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    check(libc().unshare(CLONE_NEWNS))
    os.chdir(os.getcwd())  # as above
    place = Place()
    place.repository.lock.release()
    reader, writer = os.pipe()
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)  # so that the child ends when this process does
        check(libc().unshare(CLONE_NEWNS))
        check(libc().mount(b"none", b"/", None, _MS_REC_PRIVATE, None))
        os.chdir(os.getcwd())  # as above
        place.repository = Repository.open("r")
        place.repository.lock.release()
        with place.mounted("im"):
            os.write(writer, b"x")
            os.read(wait, 1)
            os._exit(0)
    os.close(writer)  # so that a child that fails is not waited for
    try:
        os.read(reader, 1)
        namespace = os.open(f"/proc/{child}/ns/mnt", os.O_RDONLY)
        if kept_by == "mount":
            keep_mounted(f"/proc/{child}/ns/mnt")
            os.close(namespace)
    finally:
        os.close(go)
        os.waitpid(child, 0)
    return collect_elsewhere()


def keep_mounted(namespace: str) -> None:
    """Mount the file of a mount namespace."""
    Path("namespaces").mkdir()
    subprocess.run(["mount", "--bind", "namespaces", "namespaces"], check=True)
    subprocess.run(["mount", "--make-private", "namespaces"], check=True)
    Path("namespaces/one").touch()
    subprocess.run(["mount", "--bind", namespace, "namespaces/one"], check=True)


def collect_elsewhere() -> dict[str, object]:
    """Collect in a program of its own, whose words and exit status are returned."""
    program = (
        "import json, sys\n"
        "from cfsctl.repository import Repository\n"
        "from cfsctl.repository.gc.collect import collect_garbage\n"
        "with Repository.open('r') as repository:\n"
        "    result = collect_garbage(repository)\n"
        "print(json.dumps([result.objects_removed, result.is_complete, list(result.problems)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return {"answer": json.loads(done.stdout)} if done.returncode == 0 else {"error": done.stderr}


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
    find = MountFinder.find
    ends = [lambda: mountapi.umount("mnt")]

    def find_late(finder: MountFinder, views: list[Mount]) -> LiveMount | None:
        if ends and views[0].kind == b"overlay":
            ends.pop()()
        return find(finder, views)

    MountFinder.find = find_late  # type: ignore[method-assign,assignment]  # others may do so
    fd = place.repository.objects.open(place.old)
    mount_image(fd, [place.repository.objects.objects_fd()], "mnt", MountOptions("im"))
    os.close(fd)
    result = place.collect()
    return {"removed": result.objects_removed, "mounts": len(result.mounts)}


@contextlib.contextmanager
def stranger(program: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program of a user without rights until it is ready; it ends with the block."""
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise PermissionError("Operation not permitted: user namespaces or FUSE")
            yield process
        finally:
            process.stdin.close()


@contextlib.contextmanager
def public_directory() -> Iterator[str]:
    """Make a directory that everybody may write to."""
    with tempfile.TemporaryDirectory(prefix="cfsctl-test-", ignore_cleanup_errors=True) as path:
        os.chmod(path, 0o777)
        yield path


@contextlib.contextmanager
def silent_fuse(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Let a stranger mount a file system that does not answer; nothing but `finish` reads what is said."""
    with public_directory() as path:
        program = str(Path(__file__).parents[1] / "support" / "silent_fuse.py")
        os.mknod(f"{path}/device", 0o20666, os.stat("/dev/fuse").st_rdev)
        os.chmod(f"{path}/device", 0o666)
        os.mkdir(f"{path}/m", 0o777)
        os.chmod(f"{path}/m", 0o777)
        command = [sys.executable, program, str(NOBODY), f"{path}/device", f"{path}/m", *words]
        with stranger(command) as process:
            yield process


def finish(process: subprocess.Popen[str]) -> list[str]:
    """End a stranger's program; return what it has said since it was ready."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    return process.stdout.read().splitlines()


def silent(*words: str) -> dict[str, object]:
    """An image of ours is detached, so that everything there is has to be looked at."""
    place = Place()
    with place.mounted("im"):
        fd = os.open("mnt/usr", os.O_RDONLY)
    with silent_fuse(*words) as process:
        result = place.collect()
        said = finish(process)
    os.close(fd)
    kept = place.repository.objects.contains(place.old)
    return {"said": said, "complete": result.is_complete, "old": kept}


def silent_over_listed() -> dict[str, object]:
    """The overlay of a stranger is named and made as ours are."""
    place = Place()
    with place.mounted("im"), silent_fuse() as process:
        result = place.summary(place.collect())
        return {**result, "said": finish(process)}


def pinned() -> dict[str, object]:
    """A stranger's detached overlay, which could have any image below its upper layer, pins none."""
    place = Place()
    garbage = place.put(b"garbage")
    place.repository.images.write(image_of(garbage, garbage, garbage, size=SIZE))
    mount = (
        "mount -t tmpfs t $0 && mkdir $0/a $0/b $0/m && cd $0 &&"
        " mount -t overlay -o lowerdir=a:b composefs:x m && cd m && umount -l $0/m && echo ready && exec cat"
    )
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    with (
        public_directory() as path,
        place.mounted(place.old.hex()),
        stranger([*become, "unshare", "-Urm", "sh", "-c", mount, path]),
    ):
        result = place.summary(place.collect())
    return {**result, "garbage": place.repository.objects.contains(garbage)}


def blind(hide: Callable[[], None]) -> dict[str, object]:
    """Collect in a child that cannot see the mount."""
    place = Place()
    collect_garbage(place.repository, dry_run=True)  # has everything imported, which a user may not read
    place.repository.lock.release()
    with place.mounted("im"):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            hide()
            result = collect_garbage(Repository.open("r"))
            os.write(
                writer, json.dumps([result.objects_removed, result.is_complete, result.problems]).encode()
            )
            os._exit(0)
        os.close(writer)
        with open(reader, encoding="utf-8") as stream:
            answer = json.load(stream)
        os.waitpid(child, 0)
        return {"answer": answer, "readable": read("mnt/usr/file0")}


def _unmount_proc() -> None:
    mountapi.umount("/proc", mountapi.MNT_DETACH)


def _cover_mountinfo() -> None:
    """Hide one file of this process, as sandboxes do."""
    mount = ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", f"/proc/{os.getpid()}"]
    subprocess.run(mount, check=True)


def _hide_processes() -> None:
    """Be a user from whom /proc hides the processes of others."""
    # A new one: to remount would change that of the whole system.
    subprocess.run(["mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"], check=True)
    _be_nobody()


def _forbid_processes() -> None:
    """See that others in the namespace of the mount exist, and nothing more, as security modules have it."""
    namespace = os.readlink("/proc/self/ns/mnt")
    _leave_the_mount()
    for pid in list_processes():
        with contextlib.suppress(OSError):
            if pid != os.getpid() and os.readlink(f"/proc/{pid}/ns/mnt") == namespace:
                mount = ["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", f"/proc/{pid}"]
                subprocess.run(mount, check=True)
    _drop_rights()


def _be_nobody() -> None:
    _leave_the_mount()
    _drop_rights()


def _drop_rights() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _leave_the_mount() -> None:
    """See nothing of the mount in one's own namespace, and own the repository."""
    check(libc().unshare(CLONE_NEWNS))
    mountapi.umount("mnt", mountapi.MNT_DETACH)
    for top, names, files in os.walk("r"):
        for name in [".", *names, *files]:
            os.chown(os.path.join(top, name), NOBODY, NOBODY, follow_symlinks=False)


def _enter_pid_namespace() -> None:
    """Go where the processes that see the mount have no number."""
    _leave_the_mount()
    check(libc().unshare(CLONE_NEWPID))
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)


def _see_another_pid_namespace() -> None:
    """Have the /proc of a namespace that this process has no number in."""
    command = ["unshare", "--pid", "--fork", "--", "mount", "-t", "proc", "proc", "/proc"]
    subprocess.run(command, check=True)


JOBS = {
    "silent": silent,
    "silent_detached": lambda: silent("detached"),
    "silent_over_listed": silent_over_listed,
    "pinned": pinned,
    "no_proc": lambda: blind(_unmount_proc),
    "no_mountinfo": lambda: blind(_cover_mountinfo),
    "hidepid": lambda: blind(_hide_processes),
    "forbidden": lambda: blind(_forbid_processes),
    "not_root": lambda: blind(_be_nobody),
    "pid_namespace": lambda: blind(_enter_pid_namespace),
    "other_proc": lambda: blind(_see_another_pid_namespace),
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
    "other_thread": other_thread,
    "empty_namespace": lambda: empty_namespace("mount"),
    "empty_namespace_open": lambda: empty_namespace("open"),
    "covered": covered,
}


def main() -> None:
    os.chdir(sys.argv[2])
    sys.stdout.write(json.dumps(JOBS[sys.argv[1]]()))


if __name__ == "__main__":
    main()
