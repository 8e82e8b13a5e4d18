"""Environments that a program may be started in, and every verb that it may be started with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.oci import Layout, digest_of, directory, file, make_tar
from tests.support.programs import CFSCTL, cfsctl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAMES: Final = [b"plain", "ä日本".encode(), b"\xa2\xcc", b"\xa4\x51", b"\xff\xfe", b"\x81\x5c", b"\x1b[31m"]
"""Of files: text, a character that Big5 has twice, what is no text, a backslash of Shift-JIS, an escape."""


class Outcome(NamedTuple):
    """What a run came to."""

    status: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Environment:
    """How a program is started.

    Attributes:
        name: What it is called.
        redirections: Of standard streams, in the shell's words.
        variables: Added to the environment.
        umask: File mode mask.
        prefix: Program and arguments that run it.
        hidden_streams: Streams that nothing can be read from afterwards.
        status: What the status becomes, from the one in an ordinary environment and whether there is output.
    """

    name: str
    redirections: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o022
    prefix: tuple[str, ...] = ()
    status: Callable[[int, bool], set[int]] = lambda status, _prints: {status}

    def run(self, world: Path, program: str, *arguments: str | bytes) -> Outcome:
        """Run a program of ours in a directory; standard input is the file ``stdin`` there."""
        inner = f'umask {self.umask:04o}; exec "$0" "$@" {self.redirections}'
        stdin = (world / "stdin").read_bytes()
        done = subprocess.run(
            [*self.prefix, "/bin/bash", "-c", inner, str(CFSCTL.parent / program), *arguments],
            cwd=world,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
            env=os.environ
            | {"HOME": str(world), "XDG_CACHE_HOME": str(world / "cache")}
            | dict(self.variables),
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


def cannot_print(status: int, prints: bool) -> set[int]:  # noqa: FBT001 - a callback
    """Return the statuses of a program that cannot print its result, if it has one."""
    return {1, 2, 12} if prints else {status}


ORDINARY: Final = Environment("ordinary", variables={"LC_ALL": "C.UTF-8"})

CLOSED: Final = [
    Environment(f"closed {streams}", "".join(f" {n}{'<' if n == '0' else '>'}&-" for n in streams))
    for streams in ("0", "1", "2", "01", "02", "12", "012")
]
"""Every combination of closed streams."""

STREAMS: Final = [
    *CLOSED,
    Environment("stdout is full", "> /dev/full", status=cannot_print),
    Environment("stdout is for reading", "1< /dev/null", status=cannot_print),
    Environment("stderr is full", "2> /dev/full"),
    Environment("stderr is for reading", "2< /dev/null"),
    Environment("nobody reads stderr", "2> >(exec true)"),
    Environment("nobody reads stdout", "> >(exec true)", status=lambda status, _prints: {status, 141}),
]

VARIABLES: Final = [
    Environment("C", variables={"LC_ALL": "C"}),
    Environment("C without coercion", variables={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}),
    Environment("C and ASCII", variables={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    Environment("POSIX", variables={"LC_ALL": "POSIX", "PYTHONUTF8": "0"}),
    Environment("no such locale", variables={"LC_ALL": "xx_XX.KOI8-R"}),
    Environment("UTF-8 mode", variables={"LC_ALL": "C", "PYTHONUTF8": "1"}),
    Environment("strict ASCII", variables={"PYTHONIOENCODING": "ascii:strict"}),
    Environment("Latin-1 output", variables={"PYTHONIOENCODING": "latin-1"}),
    Environment("UTF-16 output", variables={"PYTHONIOENCODING": "utf-16"}),
]

UMASKS: Final = [Environment(f"umask {mask:04o}", umask=mask) for mask in (0o000, 0o077, 0o777)]

NO_PROC: Final = Environment(
    "no /proc",
    prefix=(
        *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
        'mount -t tmpfs none /proc && exec "$0" "$@"',
    ),
)
"""Needs root."""

CHARSETS: Final = {
    "zh_TW": "BIG5",
    "zh_HK": "BIG5-HKSCS",
    "zh_CN": "GBK",
    "ja_JP": "EUC-JP",
    "de_DE": "ISO-8859-1",
    "ko_KR": "EUC-KR",
    "ru_RU": "KOI8-R",
    "th_TH": "TIS-620",
    "zh_SG": "GB18030",
    "ja_JP@s": "SHIFT_JIS",
    "ar_EG": "ISO-8859-6",
    "ka_GE": "GEORGIAN-PS",
    "vi_VN": "TCVN5712-1",
}
"""Character sets that are not UTF-8, each in a locale that has it."""

QUICK_CHARSETS: Final = ("BIG5", "EUC-JP", "ISO-8859-1", "SHIFT_JIS")


def make_locales(directory: Path, charsets: Mapping[str, str]) -> list[Environment]:
    """Make locales for this test alone; return those that could be made and that Python knows."""
    made = []
    for locale, charset in charsets.items():
        language = locale.partition("@")[0]
        name = f"{language}.{charset}"
        command = ["localedef", "-c", "-i", language, "-f", charset, str(directory / name)]
        subprocess.run(command, capture_output=True, check=False)
        variables = {"LOCPATH": str(directory), "LC_ALL": name}
        probe = "import sys; print(sys.getfilesystemencoding())"
        done = subprocess.run(
            [sys.executable, "-c", probe],
            env=os.environ | variables | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            capture_output=True,
            check=False,
        )
        if done.returncode == 0 and done.stdout.strip() not in {b"utf-8", b"ascii"}:
            made.append(Environment(charset, variables=variables))
    return made


OCI_LAYER: Final = make_tar([directory("usr"), *(file(os.fsdecode(b"usr/" + n), n * 100) for n in NAMES[:2])])
OCI_LAYER_DIGEST: Final = digest_of(OCI_LAYER)

VERBS: Final[dict[str, list[str]]] = {
    "cat": ["cat", "ostree-commit-COMMIT"],
    "compute-id": ["compute-id", "tree"],
    "copy": ["copy", "image", "other"],
    "fetch": ["fetch", "http://127.0.0.1:1/", "none", "--retries=0"],
    "copy commit": ["copy", "tag", "other", "--json"],
    "create-dumpfile": ["create-dumpfile", "tree"],
    "create-image": ["create-image", "tree", "new"],
    "diff": ["diff", "image:image", "dir:changed"],
    "diff trouble": ["diff", "image:image", "dir:nowhere"],
    "doctor": ["doctor"],
    "dump-files": ["dump-files", "image", "/"],
    "explain-digest": ["explain-digest", "dir:tree", "0" * 128],
    "extract": ["extract", "image:image", "extracted"],
    "extract tar": ["extract", "--tar", "image:image"],
    "fsck": ["fsck", "--deep"],
    "fsck json": ["fsck", "--json"],
    "fsck repair": ["fsck", "--repair", "--from", "tree"],
    "gc": ["gc"],
    "gc dry": ["--json", "gc", "--dry-run"],
    "gc why": ["gc", "--why", "0" * 128],
    "help": ["--help"],
    "help command": ["help", "ostree", "pull"],
    "nothing": [],
    "image-objects": ["image-objects", "image"],
    "images": ["images"],
    "images json": ["images", "--json"],
    "import-image": ["import-image", "imported"],
    "init": ["init", "--insecure", "fresh"],
    "ls": ["ls", "-lR", "image:image"],
    "missing": ["image-objects", "none"],
    "remote list": ["remote", "list", "--remotes", "remotes"],
    "show": ["show", "image:image", "/usr/plain"],
    "mounts": ["mounts"],
    "mounts json": ["mounts", "--json"],
    "stats": ["stats"],
    "transaction": ["transaction", "true"],
    "umount": ["umount", "tree"],
    "oci history": ["oci", "history", "oci-tag"],
    "oci prepare-boot": ["oci", "prepare-boot", "none", "--bootdir", "tree"],
    "oci rename": ["oci", "rename", "oci-tag", "renamed"],
    "oci rollback": ["oci", "rollback", "oci-tag"],
    "ostree history": ["ostree", "history", "tag"],
    "ostree rename": ["ostree", "rename", "tag", "renamed"],
    "ostree rollback": ["ostree", "rollback", "tag"],
    "image history": ["image", "history", "image"],
    "prune": ["prune", "--keep-last", "1", "--dry-run", "*"],
    "rename": ["rename", "image", "renamed"],
    "tag": ["tag", "image", "again"],
    "untag": ["untag", "image"],
    "boot list": ["boot", "list", "--bootdir", "tree"],
    "varlink": ["varlink"],
    "oci varlink": ["oci", "varlink"],
    "usage": ["frob"],
    "usage json": ["--json", "gc", "--frob"],
    "version": ["--version"],
    "compute-karg": ["compute-karg", "image"],
    "oci build": ["oci", "build", "image", "built"],
    "oci compute-id": ["oci", "compute-id", "none"],
    "oci dump": ["oci", "dump", "none"],
    "oci fetch": ["oci", "fetch", "http://127.0.0.1:1/", "none", "--retries=0"],
    "oci fsck json": ["oci", "fsck", "--json"],
    "oci images": ["oci", "images"],
    "oci import-layer": ["oci", "import-layer", "0" * 64, "layer"],
    "oci copy": ["oci", "copy", "none", "--from", "other"],
    "oci inspect": ["oci", "inspect", "none"],
    "oci layer": ["oci", "layer", "none"],
    "oci linked-erofs-images": ["oci", "linked-erofs-images", "none"],
    "oci pull": ["oci", "pull", "oci:nowhere", "name"],
    "oci delta": ["oci", "delta", "none", "none", "oci:pushed"],
    "oci push": ["oci", "push", "none", "oci:pushed"],
    "oci tag": ["oci", "tag", "none", "name"],
    "oci untag": ["oci", "untag", "none"],
    "oci stored compute-id": ["oci", "compute-id", "oci-tag"],
    "oci stored copy": ["oci", "copy", "oci-tag", "--from", "store", "--name", "copied"],
    "oci stored dump": ["oci", "dump", "oci-tag"],
    "oci stored images": ["oci", "images", "--json"],
    "oci stored inspect": ["oci", "inspect", "oci-tag"],
    "oci stored layer": ["oci", "layer", OCI_LAYER_DIGEST],
    "oci stored linked-erofs-images": ["oci", "linked-erofs-images", "oci-tag"],
    "oci stored pull": ["oci", "pull", "oci:layout:second", "name"],
    "oci stored pull archive": ["oci", "pull", "oci-archive:layout.tar:second", "name", "--json"],
    "oci stored tag": ["oci", "tag", "oci-tag", "another"],
    "oci stored untag": ["oci", "untag", "oci-tag"],
    "oci stored fsck": ["oci", "fsck", "--deep"],
    "ostree apply-delta": ["ostree", "apply-delta", "nowhere"],
    "ostree commit": ["ostree", "commit", "image", "--timestamp", "@1", "--subject", "Grüße"],
    "ostree compute-id": ["ostree", "compute-id", "tag"],
    "ostree dump": ["ostree", "dump", "tag"],
    "ostree export": ["ostree", "export", "tag", "ostree"],
    "ostree images": ["ostree", "images"],
    "ostree inspect": ["ostree", "inspect", "tag"],
    "ostree inspect json": ["ostree", "inspect", "tag", "--json"],
    "ostree list-refs": ["ostree", "list-refs", "file://WORLD/ostree"],
    "ostree log": ["ostree", "log", "tag"],
    "ostree pull": ["ostree", "pull", "file://WORLD/ostree", "second"],
    "ostree pull nothing": ["ostree", "pull", "http://127.0.0.1:1/", "second"],
    "ostree pull-local": ["ostree", "pull-local", "ostree", "second"],
    "ostree tag": ["ostree", "tag", "tag", "another"],
    "ostree untag": ["ostree", "untag", "tag"],
    "diff page": ["diff", "image:image", "dir:changed", "--html", "page.html"],
    "report": ["report", "page.html"],
    "ostree verify": ["ostree", "verify", "tag", "--verify-key", "ed25519=inline:" + "A" * 43 + "="],
}
"""Arguments of cfsctl behind ``--repo store``."""

TOOLS: Final[dict[str, list[str]]] = {
    "mkcomposefs": ["mkcomposefs", "tree", "made.img"],
    "mkcomposefs digest": ["mkcomposefs", "--print-digest-only", "tree"],
    "mkcomposefs output": ["mkcomposefs", "tree", "-"],
    "mkcomposefs store": ["mkcomposefs", "--digest-store=digests", "tree", "made.img"],
    "mkcomposefs usage": ["mkcomposefs", "--frob"],
    "composefs-info ls": ["composefs-info", "ls", "stdin"],
    "composefs-info dump": ["composefs-info", "dump", "stdin"],
    "composefs-info objects": ["composefs-info", "objects", "stdin"],
    "composefs-info missing": ["composefs-info", "--basedir=other/objects", "missing-objects", "stdin"],
    "composefs-info measure": ["composefs-info", "measure-file", "stdin"],
    "composefs-info nothing": ["composefs-info", "ls", "nowhere"],
    "mount.composefs": ["mount.composefs", "-f", "-o", "basedir=store/objects", "stdin", "other"],
    "mount.composefs usage": ["mount.composefs", "stdin"],
}

READS_STDIN: Final = frozenset({"import-image"})


def make_world(world: Path) -> str:
    """Fill a directory with what the verbs are given; return the commit's name."""
    for index, tree in enumerate(("tree", "changed")):
        usr = os.fsencode(world / tree / "usr")
        os.makedirs(usr)
        for number, name in enumerate(NAMES[: len(NAMES) - index]):
            (Path(os.fsdecode(usr)) / os.fsdecode(name)).write_bytes(b"%d" % number * 500)
    source = FakeOstreeRepository()
    for ref in ("first", "second"):
        source.commit({"usr": {"file": ref.encode() * 300}}, ref)
    source.write(world / "ostree")
    cfsctl("init", "--insecure", "store", cwd=world)
    cfsctl("init", "--insecure", "other", cwd=world)
    cfsctl("--repo", "store", "create-image", "tree", "image", cwd=world)
    cfsctl("--repo", "store", "create-image", "tree", "ä\x1b\udcff", cwd=world)
    cfsctl("--repo", "store", "ostree", "pull-local", "ostree", "first", cwd=world)
    cfsctl("--repo", "store", "ostree", "tag", "first", "tag", cwd=world)
    layout = Layout(world / "layout")
    layout.add_image("first", [OCI_LAYER])
    layout.add_image("second", [OCI_LAYER, make_tar([file("more", b"more" * 100)])])
    with tarfile.open(world / "layout.tar", "w") as archive:
        archive.add(world / "layout", ".")
    cfsctl("--repo", "store", "oci", "pull", "oci:layout:first", "oci-tag", cwd=world)
    shutil.copyfile(world / "store" / "images" / "refs" / "image", world / "stdin")
    (world / "store" / "objects" / "00").mkdir(exist_ok=True)
    return source.refs["first"].hex()


class World:
    """A directory as `make_world` makes it, afresh for each run."""

    def __init__(self, original: Path, copies: Path) -> None:
        """Make the original."""
        self._original = original
        self._copies = copies
        self._commit = make_world(original)
        self._expected: dict[str, tuple[Outcome, Path]] = {}

    def run(self, environment: Environment, verb: str) -> tuple[Outcome, Path]:
        """Run a verb in a copy; return its outcome and the copy."""
        place = self._copies / "world"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._original, place, symlinks=True)
        program, *arguments = TOOLS[verb] if verb in TOOLS else ["cfsctl", "--repo", "store", *VERBS[verb]]
        words = [word.replace("WORLD", str(place)).replace("COMMIT", self._commit) for word in arguments]
        return environment.run(place, program, *words), place

    def expected(self, verb: str) -> Outcome:
        """Return what the verb does in an ordinary environment."""
        if verb not in self._expected:
            self._expected[verb] = self.run(ORDINARY, verb)
        return self._expected[verb][0]
