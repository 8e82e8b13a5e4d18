"""What the tests of FUSE mounts do in a mount namespace of their own; run as a program by `test_fuse`.

usage: fuse_jobs.py JOB DIRECTORY [ARGUMENT...]

Every user must be able to look into the directory, which becomes the home of a repository ``r``, of the FUSE
device ``fuse``, and of mount points. Prints the result as JSON.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import random
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import sysconfig
import time
from typing import TYPE_CHECKING, TypeAlias

import cfsctl as package
from cfsctl import mount
from cfsctl.digest import qualified
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.fuse.files import ImageFiles
from cfsctl.fuse.names import View
from cfsctl.linux import mountapi
from cfsctl.linux.mountinfo import read_own_mounts
from cfsctl.linux.syscalls import CLONE_NEWNS, check, libc
from cfsctl.repository import Repository, init_repository
from cfsctl.repository.mounting.choice import FuseMode, FuseOptions
from cfsctl.repository.mounting.fuse_server import FuseMount, serve_image
from cfsctl.repository.mounting.servers import find_servers
from cfsctl.repository.mounting.stored import mount_stored_image
from cfsctl.repository.mounting.unmounting import unmount_image
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Socket,
    SparseFile,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cfsctl.digest import ObjectID
    from cfsctl.tree.model import Leaf

    Result: TypeAlias = "dict[str, object]"

USER = 1
"""daemon: fusermount3 wants a user that has a name."""
OWNERS = (0, USER, 4321, 65536, 1 << 31)
_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, who)
    for tag, permissions, who in [
        (1, 6, 0xFFFFFFFF),
        (2, 4, USER),
        (4, 4, 0xFFFFFFFF),
        (16, 6, 0xFFFFFFFF),
        (32, 4, 0xFFFFFFFF),
    ]
)
_XATTRS = {
    b"user.note": b"hello",
    b"user.empty": b"",
    b"user.long": b"long" * 300,
    b"trusted.thing": b"\0\1",
    b"security.capability": struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0),
    b"trusted.overlay.opaque": b"y",
    b"trusted.overlay.redirect": b"/elsewhere",
    b"user.overlay.redirect": b"/elsewhere",
    b"user.overlay.metacopy": b"",
    b"user.overlay.overlay.x": b"z",
    b"trusted.overlay.overlay.x": b"z",
    b"system.posix_acl_access": _ACL,
}
_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
_PROGRAM = "import sys; from cfsctl.cli.main import main; sys.argv[0] = 'cfsctl'; sys.exit(main())"
CFSCTL = [sys.executable, "-c", _PROGRAM]


class RandomTree:
    """A tree with everything that an image can hold, but whiteouts, of which there are different opinions."""

    def __init__(
        self, repository: Repository, seed: int, version: FormatVersion, owners: tuple[int, ...]
    ) -> None:
        self._owners = owners
        self.random = random.Random(seed)
        self._repository = repository
        self._version = version
        self._leaves: list[Leaf] = []
        self.root = self._directory(0)
        self.root.mode, self.root.uid, self.root.xattrs = 0o755, 0, {b"user.note": b"hello"}
        self._add_known(self.root)

    def _add_known(self, root: Directory) -> None:
        """Add what every tree should have."""
        owner = self._owners[-1]
        root.entries[b"empty"] = InlineFile(b"", 0o644)
        root.entries[b"external"] = self._external(200_000)
        root.entries[b"other"] = self._external(70_000)
        root.entries[b"inline"] = InlineFile(b"inline\n", 0o644)
        root.entries[b"longest"] = Symlink(b"t" * 4000, 0o777)
        root.entries[b"old"] = InlineFile(b"old", 0o644, mtime_s=-1000, mtime_ns=7)
        root.entries[b"acl"] = InlineFile(
            b"for one user", 0o660, owner, owner, xattrs={b"system.posix_acl_access": _ACL}
        )
        many = root.entries[b"many"] = Directory(0o755)
        for number in range(700):
            many.entries[b"%d-" % number + b"n" * (number % 240)] = InlineFile(b"", 0o600)

    def _name(self) -> bytes:
        letters = self.random.choice([b"abc", b"\xff\xfe\xc3 \n\\", bytes(range(48, 123))])
        return bytes(self.random.choices(letters, k=self.random.choice([1, 3, 20, 255])))

    def _status(self) -> tuple[int, int, int, int, int, Mapping[bytes, bytes]]:
        pick = self.random.choice
        names = self.random.sample(list(_XATTRS), k=pick([0, 0, 1, 3, len(_XATTRS)]))
        return (
            pick([0o644, 0o755, 0o4755, 0o1777, 0o600, 0]),
            pick(self._owners),
            pick(self._owners),
            pick([0, 1, 1_600_000_000, -1]),
            pick([0, 1, 999_999_999]),
            {name: _XATTRS[name] for name in names},
        )

    def _external(self, size: int) -> ExternalFile:
        content = self.random.randbytes(size)
        return ExternalFile(self._repository.objects.ensure_bytes(content).object_id, size, *self._status())

    def _leaf(self) -> Leaf:
        pick = self.random.choice
        if self._leaves and self.random.random() < 0.2:
            return pick(self._leaves)
        match pick(["inline", "external", "link", "special"]):
            case "inline":
                sizes = [0, 1, 64, 500] + ([] if self._version is FormatVersion.V2 else [4095, 4096, 9000])
                leaf: Leaf = InlineFile(self.random.randbytes(pick(sizes)), *self._status())
            case "external":
                leaf = self._external(pick([1, 65, 4096, 4097, 150_000]))
            case "link":
                leaf = Symlink(b"x" * pick([1, 60, 1000]), *self._status())
            case _:
                kind = pick([Fifo, Socket])
                device = pick([CharDevice, BlockDevice])
                leaf = pick([kind(*self._status()), device(0x103, *self._status())])
        if not isinstance(leaf, (InlineFile, ExternalFile)):
            leaf.xattrs = {k: v for k, v in leaf.xattrs.items() if k.startswith((b"trusted.", b"security."))}
        self._leaves.append(leaf)
        return leaf

    def _directory(self, depth: int) -> Directory:
        directory = Directory(*self._status())
        for _ in range(self.random.choice([0, 2, 8]) if depth else 12):
            name = self._name()
            if name not in {b".", b".."} and b"/" not in name:
                is_directory = depth < 4 and self.random.random() < 0.4
                directory.entries[name] = self._directory(depth + 1) if is_directory else self._leaf()
        return directory


class Place:
    """A repository with an image ``im``."""

    def __init__(
        self, seed: int = 0, version: FormatVersion = FormatVersion.V1, owners: tuple[int, ...] = OWNERS
    ) -> None:
        init_repository("r", insecure=True)
        os.chmod("r", 0o755)
        self.repository = Repository.open("r")
        tree = RandomTree(self.repository, seed, version, owners)
        self.tree = FileSystem(tree.root)
        with open(object_of(self, b"other"), "rb") as file:
            self.other = hashlib.sha256(file.read()).digest()
        self.image_id = self.write(self.tree, version)
        self.repository.save_marks([])
        for name in ("kernel", "fuse-mnt", "upper", "work"):
            os.mkdir(name)
        os.chown("fuse-mnt", USER, USER)
        provide_device()
        provide_program()

    def write(self, tree: FileSystem, version: FormatVersion) -> ObjectID:
        return self.repository.images.write(bytes(build_image(tree, version)), "im").object_id

    @contextlib.contextmanager
    def served(
        self, view: View, *, is_secure: bool = False, keeps_lock: bool = True, namespace: bool = False
    ) -> Iterator[int]:
        """Serve the image in a child; the block begins when it is mounted, and ends when that has ended.

        Args:
            view: How it is mounted.
            is_secure: Demand right digests, which a repository does with a file system that has fs-verity.
            keeps_lock: Hold the lock of the repository.
            namespace: Mount in another mount namespace.
        """
        mountpoint = "fuse-mnt"
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                if namespace:
                    check(libc().unshare(CLONE_NEWNS))
                with Repository.open("r") as repository:
                    repository.is_secure = repository.objects.is_secure = is_secure
                    if not keeps_lock:
                        repository.lock.release()
                    wanted = FuseMount(
                        image_id=self.image_id, mountpoint=os.path.realpath(mountpoint), view=view
                    )
                    serve_image(repository, wanted, lambda: os.write(writer, b"r"))
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        assert os.read(reader, 1) == b"r", "the server has failed"
        os.close(reader)
        try:
            yield child
        finally:
            if namespace:
                os.kill(child, signal.SIGTERM)
            elif find_mounts(mountpoint):
                mountapi.umount(mountpoint, mountapi.MNT_DETACH)
            _, status = os.waitpid(child, 0)
            assert status == 0, status


def provide_device() -> None:
    """Let every user open the FUSE device, in this mount namespace."""
    os.mknod("fuse", stat.S_IFCHR | 0o666, os.makedev(10, 229))
    os.chmod("fuse", 0o666)
    subprocess.run(["mount", "--bind", "fuse", "/dev/fuse"], check=True)


def provide_program() -> None:
    """Show the program, which may be where nobody but root can go, in places where every user can go."""
    packages, sources = sysconfig.get_path("purelib"), os.path.dirname(os.path.dirname(package.__file__))
    places = {"python": sys.base_prefix, "packages": packages, "sources": sources, "project": _ROOT}
    for name, place in places.items():
        os.mkdir(name)
        subprocess.run(["mount", "--bind", "-o", "ro", place, name], check=True)


def find_mounts(path: str) -> list[tuple[str, str]]:
    """Return type and source of what is mounted at a path."""
    wanted = os.fsencode(os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path)))
    return [(m.kind.decode(), m.source.decode()) for m in read_own_mounts() if m.mountpoint == wanted]


def attempt(action: Callable[[], object]) -> object:
    try:
        return action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def read_whole(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def describe(path: bytes) -> Result:
    """Return everything that a file shows of itself."""
    status = os.lstat(path)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    found: Result = {
        "mode": oct(status.st_mode),
        "owner": [status.st_uid, status.st_gid],
        "times": [status.st_mtime_ns, status.st_ctime_ns, status.st_atime_ns],
        "links": status.st_nlink,
        "device": status.st_rdev,
        "size": status.st_size,
        "xattrs": {
            name: attempt(lambda name=name: os.getxattr(path, name, follow_symlinks=False).hex())  # type: ignore[misc] # default binds the loop variable
            for name in names
        },
    }
    if stat.S_ISLNK(status.st_mode):
        found["target"] = os.readlink(path).hex()
    if stat.S_ISREG(status.st_mode):
        found["content"] = attempt(lambda: read_whole(path))
        # What is stored as an object has the blocks of its file.
        found["blocks"] = status.st_blocks if status.st_size < 65 else None
    return found


def walk(root: bytes) -> dict[str, object]:
    """Return the description of every path, by path."""
    found: dict[str, object] = {"": describe(root)}
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError as error:
            found[directory[len(root) :].hex() + "/"] = errno.errorcode[error.errno or 0]
            continue
        for entry in entries:
            found[entry.path[len(root) :].hex()] = attempt(lambda path=entry.path: describe(path))  # type: ignore[misc] # default binds the loop variable
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
    return found


def compare(expected: dict[str, object], found: dict[str, object]) -> Result:
    different = sorted(
        path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
    )
    return {
        "count": len(expected),
        "different": [
            [bytes.fromhex(path.rstrip("/")).decode("latin-1"), expected.get(path), found.get(path)]
            for path in different[:5]
        ],
    }


def mount_by_kernel() -> None:
    subprocess.run([*CFSCTL, "--repo", "r", "mount", "--fuse=no", "im", "kernel"], check=True)


def as_user(*arguments: str, userns: bool = False) -> subprocess.CompletedProcess[str]:
    """Run Python as another user, or as root of a user namespace of that user."""
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "--"] if userns else []
    python = f"{os.getcwd()}/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    paths = [f"{os.getcwd()}/{name}" for name in ("packages", "sources", "project")]
    return subprocess.run(
        [*user, *namespace, python, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(paths), "HOME": "/"},
    )


def ask_as_user(job: str, *arguments: str, userns: bool = False) -> Result:
    """Return the result of a job of this program that another user runs."""
    done = as_user("-m", "tests.privileged.fuse_jobs", job, os.getcwd(), *arguments, userns=userns)
    assert done.returncode == 0, done.stderr
    answer: Result = json.loads(done.stdout)
    return answer


# Jobs


def same_as_kernel(who: str, version: str, seed: str) -> Result:
    """Compare a FUSE mount with the kernel's."""
    # Only root and this user exist in the user namespace, and are one there.
    place = Place(int(seed), FormatVersion[version], (0,) if who == "userns" else OWNERS)
    mount_by_kernel()
    if who in {"plain", "overlay"}:
        with place.served(View.PLAIN if who == "plain" else View.OVERLAY):
            return compare(walk(b"kernel"), walk(b"fuse-mnt")) | {"mounts": find_mounts("fuse-mnt")}
    # One process mounts and looks, since nobody else may look into a user's mount.
    place.repository.close()
    if who == "user":
        return ask_as_user("walk-both")
    with open("expected", "w", encoding="utf-8") as file:
        json.dump(walk(b"kernel"), file)
    return ask_as_user("walk-namespace", userns=True)


def walk_both() -> Result:
    subprocess.run([*CFSCTL, "--repo", "r", "mount", "--fuse=yes", "im", "fuse-mnt"], check=True)
    try:
        mounts = find_mounts("fuse-mnt")
        return compare(walk(b"kernel"), walk(b"fuse-mnt")) | {"mounts": mounts}
    finally:
        subprocess.run([*CFSCTL, "umount", "fuse-mnt"], check=True)


def walk_namespace() -> Result:
    """Compare with what root of the whole system sees, but for attributes that are not for others."""
    with open("expected", encoding="utf-8") as file:
        expected = json.load(file)
    subprocess.run([*CFSCTL, "--repo", "r", "mount", "--fuse=yes", "im", "fuse-mnt"], check=True)
    try:
        found = json.loads(json.dumps(walk(b"fuse-mnt")))
        for description in (*expected.values(), *found.values()):
            names = [n for n in description["xattrs"] if not n.startswith("user.")]
            for name in names:
                del description["xattrs"][name]
        return compare(expected, found) | {"mounts": find_mounts("fuse-mnt")}
    finally:
        subprocess.run([*CFSCTL, "umount", "fuse-mnt"], check=True)


def cfsctl(*arguments: str, **how: object) -> Result:
    """Run the program; return its exit status and what it prints."""
    done = subprocess.run(
        [*CFSCTL, "--repo", "r", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **how,  # type: ignore[call-overload] # further arguments of subprocess.run
    )
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def odd_files(view: str) -> Result:
    """Look at files that overlayfs and FUSE have to agree about."""
    place = Place()
    root = place.tree.root
    root.entries[b"hole"] = SparseFile(100_000, 0o644)
    root.entries[b"whiteout"] = CharDevice(0, 0o644)
    place.image_id = place.write(place.tree, FormatVersion.V1)
    with place.served(View(view)):
        whole = os.path.getsize(f"r/objects/{place.image_id.hex()[:2]}/{place.image_id.hex()[2:]}")
        sizes = os.statvfs("fuse-mnt")
        names = os.listdir("fuse-mnt/many")
        with open("fuse-mnt/hole", "rb") as file:
            hole = file.read()
        with open("fuse-mnt/external", "rb") as file:
            seek = [os.lseek(file.fileno(), 5, how) for how in (os.SEEK_DATA, os.SEEK_HOLE)]
        return {
            "hole": hole == bytes(100_000),
            "whiteout": attempt(lambda: stat.S_ISREG(os.lstat("fuse-mnt/whiteout").st_mode)),
            "stub": attempt(lambda: os.lstat("fuse-mnt/00").st_mode),
            "sorted": names == sorted(names) and len(names) == 700,
            "blocks": sizes.f_blocks * sizes.f_frsize == whole,
            "inodes": sizes.f_files > 700 and sizes.f_ffree == 0,
            "seek": seek,
            "missing": attempt(lambda: os.lstat("fuse-mnt/nothing")),
            "too_long": attempt(lambda: os.lstat(f"fuse-mnt/{'n' * 256}")),
            "write": attempt(lambda: os.mkdir("fuse-mnt/new")),
            "flags": attempt(ask_flags),
        }


def ask_flags() -> object:
    """Ask for the flags of a file (FS_IOC_GETFLAGS), as overlayfs does before it copies one."""
    with open("fuse-mnt/inline", "rb") as file:
        return fcntl.ioctl(file, 0x80086601, bytes(8))


def object_of(place: Place, name: bytes) -> str:
    leaf = place.tree.root.entries[name]
    assert isinstance(leaf, ExternalFile)
    return f"r/objects/{leaf.object_id.hex()[:2]}/{leaf.object_id.hex()[2:]}"


def damaged_content(how: str) -> Result:
    """Damage an object, and read it where the repository demands that its digest is right, and where not."""
    place = Place()
    path = object_of(place, b"external")
    if how == "missing":
        os.unlink(path)
    else:
        with open(path, "r+b") as file:
            file.write(b"changed") if how == "changed" else file.truncate(1000)
    result: Result = {}
    for is_secure in (False, True):
        with place.served(View.PLAIN, is_secure=is_secure):
            read = attempt(lambda: len(read_whole(b"fuse-mnt/external")) == 64)
            sound = [read_whole(b"fuse-mnt/inline") == hashlib.sha256(b"inline\n").hexdigest()]
            # Twice, since what was checked is remembered.
            result["secure" if is_secure else "insecure"] = [read, *sound, *(read_other(place) for _ in "ab")]
    return result


def read_other(place: Place) -> bool:
    with open("fuse-mnt/other", "rb") as file:
        return hashlib.sha256(file.read()).digest() == place.other


def changed_while_mounted() -> Result:
    """Change an object after it was checked; it has no fs-verity that would refuse that."""
    place = Place()
    with place.served(View.PLAIN, is_secure=True):
        before = attempt(lambda: len(read_whole(b"fuse-mnt/external")))
        with open(object_of(place, b"external"), "r+b") as file:
            file.write(b"changed")
        return {
            "before": before,
            "after": attempt(lambda: os.close(os.open("fuse-mnt/external", os.O_RDONLY))),
        }


def damaged_image() -> Result:
    """Serve an image with one inode that is broken."""
    place = Place()
    data = bytearray(place.repository.objects.read(place.image_id))
    tree = ImageFiles(bytes(data), place.repository.algorithm, View.PLAIN)
    found = tree.find(1, b"inline")
    assert found is not None
    data[found.nid * 32] |= 0xF0  # an unknown layout
    place.image_id = place.repository.images.write(bytes(data), "im").object_id
    with place.served(View.PLAIN):
        return {
            "listed": "inline" in os.listdir("fuse-mnt"),
            "broken": attempt(lambda: os.lstat("fuse-mnt/inline")),
            "others": read_other(place),
        }


def not_an_image() -> Result:
    place = Place()
    place.repository.images.link(place.repository.objects.ensure_bytes(b"x" * 5000).object_id, "bad")
    return cfsctl("mount", "--fuse=yes", "bad", "fuse-mnt") | {"mounts": find_mounts("fuse-mnt")}


def life() -> Result:
    """Mount in the background, look at the mount, collect beside it, unmount."""
    place = Place()
    place.repository.close()
    mounted = cfsctl("mount", "--fuse=yes", "im", "fuse-mnt")
    servers = [server.served for server in find_servers() if server.served.mountpoint.startswith(os.getcwd())]
    result: Result = {
        "mounted": mounted,
        "servers": [
            [s.image == place.image_id.hex(), s.repository == os.path.realpath("r")] for s in servers
        ],
        "listed": json.loads(str(cfsctl("mounts", "--json")["out"]))["mounts"],
        "text": cfsctl("mounts")["out"],
        "expected": [os.path.realpath("fuse-mnt"), qualified(place.image_id)],
        "gc": cfsctl("--lock-timeout=0", "gc"),
        "read": read_other(place),
        "again": cfsctl("mount", "--fuse=yes", "im", "fuse-mnt")["status"],
        "stacked": len(find_mounts("fuse-mnt")),
        "umount": [cfsctl("umount", "fuse-mnt") for _ in range(2)],
        "nothing": cfsctl("umount", "fuse-mnt"),
        "other": cfsctl("umount", "/proc"),
    }
    result["left"] = [s.pid for s in find_servers() if s.served.mountpoint.startswith(os.getcwd())]
    result["collected"] = cfsctl("--lock-timeout=0", "gc")
    return result


def ended_by(number: str, how: str) -> Result:
    """End a server by a signal, while a program uses the mount."""
    Place().repository.close()
    server = None
    if how == "foreground":
        server = subprocess.Popen(
            [*CFSCTL, "--repo", "r", "mount", "--fuse=yes", "--foreground", "im", "fuse-mnt"]
        )
        wait_for(lambda: bool(find_own_servers()))
        pid = server.pid
    else:
        assert cfsctl("mount", "--fuse=yes", "im", "fuse-mnt")["status"] == 0
        (pid,) = find_own_servers()
    keeps = os.open("fuse-mnt/many", os.O_RDONLY)
    watch = os.pidfd_open(pid)
    os.kill(pid, int(number))
    ended = bool(select.select([watch], [], [], 60)[0])
    result: Result = {"ended": ended, "status": None if server is None else server.wait(60)}
    result["mounts"] = len(find_mounts("fuse-mnt"))
    result["look"] = attempt(lambda: len(os.listdir("fuse-mnt")))
    os.close(keeps)
    if result["mounts"]:
        result["umount"] = cfsctl("umount", "fuse-mnt")
    return result | {"left": len(find_mounts("fuse-mnt")), "fsck": cfsctl("fsck")["status"]}


def find_own_servers() -> list[int]:
    return [server.pid for server in find_servers() if server.served.mountpoint.startswith(os.getcwd())]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refused() -> Result:
    """Mount where it is not possible; the command must tell why, and end."""
    Place().repository.close()
    with open("file", "w", encoding="utf-8"):
        pass
    return {
        "missing": cfsctl("mount", "--fuse=yes", "im", "nowhere"),
        "file": cfsctl("mount", "--fuse=yes", "im", "file"),
        "foreground": cfsctl("mount", "--fuse=yes", "--foreground", "im", "nowhere"),
        "image": cfsctl("mount", "--fuse=yes", "nothing", "fuse-mnt"),
        "work": cfsctl(
            "mount", "--fuse=yes", "im", "fuse-mnt", "--upperdir=upper", "--workdir=nowhere", "--read-write"
        ),
        "left": len(find_own_servers()),
        "mounts": find_mounts("fuse-mnt"),
    }


def refused_to_user() -> Result:
    """Mount as a user what only root can, where the user may not, and without the programs for it."""
    Place().repository.close()
    os.chown("upper", USER, USER)
    os.chown("work", USER, USER)
    mount = ["-c", _PROGRAM, "--repo", "r", "mount"]
    results = {
        "upper": as_user(*mount, "im", "fuse-mnt", "--upperdir=upper", "--workdir=work", "--read-write"),
        "kernel": as_user(*mount, "--fuse=no", "im", "fuse-mnt"),
        "elsewhere": as_user(*mount, "im", "kernel"),
    }
    os.chmod("/dev/fuse", 0o600)
    results["device"] = as_user(*mount, "im", "fuse-mnt")
    environment_path, os.environ["PATH"] = os.environ["PATH"], os.path.dirname(shutil.which("setpriv") or "")
    os.mkdir("bin")
    for name in ("setpriv", "unshare"):
        os.symlink(shutil.which(name) or "", f"bin/{name}")
    os.environ["PATH"] = os.path.realpath("bin")
    results["helper"] = as_user(*mount, "im", "fuse-mnt")
    os.environ["PATH"] = environment_path
    return {name: {"status": done.returncode, "err": done.stderr} for name, done in results.items()}


def mounted_twice() -> Result:
    """Mount as a user where the user has mounted something."""
    Place().repository.close()
    mount = ["-c", _PROGRAM, "--repo", "r", "mount", "im", "fuse-mnt"]
    first, second = as_user(*mount), as_user(*mount)
    found = find_mounts("fuse-mnt")
    ended = as_user("-c", _PROGRAM, "umount", "fuse-mnt")
    return {
        "statuses": [first.returncode, second.returncode, ended.returncode],
        "err": second.stderr,
        "mounts": len(found),
        "left": len(find_own_servers()),
    }


def without_threads(how: str) -> Result:
    """Mount where no thread can be started, or where the signal to end comes right after mounting."""
    Place().repository.close()
    disturb = {
        "thread": 'import threading\ndef start(self): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = start\n",
        "signal": "import os, signal, cfsctl.repository.mounting.fuse_server as server\n"
        "def after(name):\n"
        "    before = getattr(server, name)\n"
        "    def run(*a, **k):\n"
        "        found = before(*a, **k)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        return found\n"
        "    setattr(server, name, run)\n"
        "after('mount_for_user'); after('create_mount')\n",
    }[how]
    mount = ["-c", disturb + _PROGRAM, "--repo", "r", "mount", "--fuse=yes", "--foreground", "im", "fuse-mnt"]
    results: Result = {}
    for who in ("user", "root"):
        done = as_user(*mount) if who == "user" else run_as_root(*mount)
        results[who] = {
            "status": done.returncode,
            "err": done.stderr,
            "mounts": find_mounts("fuse-mnt"),
            "left": len(find_own_servers()),
        }
    return results


def run_as_root(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def read_tail(path: str) -> str:
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        return file.read().decode()


def writable() -> Result:
    """Change files of all kinds through an overlay with an upper layer."""
    place = Place()
    place.repository.close()
    layers = ["--upperdir=upper", "--workdir=work", "--read-write"]
    mounted = cfsctl("mount", "--fuse=yes", "im", "fuse-mnt", *layers)
    try:
        with open("fuse-mnt/external", "ab") as file:
            file.write(b"more")
        with open("fuse-mnt/empty", "w", encoding="utf-8") as file2:
            file2.write("full")
        os.chmod("fuse-mnt/inline", 0o600)
        os.rename("fuse-mnt/other", "fuse-mnt/renamed")
        os.unlink("fuse-mnt/old")
        os.mkdir("fuse-mnt/new")
        os.chmod("fuse-mnt/many", 0o700)
        return {
            "mounted": mounted,
            "external": os.path.getsize("fuse-mnt/external"),
            "tail": read_tail("fuse-mnt/external"),
            "renamed": os.path.getsize("fuse-mnt/renamed"),
            "upper": sorted(os.listdir("upper")),
        }
    finally:
        cfsctl("umount", "fuse-mnt")


def falls_back() -> Result:
    """Mount by default where the kernel has no EROFS, and with one that takes what is no image."""
    place = Place()
    told: list[str] = []

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), "erofs")

    setattr(mount, "_mount_erofs", refuse)  # noqa: B010 - a private name
    mount_stored_image(place.repository, "im", "fuse-mnt", reporter=lambda event: told.append(str(event)))
    result: Result = {"told": told, "mounts": find_mounts("fuse-mnt"), "read": read_other(place)}
    unmount_image("fuse-mnt")
    try:
        mount_stored_image(place.repository, "im", "fuse-mnt", fuse=FuseOptions(mode=FuseMode.NO))
    except OSError as error:
        result["strict"] = errno.errorcode[error.errno or 0]
    return result


def lost_lock(where: str) -> Result:
    """Collect beside a server that has lost its lock, whose image has no ref any more."""
    place = Place()
    old = place.image_id
    with place.served(View.PLAIN, keeps_lock=False, namespace=where == "elsewhere"):
        place.repository.images.write(
            bytes(build_image(FileSystem(Directory(0o755)), FormatVersion.V1)), "im"
        )
        place.repository.close()
        dry = json.loads(str(cfsctl("gc", "--dry-run", "--json")["out"]))
        done = cfsctl("--lock-timeout=0", "gc", "--json")
        listed = json.loads(str(cfsctl("mounts", "--json")["out"]))["mounts"]
        result: Result = {
            "dry": [dry["objects_removed"], len(dry["mounts"])],
            "status": done["status"],
            "removed": json.loads(str(done["out"]))["objects_removed"],
            "listed": [[m["kind"], m["images"] == [qualified(old)], m["refs"], m["certain"]] for m in listed],
        }
        if where == "here":
            result["read"] = read_other(place)
    after = json.loads(str(cfsctl("gc", "--json")["out"]))
    return result | {"after": after["objects_removed"] > 0}


JOBS: dict[str, Callable[..., Result]] = {
    "same": same_as_kernel,
    "walk-both": walk_both,
    "walk-namespace": walk_namespace,
    "odd-files": odd_files,
    "damaged-content": damaged_content,
    "changed": changed_while_mounted,
    "damaged-image": damaged_image,
    "not-an-image": not_an_image,
    "life": life,
    "ended-by": ended_by,
    "refused": refused,
    "refused-to-user": refused_to_user,
    "mounted-twice": mounted_twice,
    "without-threads": without_threads,
    "writable": writable,
    "falls-back": falls_back,
    "lost-lock": lost_lock,
}


def main(job: str, directory: str, *arguments: str) -> None:
    os.chdir(directory)
    if job.startswith("walk-"):
        result = JOBS[job](*arguments)
    else:
        try:
            os.close(mountapi.fsopen("fuse"))
            os.close(mountapi.fsopen("overlay"))
        except OSError as error:
            result = {"skip": f"mounting is not possible here: {error}"}
        else:
            signal.alarm(300)
            result = JOBS[job](*arguments)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
