"""Fuzz the command line: arguments, environment, and the files that somebody else may have written.

Whatever comes in, every program ends with a documented exit status, prints no control character but newlines,
and never calls itself broken ("internal error").

    python fuzz/fuzz_command_line.py CORPUS [libFuzzer options]
    python fuzz/fuzz_command_line.py --minutes N [--seed N]      (mutates the seeds itself; needs no atheris)

An input is a letter that says what the rest is, and the rest: arguments or variables separated by NULs, or
the content of a file. Commands run in this process, in a directory of their own; arguments that would lead
out of it, start programs or mount something are replaced.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import io
import os
import random
import re
import shutil
import sys
import tempfile
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import click

try:
    import atheris

    instrumented = atheris.instrument_imports(include=["cfsctl"])
except ModuleNotFoundError:  # the loop of our own does without
    instrumented = contextlib.nullcontext()

with instrumented:
    from cfsctl.cli.app import cfsctl, main
    from cfsctl.cli.errors import STYLE, run_guarded, run_tool
    from cfsctl.cli.tools import composefs_info, mkcomposefs, mount_composefs
    from cfsctl.errors import ExitCode
    from cfsctl.http import transport
    from cfsctl.ostree.trust import remotes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TRANSPORTS = [transport]
with contextlib.suppress(ImportError):  # without libcurl
    from cfsctl.http import curl

    TRANSPORTS.append(curl)

STATUSES = {*ExitCode, 141}
NOWHERE = "http://127.0.0.1:1"
"""Nobody listens there."""

DANGEROUS = {"transaction", "mount", "boot", "prepare-boot"}
WITHOUT_COMMAND = ["-o", "-t", "-f", "-s", "--basedir", "--filter", "--from-file", "--min-version"]
WITHOUT_COMMAND += ["--print-digest-only", "--digest-store", "--threads"]
"""Options of the programs that are no commands of cfsctl."""


def find_commands(group: click.Group, *path: str) -> Iterator[tuple[list[str], click.Command]]:
    """Yield all commands with the words that call them, groups before what is in them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and name not in DANGEROUS:
            yield [*path, name], command
            if isinstance(command, click.Group):
                yield from find_commands(command, *path, name)


COMMANDS = {" ".join(words): command for words, command in find_commands(cfsctl)}
OPTIONS = sorted(
    {
        *WITHOUT_COMMAND,
        *(
            option
            for command in (cfsctl, *COMMANDS.values())
            for one in command.params
            for option in one.opts
        ),
    }
)
OPTIONS = [option for option in OPTIONS if option.startswith("-")]
WORDS = [
    "store",
    "other",
    "tree",
    "image",
    "tag",
    "first",
    "ostree",
    "file",
    "nowhere",
    "",
    ".",
    "..",
    "-",
    "refs/image",
    "container",
    "container@sha256:" + "0" * 64,
    "oci:layout:container",
    "oci-archive:file",
    "docker-archive:file",
    "dir:out",
    "docker://127.0.0.1:1/name:tag",
    "0" * 64,
    "0" * 128,
    "ab",
    "sha512:ab",
    "1",
    "0",
    "-1",
    "1e400",
    "99999999999999999999",
    "7d",
    "50%",
    "nan",
    "@0",
    "2024-01-31T12:00:00Z",
    "K=V",
    "=",
    ":",
    "X: Y",
    "image:image",
    "dir:tree",
    "dump:-",
    "commit:tag",
    "ed25519=inline:AAAA",
    "ed25519=file:file",
    "spki=file:file",
    NOWHERE,
    f"{NOWHERE}/\udcff",
    "mirrorlist=file",
    "basedir=store",
    "basedir=store,digest=00",
    "sha256",
    "json",
    "a\x1b[31m\u202e",
    "Gr\udcfc\udcdfe",
    "\ud800",
    "日本",
    "a/b",
    "a//b",
    "x" * 5000,
    "/",
    "%s",
    "{}",
    "\n",
]
VARIABLES = [
    "CFSCTL_REPO",
    "CFSCTL_USER",
    "CFSCTL_SYSTEM",
    "CFSCTL_HASH",
    "CFSCTL_EROFS_VERSION",
    "CFSCTL_INSECURE",
    "CFSCTL_REQUIRE_VERITY",
    "CFSCTL_NO_UPGRADE",
    "CFSCTL_NO_REPO",
    "CFSCTL_LOCK_TIMEOUT",
    "CFSCTL_FSYNC",
    "CFSCTL_JSON",
    "CFSCTL_QUIET",
    "CFSCTL_PROGRESS",
    "CFSCTL_PROGRESS_FD",
    "CFSCTL_VERBOSE",
    "CFSCTL_DEBUG",
    "HOME",
    "XDG_CACHE_HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SOURCE_DATE_EPOCH",
    "TERM",
    "COLUMNS",
    "LINES",
    "CFS_PARSE_STRICT",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "TMPDIR",
    "GNUPGHOME",
    "REGISTRY_AUTH_FILE",
    "CONTAINERS_STORAGE_CONF",
    "PATH",
    "NETRC",
]
PLACES = {
    "r": (
        "remotes.d/x.conf",
        [
            ["ostree", "pull", "x", "ref", "--remotes", "remotes.d"],
            ["ostree", "verify", "tag", "--remote", "x", "--remotes", "remotes.d"],
            ["fsck", "--repair", "--from", "x", "--remotes", "remotes.d"],
        ],
    ),
    "o": (
        "ostree/config",
        [
            ["ostree", "pull-local", "ostree", "first"],
            ["ostree", "export", "tag", "ostree"],
            ["ostree", "list-refs", "file://WORLD/ostree"],
        ],
    ),
    "m": ("store/meta.json", [["images"], ["fsck"], ["init", "store", "--insecure"], ["gc", "--dry-run"]]),
    "k": (
        "key",
        [
            ["ostree", "verify", "tag", "--verify-key", "ed25519=file:key"],
            ["ostree", "verify", "tag", "--verify-key", "spki=file:key"],
            ["ostree", "verify", "tag", "--gpg-key", "key"],
            ["ostree", "list-refs", NOWHERE, "--auth-file", "key", "--ca-file", "key"],
        ],
    ),
    "f": (
        "ostree/refs/heads/first",
        [["ostree", "pull-local", "ostree", "first"], ["ostree", "pull-local", "ostree", "--mirror"]],
    ),
    "d": (
        "file",
        [
            ["diff", "dump:file", "dir:tree"],
            ["diff", "image:file", "dir:tree"],
            ["ostree", "apply-delta", "file"],
            ["explain-digest", "dump:file", "0" * 128],
        ],
    ),
    "i": (
        "layout/index.json",
        [["oci", "pull", "oci:layout", "new"], ["oci", "pull", "oci:layout:container"]],
    ),
    "c": ("auth.json", [["oci", "pull", "--authfile", "auth.json", "docker://127.0.0.1:1/a:b", "new"]]),
    "s": ("cache/cfsctl/summaries/x", [["ostree", "list-refs", NOWHERE], ["ostree", "pull", NOWHERE, "ref"]]),
    "j": ("store/.cfsctl-scan-cache", [["create-image", "tree"], ["compute-id", "tree", "--verify-cache"]]),
}
"""By the letter: the file that the rest is the content of, and commands that read it."""

TAILS = [
    ["image"],
    ["tree", "name"],
    ["tag", "other"],
    ["ostree", "first"],
    [NOWHERE, "ref"],
    ["container"],
    ["oci:layout", "container"],
    ["container", "dir:out"],
    ["image:image", "usr/file"],
    ["--json"],
    ["--help"],
]
"""What is worth trying after each command."""

SEED_FILES = {
    "r": [
        '[remote "x"]\nurl=http://127.0.0.1:1/\ngpg-verify=false\n',
        '[remote "x"]\nurl=file://ostree\n',
        '[remote "x"]\nurl=mirrorlist=http://127.0.0.1:1/\nverification-ed25519-key=AAAA\nsign-verify=true\n',
        '[remote "x"]\nurl=http://127.0.0.1:1\nproxy=http://\u00ff:x\ntls-ca-path=/nowhere\ncontenturl=x\n',
    ],
    "o": [
        "[core]\nrepo_version=1\nmode=archive-z2\n",
        "[core]\nrepo_version=1\nmode=bare-user\nparent=ostree\n",
        "[core]\nrepo_version=2\nmode=bare\n",
        "[core]\ncollection-id=x\n",
    ],
    "m": ['{"version": 1, "algorithm": "fsverity-sha512-12"}\n', '{"version": 99}', "[]", "{" * 100],
    "k": ["AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "user:password\n", "\n"],
    "f": ["0" * 64 + "\n", "abc", ""],
    "d": ["/ 4096 40755 2 0 0 0 0.0 - - -\n", "/ 4096", "\u00e2\u00e1\u00f5\u00e0"],
    "i": [
        '{"schemaVersion": 2, "manifests": []}',
        '{"schemaVersion": 2, "manifests": [{"digest": "sha256:0"}]}',
    ],
    "c": ['{"auths": {"127.0.0.1:1": {"auth": "YTpi"}}}', '{"credHelpers": {"127.0.0.1:1": "x"}}', "{}"],
    "s": ["{}\n"],
    "j": ["cfsctl"],
}


@functools.cache
def world() -> Path:
    """Make the directory that commands run in."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.fakes.ostree_repository import FakeOstreeRepository  # the path is known now

    place = Path(tempfile.mkdtemp(prefix="cfsctl-fuzz-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / "tree" / "usr").mkdir(parents=True)
    (place / "tree" / "usr" / "file").write_bytes(b"x" * 1000)
    source = FakeOstreeRepository()
    source.commit({"usr": {"file": b"y" * 1000}}, "first")
    source.write(place / "original" / "ostree")
    with inside(place / "original", {}):
        for name in ("store", "other"):
            call(main, ["init", "--insecure", name])
        call(main, ["--repo", "store", "create-image", "../tree", "image"])
        call(main, ["--repo", "store", "ostree", "pull-local", "ostree", "first"])
        call(main, ["--repo", "store", "ostree", "tag", "first", "tag"])
        call(main, ["--repo", "store", "oci", "build", "../tree", "container"])
        call(main, ["--repo", "store", "oci", "push", "container", "oci:layout:container"])
    shutil.copytree(place / "tree", place / "original" / "tree")
    return place


def never(*_: object) -> None:
    """Replace the pause before a further attempt: nobody answers, however often one asks."""


@contextlib.contextmanager
def tamed() -> Iterator[None]:
    """Ask once, and look at no remotes of this machine, for the length of the block.

    Whoever imports this module is not changed otherwise: its tests run in one process with others.
    """
    with contextlib.ExitStack() as changed:
        for module in TRANSPORTS:
            changed.enter_context(mock.patch.object(module, "compute_pause", never))
        changed.enter_context(mock.patch.object(remotes, "DEFAULT_DIRECTORY", "remotes.d"))
        yield


@contextlib.contextmanager
def inside(place: Path, variables: dict[str, str]) -> Iterator[None]:
    """Change to a directory, with an environment that knows no other."""
    before, environment = os.getcwd(), dict(os.environ)
    os.chdir(place)
    try:
        os.environ |= {
            "HOME": str(place),
            "XDG_CACHE_HOME": str(place / "cache"),
            "COLUMNS": "80",
        } | variables
        with tamed():
            yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ |= environment


def call(program: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> tuple[int, bytes, bytes]:
    """Run a program in this process, as the entry point does."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", newline="\n") for _ in range(2)]
    stdin = io.TextIOWrapper(io.BytesIO(b"/ 4096 40755 2 0 0 0 0.0 - - -\n"))
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, (sys.stdout, sys.stderr) = stdin, streams
    STYLE.reset()  # what the variables of another input have said
    try:
        if program is main:
            status = run_guarded(lambda: program(arguments))
        else:
            status = run_guarded(lambda: run_tool(program, arguments))
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined]
    return status, out, err


def check(program: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> None:
    """Run a program and see that it kept what it promises."""
    status, out, err = call(program, arguments)
    text = err.decode()
    assert status in STATUSES, (arguments, status, text)
    assert "internal error" not in text, (arguments, text)
    is_debugged = bool(os.environ.get("CFSCTL_DEBUG")) or "--debug" in arguments
    assert is_debugged or "Traceback" not in text, (arguments, text)
    assert not steering(text), (arguments, text)
    if b"\0" not in out and program is main and not {"cat", "create-dumpfile"} & set(arguments):
        assert not steering(out.decode(errors="replace")), (arguments, out)


def steering(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - {"\n"}


def tame(word: str) -> str:
    """Return the word, or a harmless one in place of what leads out of the directory."""
    if word in DANGEROUS or re.search(r"(^|=|:)/(?!$)", word.replace("://", ":")) or word.startswith("/"):
        return "nowhere"
    if "://" in word and NOWHERE not in word:
        return NOWHERE
    return word.replace("..", ".") if ".." in word and word != ".." else word


def one_input(data: bytes) -> None:
    kind, rest = data[:1].decode("latin-1"), data[1:]
    original = world() / "original"
    place = world() / "copy"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(original, place, symlinks=True)
    if kind in PLACES:
        check_file(place, *PLACES[kind], rest)
    elif kind == "e":
        pairs = [word.partition("=") for word in map(os.fsdecode, rest.split(b"\0")) if "=" in word]
        variables = {name: tame(value) for name, _, value in pairs if name in VARIABLES}
        with inside(place, variables):
            for arguments in (["images"], ["compute-id", "tree"], ["ostree", "list-refs", NOWHERE]):
                check(main, arguments)
    else:
        arguments = [tame(word) for word in map(os.fsdecode, rest.split(b"\0"))]
        programs = {"1": mkcomposefs.main, "2": composefs_info.main}
        program = programs.get(kind, main)
        if kind == "3":
            program, arguments = mount_composefs.main, ["-f", *arguments]
        with inside(place, {"CFSCTL_REPO": "store", "CFSCTL_LOCK_TIMEOUT": "0"}):
            check(program, arguments)


def check_file(place: Path, name: str, commands: list[list[str]], content: bytes) -> None:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for arguments in commands:
        path.unlink(missing_ok=True)
        path.write_bytes(re.sub(rb"(?<=[=:/ ])/[a-z]", b"n", content))
        with inside(place, {"CFSCTL_REPO": "store", "CFSCTL_INSECURE": "1"}):
            check(main, [word.replace("WORLD", str(place)) for word in arguments])


def inputs() -> Iterator[bytes]:
    """Yield what is worth beginning with."""
    for command in COMMANDS:
        for tail in TAILS:
            yield b"a" + b"\0".join(map(os.fsencode, [*command.split(), *tail]))
    yield from (b"1tree\0out", b"1--from-file\0-\0out", b"2ls\0file", b"2measure-file\0tree/usr/file")
    yield from (b"3-o\0basedir=store\0file\0other", b"eCFSCTL_JSON=1\0CFSCTL_REPO=store")
    yield from (b"e" + name.encode() + b"=1" for name in VARIABLES)
    for kind, texts in SEED_FILES.items():
        yield from (kind.encode() + text.encode("latin-1") for text in texts)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Change an input a little: words of a command line, or bytes of a file."""
    kind, rest = data[:1], data[1:]
    if kind in b"ae123":
        words = rest.split(b"\0")
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(words) + 1)
            new = chance.choice([*OPTIONS, *WORDS]) if kind != b"e" else _variable(chance)
            word = new.encode("utf-8", "surrogatepass" if "\ud800" in new else "surrogateescape")
            match chance.randrange(4):
                case 0 if len(words) > 1:
                    del words[min(place, len(words) - 1)]
                case 1:
                    words[min(place, len(words) - 1)] = word
                case _:
                    words.insert(place, word)
        return kind + b"\0".join(words)
    content = bytearray(rest)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(content) + 1)
        match chance.randrange(4):
            case 0:
                del content[place : place + chance.randint(1, 8)]
            case 1:
                content[place:place] = chance.choice(WORDS).encode("utf-8", "surrogatepass")[:300]
            case 2:
                content[place : place + 1] = bytes([chance.randrange(256)])
            case _:
                content[place:place] = content[: chance.randint(0, 40)]
    return kind + bytes(content)


def _variable(chance: random.Random) -> str:
    return f"{chance.choice(VARIABLES)}={chance.choice(WORDS)}".replace("\0", "")


def mutations(seed: int) -> Iterator[bytes]:
    """Yield changed inputs without end, always the same for a seed."""
    chance = random.Random(seed)
    pool = list(inputs())
    while True:
        data = mutate(chance.choice(pool), chance)
        if len(data) < 4000 and len(pool) < 5000:
            pool.append(data)
        yield data


def seed(corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs()):
        (corpus / f"seed-{number:03}").write_bytes(data)


def run_for(minutes: float, first_seed: int) -> int:
    """Mutate for a time; write what fails into the current directory."""
    deadline = time.monotonic() + 60 * minutes
    done = failed = 0
    for data in mutations(first_seed):
        try:
            one_input(data)
        except Exception as error:  # noqa: BLE001 - all are counted
            failed += 1
            Path(f"crash-{failed:03}").write_bytes(data)
            print(f"crash-{failed:03}: {type(error).__name__}: {str(error)[:1500]}", flush=True)
        done += 1
        if time.monotonic() > deadline or failed >= 200:
            break
    print(f"{done} inputs, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--minutes"]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--minutes", type=float)
        parser.add_argument("--seed", type=int, default=14)
        options = parser.parse_args()
        sys.exit(run_for(options.minutes, options.seed))
    seed(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
