"""Exit codes of every command, as its user meets them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import pytest

from cfsctl.cli.app import cfsctl
from tests.integration.cli.conftest import TRUSTED, environment, locked, run
from tests.support import schemas
from tests.support.programs import CFSCTL
from tests.support.repositories import flip_bit, view
from tests.support.waiting import wait_until
from tools.man_pages import subcommands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Verb(NamedTuple):
    """How a command is used so that it succeeds.

    Attributes:
        arguments: What follows the global options; the first words are the command.
        prints: It has a result on standard output.
        opens: It needs the repository.
        named: The argument that names something in the repository, or empty.
    """

    arguments: tuple[str, ...]
    prints: bool = True
    opens: bool = True
    named: str = ""


VERBS = {
    "boot list": Verb(("boot", "list", "--bootdir=bootdir")),
    "boot prepare": Verb(("boot", "prepare", "--bootdir=bootdir", "bootable"), named="bootable"),
    "boot remove": Verb(("boot", "remove", "--bootdir=bootdir", "INSTALLED")),
    "cat": Verb(("cat", "refs/ostree/test"), named="refs/ostree/test"),
    "compute-id": Verb(("compute-id", "tree"), opens=False),
    "compute-karg": Verb(("compute-karg", "bootable"), opens=False),
    "fetch": Verb(("fetch", "OWN-URL", "refs/oci/app")),
    "copy": Verb(("copy", "web", "target"), named="web"),
    "create-dumpfile": Verb(("create-dumpfile", "tree"), opens=False),
    "create-image": Verb(("create-image", "tree", "again")),
    "diff": Verb(("diff", "dir:tree", "image:web"), prints=False, named="image:web"),
    "doctor": Verb(("doctor",), opens=False),
    "dump-files": Verb(("dump-files", "web", "/usr"), named="web"),
    "explain-digest": Verb(("explain-digest", "image:web", "ID"), named="image:web"),
    "extract": Verb(("extract", "image:web", "extracted"), named="image:web"),
    "fsck": Verb(("fsck",)),
    "gc": Verb(("gc",)),
    "help": Verb(("help", "gc"), opens=False),
    "image history": Verb(("image", "history", "web"), named="web"),
    "image rename": Verb(("image", "rename", "web", "site"), named="web"),
    "image rollback": Verb(("image", "rollback", "web"), named="web"),
    "image tag": Verb(("image", "tag", "web", "site"), named="web"),
    "image untag": Verb(("image", "untag", "web"), named="web"),
    "image-objects": Verb(("image-objects", "web"), named="web"),
    "images": Verb(("images",)),
    "import-image": Verb(("import-image", "imported")),
    "init": Verb(("init", "--insecure"), opens=False),
    "ls": Verb(("ls", "image:web"), named="image:web"),
    "mount": Verb(("mount", "web", "mountpoint"), prints=False, named="web"),
    "mounts": Verb(("mounts",)),
    "oci build": Verb(("oci", "build", "tree", "built")),
    "oci compute-id": Verb(("oci", "compute-id", "app"), named="app"),
    "oci copy": Verb(("oci", "copy", "app", "--from", "repo", "--name", "copied"), named="app"),
    "oci dump": Verb(("oci", "dump", "app"), named="app"),
    "oci fsck": Verb(("oci", "fsck")),
    "oci history": Verb(("oci", "history", "app"), named="app"),
    "oci fetch": Verb(("oci", "fetch", "OWN-URL", "refs/oci/app")),
    "oci images": Verb(("oci", "images")),
    "oci import-layer": Verb(("oci", "import-layer", "LAYER", "layer")),
    "oci inspect": Verb(("oci", "inspect", "app"), named="app"),
    "oci layer": Verb(("oci", "layer", "LAYER"), named="LAYER"),
    "oci delta": Verb(("oci", "delta", "app", "app", "oci:pushed:delta"), named="app"),
    "oci linked-erofs-images": Verb(("oci", "linked-erofs-images", "OCI-IMAGE"), named="OCI-IMAGE"),
    "oci mount": Verb(("oci", "mount", "app", "mountpoint"), prints=False, named="app"),
    "oci prepare-boot": Verb(
        ("oci", "prepare-boot", "--bootdir=bootdir", "boot-app"), prints=False, named="boot-app"
    ),
    "oci pull": Verb(("oci", "pull", "oci:layout:app", "app")),
    "oci push": Verb(("oci", "push", "app", "oci:pushed:app"), named="app"),
    "oci rename": Verb(("oci", "rename", "app", "site"), named="app"),
    "oci rollback": Verb(("oci", "rollback", "app"), named="app"),
    "oci tag": Verb(("oci", "tag", "app", "other"), named="app"),
    "oci untag": Verb(("oci", "untag", "app"), named="app"),
    "oci varlink": Verb(("oci", "varlink", "--stdio"), prints=False, opens=False),
    "varlink": Verb(("varlink", "--stdio"), prints=False, opens=False),
    "ostree apply-delta": Verb(("ostree", "apply-delta", "delta")),
    "ostree commit": Verb(("ostree", "commit", "web"), named="web"),
    "ostree compute-id": Verb(("ostree", "compute-id", "test"), named="test"),
    "ostree dump": Verb(("ostree", "dump", "test"), named="test"),
    "ostree export": Verb(("ostree", "export", "test", "ostree-repo"), named="test"),
    "ostree history": Verb(("ostree", "history", "test"), named="test"),
    "ostree images": Verb(("ostree", "images")),
    "ostree inspect": Verb(("ostree", "inspect", "test"), named="test"),
    "ostree list-refs": Verb(("ostree", "list-refs", "URL"), opens=False),
    "ostree log": Verb(("ostree", "log", "test"), named="test"),
    "ostree mount": Verb(("ostree", "mount", "test", "mountpoint"), prints=False, named="test"),
    "ostree pull": Verb(("ostree", "pull", "URL", "test")),
    "ostree pull-local": Verb(("ostree", "pull-local", "ostree-repo", "test")),
    "ostree rename": Verb(("ostree", "rename", "test", "tested"), named="test"),
    "ostree rollback": Verb(("ostree", "rollback", "test"), named="test"),
    "ostree tag": Verb(("ostree", "tag", "test", "other"), named="test"),
    "ostree untag": Verb(("ostree", "untag", "test"), prints=False, named="test"),
    "ostree verify": Verb(("ostree", "verify", "test", TRUSTED), named="test"),
    "prune": Verb(("prune", "web", "--keep-last=1"), named="web"),
    "remote add": Verb(
        ("remote", "add", "--remotes=remotes", TRUSTED, "new", "https://example.com/repo"),
        prints=False,
        opens=False,
    ),
    "remote list": Verb(("remote", "list", "--remotes=remotes"), opens=False),
    "remote remove": Verb(
        ("remote", "remove", "--remotes=remotes", "--if-exists", "new"), prints=False, opens=False
    ),
    "remote show": Verb(("remote", "show", "--remotes=remotes", "configured"), opens=False),
    "report": Verb(("report", "page.html")),
    "show": Verb(("show", "image:web", "usr/note"), named="image:web"),
    "rename": Verb(("rename", "web", "site"), named="web"),
    "stats": Verb(("stats",)),
    "tag": Verb(("tag", "web", "site"), named="web"),
    "transaction": Verb(("transaction", "true"), prints=False),
    "umount": Verb(("umount", "mountpoint"), prints=False, opens=False),
    "untag": Verb(("untag", "web"), named="web"),
}

INPUTS = {"import-image": "web.img", "oci import-layer": "layer"}
"""Commands that read standard input, and the file that they are given."""

MOUNTING = {"mount", "oci mount", "ostree mount", "umount"}
MOUNT_FIRST = '"$0" --repo repo mount web mountpoint && exec "$0" "$@"'
NAMES_ONLY = {"prune", "tag", "untag", "rename", *(name for name in VERBS if name.startswith("image "))}
READS_IMAGES = [
    name for name, verb in VERBS.items() if verb.named in {"web", "image:web"} and name not in NAMES_ONLY
]


class Server:
    """A web server for all that is on this machine; a process, since these tests fork."""

    port = 0


SERVER = Server()


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind=127.0.0.1", "--directory=/"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        SERVER.port = int(process.stdout.readline().split(" port ")[1].split()[0])
        yield
        process.kill()


@pytest.fixture
def place(prepared: Path, prepared_to_boot: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a copy of a place with all that commands work on; some have images that can be booted."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    is_booting = any("boot" in str(value) for value in parameters.values())
    copy = tmp_path / "place"
    shutil.copytree(prepared_to_boot if is_booting else prepared, copy, symlinks=True)
    return copy


def needs(name: str, *, mounts: bool = True) -> None:
    """Skip the test where this command cannot succeed."""
    if (name.startswith("ostree") or name == "cat") and shutil.which("ostree") is None:
        pytest.skip("ostree is not installed (package ostree)")
    if mounts and name in MOUNTING and (os.geteuid() or shutil.which("unshare") is None):
        pytest.skip("mounting needs root and unshare")


def arguments_of(name: str, place: Path) -> list[str]:
    """Return the arguments with the ID of the image and the address of the OSTree repository put in."""
    refs = place / "repo" / "images" / "refs"
    image_id = os.path.basename(os.readlink(refs / "web"))
    installed = os.path.basename(os.readlink(refs / "bootable")) if (refs / "bootable").is_symlink() else ""
    words = {
        "ID": image_id,
        "INSTALLED": installed,
        "LAYER": f"sha256:{hashlib.sha256((place / 'layer').read_bytes()).hexdigest()}",
        "OCI-IMAGE": (place / "oci-image-id").read_text().strip(),
        "OWN-URL": f"http://127.0.0.1:{SERVER.port}{place}/repo",
        "URL": f"http://127.0.0.1:{SERVER.port}{place}/ostree-repo",
    }
    return [words.get(word, word) for word in VERBS[name].arguments]


def status_of(name: str, place: Path, *options: str, **how: object) -> subprocess.CompletedProcess[str]:
    """Run a command on the repository; nothing is mounted where others see it."""
    arguments = ["--repo", "repo", *options, *arguments_of(name, place)]
    if name not in MOUNTING:
        if name in INPUTS and "stdin" not in how:
            with (place / INPUTS[name]).open("rb") as content:
                return run(place, *arguments, stdin=content, **how)
        return run(place, *arguments, **how)
    defaults: dict[str, Any] = {"cwd": place, "capture_output": True, "text": True, "env": environment()}
    program = ["sh", "-c", MOUNT_FIRST, str(CFSCTL)] if name == "umount" else [str(CFSCTL)]
    command = ["unshare", "--mount", "--propagation", "private", *program, *arguments]
    return subprocess.run(command, check=False, timeout=120, **{**defaults, **how})


def test_every_command_is_in_the_table() -> None:
    root = click.Context(cfsctl, info_name="cfsctl")
    names = set()
    for name, command in subcommands(root):
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name, parent=root)
            names |= {f"{name} {below}" for below, _ in subcommands(context)}
        else:
            names.add(name)
    assert names == VERBS.keys()


@pytest.mark.parametrize("name", VERBS)
def test_success(name: str, place: Path) -> None:
    needs(name)
    # prepare-boot has no result, as in the original, and says on standard error what it did.
    # A pull from a server without signatures says so.
    done = status_of(name, place, *(["--quiet"] if name in {"oci prepare-boot", "ostree pull"} else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == VERBS[name].prints


@pytest.mark.parametrize("name", VERBS)
def test_wrong_option(name: str, place: Path) -> None:
    words = 2 if name.startswith(("boot", "oci", "ostree", "remote")) else 1
    arguments = VERBS[name].arguments
    done = run(place, *arguments[:words], "--frobnicate", *arguments[words:])
    if name == "transaction":  # which takes it for a program
        assert done.returncode in {10, 17}
        return
    assert (done.returncode, done.stdout) == (2, "")
    assert "--frobnicate" in done.stderr


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.opens and name != "diff"])
def test_no_repository(name: str, place: Path) -> None:
    arguments = arguments_of(name, place)
    shutil.rmtree(place / "repo")
    done = run(place, "--repo", "repo", "--json", *arguments)
    expected = 2 if name == "explain-digest" else 10
    assert (done.returncode, done.stdout) == (expected, "")
    if expected == 10:
        document = json.loads(done.stderr)
        schemas.check(document, "error")
        assert document["kind"] == "no-repository"


OPENING = [name for name, verb in VERBS.items() if verb.opens]


@pytest.mark.parametrize("name", [name for name in OPENING if name not in MOUNTING])
def test_locked(name: str, place: Path) -> None:
    needs(name)
    before = view(place / "repo")
    with locked(place):
        done = status_of(name, place, "--lock-timeout=0")
    comparing = name in {"diff", "explain-digest"}  # trouble is 2 there
    assert (done.returncode, done.stdout) == (2 if comparing else 11, "")
    assert "repo" in done.stderr
    assert view(place / "repo") == before


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.prints])
def test_full_standard_output(name: str, place: Path) -> None:
    needs(name)
    with open("/dev/full", "w") as full:
        done = status_of(
            name, place, stdout=full, **({"stderr": subprocess.PIPE} if name in MOUNTING else {})
        )
    expected = 2 if name == "explain-digest" else 12
    assert (done.returncode, done.stderr) == (
        expected,
        "Error: writing to standard output: No space left on device\n",
    )


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.prints])
def test_closed_standard_output(name: str, place: Path) -> None:
    needs(name)
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = status_of(name, place, stdout=write_end)
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


MISSING = {"LAYER": f"sha256:{'0' * 64}", "OCI-IMAGE": "0" * 128}
"""Digests of nothing, for the commands that take no names."""


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.named])
def test_not_found(name: str, place: Path) -> None:
    needs(name, mounts=False)
    named = VERBS[name].named
    missing = MISSING.get(named) or re.sub("^(.*[:/])?(web|test|app|boot-app|bootable)$", r"\1nothing", named)
    position = VERBS[name].arguments.index(named)
    arguments = arguments_of(name, place)
    arguments[position] = missing
    done = run(place, "--repo", "repo", *arguments)
    comparing = name in {"diff", "explain-digest"}
    assert (done.returncode, done.stdout) == (2 if comparing else 17, "")
    assert missing.rpartition("/")[2].rpartition(":")[2] in done.stderr


HOSTILE = ["../x", "..", ".", "", "a/../../x", "a/", "x" * 300, "a\nb\x1b[31m/.."]
CREATING: dict[str, Callable[[str], list[str]]] = {
    "create-image": lambda name: ["create-image", "tree", name],
    "import-image": lambda name: ["import-image", name],
}
NAMING: dict[str, Callable[[str], list[str]]] = {
    "dump-files": lambda name: ["dump-files", name, "/usr"],
    "image-objects": lambda name: ["image-objects", name],
    "mount": lambda name: ["mount", name, "mountpoint"],
    "cat": lambda name: ["cat", name],
    "gc": lambda name: ["gc", "--root", name],
    "ostree inspect": lambda name: ["ostree", "inspect", name],
    "ostree untag": lambda name: ["ostree", "untag", name],
}


@pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
@pytest.mark.parametrize("name", [*CREATING, *NAMING])
def test_hostile_names(name: str, hostile: str, place: Path) -> None:
    before = view(place)
    make = {**CREATING, **NAMING}[name]
    with (place / "web.img").open("rb") as image:
        done = run(place, "--repo", "repo", *make(hostile), stdin=image)
    assert done.returncode in ({16} if name in CREATING else {16, 17})
    assert done.stdout == ""
    assert "\x1b" not in done.stderr
    assert done.stderr.startswith("Error: ")
    assert all(line.startswith(("Error: ", "Hint: ")) for line in done.stderr.splitlines())
    assert view(place) == before


def image_object(place: Path) -> Path:
    return (place / "repo" / "images" / "refs" / "web").resolve()


@pytest.mark.parametrize("name", [*READS_IMAGES, "fsck"])
def test_corrupt_image(name: str, place: Path) -> None:
    """What commands read is damaged in its headers, so none of them can miss it."""
    flip_bit(image_object(place), 1024)
    needs(name, mounts=False)
    arguments = arguments_of(name, place)
    done = run(place, "--repo", "repo", *arguments)
    if name in {"diff", "explain-digest"}:
        assert done.returncode == 2
    elif name == "mount":
        assert done.returncode == 1  # the kernel's word on it; the file system is not mounted
    elif name == "fsck":
        assert done.returncode == 15
    else:
        assert done.returncode in {15, 16}
        assert done.stdout == ""
    assert "Error: " in done.stderr


@pytest.mark.parametrize("name", [*READS_IMAGES, "fsck"])
def test_missing_object(name: str, place: Path) -> None:
    needs(name, mounts=False)
    arguments = arguments_of(name, place)
    image_object(place).unlink()
    done = run(place, "--repo", "repo", *arguments)
    assert done.returncode == (2 if name in {"diff", "explain-digest"} else 15)


# Signals


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("name", [name for name in OPENING if name not in MOUNTING])
def test_signals_while_waiting_for_the_lock(name: str, number: signal.Signals, place: Path) -> None:
    needs(name)
    if number != signal.SIGTERM and name not in {"gc", "create-image"}:
        pytest.skip("one signal is enough for the others")
    before = view(place / "repo")
    with locked(place):
        process = start(place, *arguments_of(name, place))
        assert process.stderr is not None
        first = process.stderr.readline()  # says whom it waits for
        process.send_signal(number)
        process.communicate(timeout=240)
    assert b"wait" in first
    assert process.returncode == 128 + number
    assert view(place / "repo") == before


def start(place: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [CFSCTL, "--repo", "repo", *arguments],
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads here
    )


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signal_while_an_image_arrives(number: signal.Signals, place: Path) -> None:
    """Half of an image is there, in a temporary file; nothing of it stays."""
    before = view(place / "repo")
    process = start(place, "import-image", "half")
    assert process.stdin is not None
    process.stdin.write((place / "web.img").read_bytes()[:4096])
    process.stdin.flush()
    wait_until(lambda: open_repository_files(process, place), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out) == (128 + number, b"")
    assert b"nothing got a name yet; run the same command again" in err
    assert view(place / "repo") == before


def open_repository_files(process: subprocess.Popen[Any], place: Path) -> bool:
    """Tell whether the process has the repository open."""
    directory = f"/proc/{process.pid}/fd"
    try:
        links = [os.readlink(f"{directory}/{name}") for name in os.listdir(directory)]
    except OSError:
        return False
    return any(link.startswith(str(place / "repo")) for link in links)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signal_while_the_reader_is_slow(number: signal.Signals, place: Path) -> None:
    (place / "large").mkdir()
    for index in range(2000):
        (place / "large" / f"{'name' * 20}-{index}").touch()
    process = start(place, "create-dumpfile", "--no-propagate-usr-to-root", "large")
    assert process.stdout is not None
    process.stdout.read(1)  # the pipe fills up behind it
    process.send_signal(number)
    process.communicate(timeout=240)
    assert process.returncode == 128 + number


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signal_ends_a_transaction(number: signal.Signals, place: Path) -> None:
    process = start(place, "transaction")
    wait_until(lambda: open_repository_files(process, place), process)
    process.send_signal(number)
    process.communicate(timeout=240)
    assert process.returncode == 128 + number


def test_transaction_passes_on_how_its_program_ended(place: Path) -> None:
    for script, status in (("exit 7", 7), ("kill -TERM $$", 143)):
        assert run(place, "--repo", "repo", "transaction", "sh", "-c", script).returncode == status
    assert run(place, "--repo", "repo", "transaction", "no-such-program").returncode == 17


# No space


FULL = """
mount -t tmpfs -o size=3m none small
cfsctl init --insecure small/repo >&2
cfsctl --repo small/repo {first} >&2 || exit 99
dd if=/dev/zero of=small/filler bs=4k 2>/dev/null || :
find small -not -type d -not -path 'small/repo/objects/*' -not -name '.cfsctl-pull-*' > before
{command}
status=$?
rm small/filler
find small -not -type d -not -path 'small/repo/objects/*' -not -name '.cfsctl-pull-*' > after
echo small/filler | cat - after | sort > with-filler
sort before | diff - with-filler >&2 || exit 98
cfsctl --repo small/repo fsck --deep >&2 || exit 97
cfsctl --repo small/repo gc >&2 && ! find small/repo/objects -type f | grep . >&2 || exit 96
exit $status
"""

FILLING = {
    "create-image": "cfsctl --repo small/repo create-image new name",
    "import-image": "cfsctl --repo small/repo import-image name < new.img",
    "ostree pull-local": "cfsctl --repo small/repo ostree pull-local ostree-repo test",
    "init": "cfsctl init --insecure small/other",
    "mkcomposefs": "mkcomposefs --from-file new.dump small/repo/image",
}


# What a pull has fetched, and its notes on that, are there for the next one.
@pytest.mark.parametrize("name", FILLING)
def test_full_disk_leaves_nothing_behind(name: str, place: Path) -> None:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("mounting needs root and unshare")
    needs(name)
    (place / "small").mkdir()
    (place / "new" / "usr").mkdir(parents=True)
    for index in range(20):
        (place / "new" / "usr" / f"file-{index}").write_bytes(os.urandom(20_000))
    for command in ("mkcomposefs new new.img", "composefs-info dump new.img > new.dump"):
        subprocess.run(command, shell=True, check=True, cwd=place, env=with_path())
    script = FULL.format(first="images", command=FILLING[name])
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=with_path(),
    )
    assert done.returncode == (1 if name == "mkcomposefs" else 12), done.stderr
    assert "No space left on device" in done.stderr


def with_path() -> dict[str, str]:
    return {**environment(), "PATH": f"{CFSCTL.parent}:{os.environ['PATH']}"}


# The other side


TALKING = ["ostree pull", "ostree list-refs"]


@pytest.mark.parametrize("name", TALKING)
def test_server_that_is_not_there(name: str, place: Path) -> None:
    needs(name)
    before = view(place / "repo")
    arguments = [word.replace(f":{SERVER.port}", ":1") for word in arguments_of(name, place)]
    done = run(place, "--repo", "repo", "--json", *arguments)
    assert (done.returncode, done.stdout) == (13, "")
    assert json.loads(done.stderr)["kind"] == "network"
    assert view(place / "repo") == before


@pytest.mark.parametrize("name", TALKING)
def test_server_without_a_repository(name: str, place: Path) -> None:
    needs(name)
    arguments = [word.replace("ostree-repo", "tree") for word in arguments_of(name, place)]
    done = run(place, "--repo", "repo", "--json", *arguments)
    # It is the URL that is wrong, not the ref.
    assert (done.returncode, done.stdout) == (13 if name.startswith("ostree") else 17, "")
    schemas.check(json.loads(done.stderr), "error")


WITH_KEYS: dict[str, list[str]] = {
    "ostree pull": [],
    "ostree pull-local": [],
    "ostree apply-delta": [],
    "ostree verify": [],
}
OTHER_KEY = "--verify-key=ed25519=inline:" + base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize("name", WITH_KEYS)
def test_signature_of_somebody_else(name: str, place: Path) -> None:
    needs(name)
    before = view(place / "repo")
    arguments = [word for word in arguments_of(name, place) if word != TRUSTED]
    done = run(place, "--repo", "repo", "--json", *arguments, OTHER_KEY)
    assert (done.returncode, done.stdout) == (14, "")
    assert json.loads(done.stderr)["kind"] == "policy"
    assert view(place / "repo") == before


@pytest.mark.parametrize("name", WITH_KEYS)
def test_signature_that_is_demanded_and_there(name: str, place: Path) -> None:
    needs(name)
    arguments = [word for word in arguments_of(name, place) if word != TRUSTED]
    done = run(place, "--repo", "repo", *arguments, TRUSTED)
    assert (done.returncode, done.stderr) == (0, "")
    assert "signed" in done.stdout


@pytest.mark.parametrize("name", ["ostree pull", "ostree pull-local", "ostree apply-delta"])
def test_objects_that_are_not_what_they_are_called(name: str, place: Path) -> None:
    needs(name)
    arguments = arguments_of(name, place)
    assert run(place, "init", "--insecure", "new").returncode == 0
    before = view(place / "new")
    for path in [*(place / "ostree-repo" / "objects").glob("*/*.commit"), place / "delta"]:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    done = run(place, "--repo", "new", "--json", *arguments)
    assert (done.returncode, done.stdout) == (16, "")
    assert json.loads(done.stderr)["kind"] == "invalid-data"
    assert view(place / "new") == before


def init_without_room(place: Path, path: str) -> int:
    command = ["prlimit", "--fsize=0", str(CFSCTL), "init", "--insecure", path]
    done = subprocess.run(command, cwd=place, capture_output=True, check=False, env=environment())
    return done.returncode


def test_failed_init_leaves_no_directory(place: Path) -> None:
    """Neither the repository's nor those above it, unless they were there or something is in them."""
    (place / "there").mkdir()
    before = view(place)
    for path in ("new", "new/below/it/", "there", "there/new", "new/../other"):
        assert init_without_room(place, path) == 1
        assert view(place) == before
