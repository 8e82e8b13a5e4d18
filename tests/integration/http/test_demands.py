"""What is demanded on the command line is demanded or refused, never ignored: every option, way, command.

Each combination of options runs where all is signed. If it works there, it runs once more for each thing that
it demands, where only that is not signed, and must be refused.
"""

from __future__ import annotations

import base64
import functools
import itertools
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cfsctl import gvariant
from cfsctl.cli.app import main
from cfsctl.errors import CfsError
from cfsctl.gvariant import Variant
from cfsctl.ostree.exchange import apply_delta as offline
from cfsctl.ostree.objects import ObjectKind
from cfsctl.ostree.pull import run as run_module
from cfsctl.ostree.pull.run import run_pull
from cfsctl.ostree.summary.format import Summary, SummaryRef, format_summary
from cfsctl.ostree.trust.openpgp import Packet, format_packet
from tests.fakes.faulty_server import FaultyServer
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import make_repository
from tests.support.signatures import sign_detached

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import Checksum

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
COLLECTION = "org.example.Os"

THINGS = ("commit", "summary", "delta", "collection")
"""What can be signed, or said under a signature."""

REFUSED = frozenset({2, 14})
"""Exit codes for what cannot be demanded so, and for what does not fulfil it."""


class World(NamedTuple):
    """A repository in which one thing is not signed, or all are.

    Attributes:
        root: Its directory.
        url: Where a server has it.
        commit: The commit of its only ref, ``main``.
        delta: A file with a delta of the commit.
        remotes: Directory with the configuration of remotes.
    """

    root: Path
    url: str
    commit: str
    delta: Path
    remotes: Path


class Case(NamedTuple):
    """A combination of options.

    Attributes:
        key: A key is named.
        keyring: An OpenPGP keyring is named, by whose keys nothing is signed.
        collection: The collection is named.
        summary: The summary has to be signed.
        remote: A remote, or None.
    """

    key: bool = False
    keyring: bool = False
    collection: bool = False
    summary: bool = False
    remote: str | None = None

    @property
    def demanded(self) -> set[str]:
        """Return what this demands, ``gpg`` for a signature that nothing has."""
        return {
            *(["commit"] if self.key else []),
            *(["gpg"] if self.keyring else []),
            *(["collection"] if self.collection or self.remote == "bound" else []),
            *(["summary"] if self.summary else []),
            *REMOTES.get(self.remote or "", ((), ""))[0],
        }

    def options(self, world: World) -> list[str]:
        """Return the options, but for the remote."""
        return [
            *(["--verify-key", f"ed25519=inline:{PUBLIC}"] if self.key else []),
            *(["--gpg-key", str(world.remotes / "keyring")] if self.keyring else []),
            *(["--collection-id", COLLECTION] if self.collection else []),
        ]


SIGNED = f"gpg-verify=false\nsign-verify=ed25519\nverification-ed25519-key={PUBLIC}\n"

REMOTES: dict[str, tuple[tuple[str, ...], str]] = {
    "lax": ((), "gpg-verify=false\n"),
    "strict": (("commit",), SIGNED),
    "bound": (("commit", "collection"), f"{SIGNED}collection-id={COLLECTION}\n"),
    "listed": (("commit", "summary"), f"{SIGNED}sign-verify-summary=true\n"),
    "only-listed": (
        ("summary",),
        f"gpg-verify=false\nsign-verify-summary=ed25519\nverification-ed25519-key={PUBLIC}\n",
    ),
    "keyless": (("gpg",), ""),
}
"""What remotes demand, and their configuration."""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    """Worlds by the thing that is not signed there; ``all`` has everything."""
    work = tmp_path_factory.mktemp("worlds")
    with FaultyServer(work) as server:
        yield {name: make_world(work, name, server.url) for name in ("all", *THINGS)}


def make_world(work: Path, unsigned: str, server: str) -> World:
    root = work / unsigned / "repo"
    origin = FakeOstreeRepository()
    collection = "org.example.Other" if unsigned == "collection" else COLLECTION
    metadata = (
        ("ostree.collection-binding", Variant("s", collection)),
        ("ostree.ref-binding", Variant("as", ["main"])),
    )
    commit = origin.commit({"file": b"content"}, "main", metadata=metadata)
    origin.write(root)
    data = origin.objects[commit, ObjectKind.COMMIT]
    keys = {thing: OTHER if thing == unsigned else KEY for thing in THINGS}
    meta = root / "objects" / commit.hex()[:2] / f"{commit.hex()[2:]}.commitmeta"
    meta.write_bytes(sign_detached(keys["commit"], data))
    summary = format_summary(Summary({"main": SummaryRef("main", commit, len(data), ())}, []))
    (root / "summary").write_bytes(summary)
    (root / "summary.sig").write_bytes(sign_detached(keys["summary"], summary))
    delta = work / unsigned / "delta"
    delta.write_bytes(make_delta(origin, commit, keys))
    remotes = work / unsigned / "remotes"
    remotes.mkdir()
    (remotes / "keyring").write_bytes(format_packet(Packet(6, b"\4key")))
    url = f"{server}/{unsigned}/repo"
    for prefix, where in (("", url), ("local-", f"file://{root}")):
        for name, (_, text) in REMOTES.items():
            (remotes / f"{prefix}{name}.conf").write_text(f'[remote "{prefix}{name}"]\nurl={where}\n{text}')
    return World(root, url, commit.hex(), delta, remotes)


def make_delta(origin: FakeOstreeRepository, commit: Checksum, keys: dict[str, Ed25519PrivateKey]) -> bytes:
    """Return a signed delta that makes nothing: whoever applies it has the objects already."""
    data = origin.objects[commit, ObjectKind.COMMIT]
    meta = gvariant.decode("a{sv}", sign_detached(keys["commit"], data))
    superblock = gvariant.encode(
        "(a{sv}tayay(a{sv}aya(say)sstayay)aya(uayttay)a(yaytt))",
        (
            [("ostree.endianness", Variant("y", ord("l"))), ("commitmeta", Variant("a{sv}", meta))],
            0,
            b"",
            bytes(commit),
            gvariant.decode("(a{sv}aya(say)sstayay)", data),
            b"",
            [],
            [],
        ),
    )
    signatures = gvariant.decode("a{sv}", sign_detached(keys["delta"], superblock))
    magic = int.from_bytes(b"OSTSGNDT", "little")
    return gvariant.encode("(taya{sv})", (magic, superblock, signatures))


@pytest.fixture(autouse=True)
def without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pulls run in this process, which has the server's threads."""
    monkeypatch.setattr(
        run_module,
        "run_pull",
        lambda task: run_pull(task._replace(options=replace(task.options, workers=0))),
    )
    monkeypatch.setattr(offline, "apply_delta", functools.partial(offline.apply_delta, workers=0))


class Runner:
    """Runs commands on a repository that is made anew for each."""

    def __init__(self, work: Path) -> None:
        self._empty, self.store = work / "empty", work / "store"
        make_repository(self._empty).close()

    def run(self, *arguments: str, clean: bool = True) -> int:
        if clean:
            shutil.rmtree(self.store, ignore_errors=True)
            shutil.copytree(self._empty, self.store, symlinks=True)
        try:
            return main(["--repo", str(self.store), "-q", "ostree", *arguments])
        except CfsError as error:
            return error.exit_code


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("runner"))


CASES = [
    Case(key, keyring, collection, summary, remote)
    for remote in (None, *REMOTES)
    for key, keyring, collection, summary in itertools.product((False, True), repeat=4)
]

PULLS = ("url", "name", "url-and-remote", "file", "file-name", "local")
"""Ways to say where to pull from."""

FORMS = ("ref", "commit", "mirror", "plan")
"""What is pulled."""


def pull_arguments(world: World, case: Case, way: str, form: str) -> list[str] | None:
    """Return the arguments of a pull, or None if there is no such pull."""
    is_by_name = way in {"name", "file-name"}
    if is_by_name and case.remote is None:
        return None
    arguments = ["pull-local" if way == "local" else "pull", *case.options(world)]
    if case.remote is not None:
        arguments += ["--remotes", str(world.remotes)]
        arguments += [] if is_by_name else ["--remote", case.remote]
    arguments += ["--verify-summary"] if case.summary else []
    arguments += {"mirror": ["--mirror"], "plan": ["--plan"]}.get(form, [])
    arguments += [] if way == "local" else ["--summary-cache", ""]
    places = {
        "name": case.remote or "",
        "file": f"file://{world.root}",
        "file-name": f"local-{case.remote}",
        "local": str(world.root),
    }
    arguments.append(places.get(way, world.url))
    return arguments + {"mirror": [], "commit": [world.commit]}.get(form, ["main"])


def check(runner: Runner, worlds: dict[str, World], case: Case, way: str, form: str) -> bool:
    """Run a case wherever it matters; return whether it works where all is signed."""
    arguments = pull_arguments(worlds["all"], case, way, form)
    if arguments is None:
        return False
    status = runner.run(*arguments)
    if status:
        assert status in REFUSED, arguments
        return False
    assert "gpg" not in case.demanded, arguments
    for thing in case.demanded:
        arguments = pull_arguments(worlds[thing], case, way, form)
        assert arguments is not None
        assert runner.run(*arguments) == 14, arguments
    return True


WORKING = [
    (Case(key=True), "url"),
    (Case(key=True, summary=True), "url"),
    (Case(key=True, collection=True, summary=True), "url"),
    (Case(collection=True), "url"),
    (Case(remote="strict"), "name"),
    (Case(remote="strict", summary=True), "name"),
    (Case(remote="bound", summary=True), "name"),
    (Case(remote="listed"), "name"),
    (Case(remote="only-listed", summary=True), "url-and-remote"),
    (Case(remote="strict", summary=True), "url-and-remote"),
    (Case(remote="lax"), "name"),
    (Case(key=True, collection=True), "local"),
    (Case(remote="bound"), "local"),
    (Case(key=True), "file"),
    (Case(key=True, summary=True), "file"),
    (Case(remote="listed"), "local"),
    (Case(remote="strict"), "file-name"),
]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_demanded_is_looked_at(runner: Runner, worlds: dict[str, World], form: str) -> None:
    for case, way in WORKING:
        assert check(runner, worlds, case, way, form), (case, way)


@pytest.mark.parametrize("way", PULLS)
def test_every_option_where_it_stands_alone_or_with_one_more(
    runner: Runner, worlds: dict[str, World], way: str
) -> None:
    for case in CASES:
        if sum(map(bool, case)) <= 2:
            check(runner, worlds, case, way, "ref")


@pytest.mark.deep
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", PULLS)
def test_all_combinations(runner: Runner, worlds: dict[str, World], way: str, form: str) -> None:
    for case in CASES:
        check(runner, worlds, case, way, form)


@pytest.mark.parametrize("remote", [None, *REMOTES])
def test_deltas_and_stored_commits(runner: Runner, worlds: dict[str, World], remote: str | None) -> None:
    for key, keyring, collection, signed_delta in itertools.product((False, True), repeat=4):
        case = Case(key=key, keyring=keyring, collection=collection, remote=remote)
        demanded = case.demanded - {"summary"} | ({"delta"} if signed_delta else set())
        for command in ("apply-delta", "verify"):
            if command == "verify" and signed_delta:
                continue
            worked = []
            for thing in ("all", *sorted(demanded & {*THINGS})):
                world = worlds[thing]
                assert runner.run("pull-local", str(world.root), "main") == 0
                arguments = [command, *case.options(world)]
                arguments += ["--remote", remote, "--remotes", str(world.remotes)] if remote else []
                arguments += ["--verify-delta"] if signed_delta else []
                arguments.append(str(world.delta) if command == "apply-delta" else "main")
                status = runner.run(*arguments, clean=False)
                assert status in {0, *REFUSED}, arguments
                worked += [thing] if status == 0 else []
            assert worked in ([], ["all"]), (command, case, demanded, worked)
            if "gpg" in demanded:
                assert not worked
            elif key and not remote:
                assert worked == ["all"]
    if remote == "strict":
        world = worlds["all"]
        about = ["--remote", remote, "--remotes", str(world.remotes)]
        runner.run("pull-local", str(world.root), "main")
        assert runner.run("apply-delta", *about, "--verify-delta", str(world.delta), clean=False) == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--verify-key", f"ed25519=inline:{PUBLIC}"],
        ["--gpg-key", "keyring"],
        ["--verify-summary"],
        ["--verify-delta"],
        ["--collection-id", COLLECTION],
        ["--remote", "strict"],
        ["--remotes", "."],
    ],
    ids=lambda options: options[0],
)
def test_commands_refuse_what_they_do_not_look_at(
    runner: Runner, worlds: dict[str, World], options: list[str]
) -> None:
    world = worlds["all"]
    assert runner.run("list-refs", *options, world.url) == 2
    if options[0] in {"--verify-summary", "--verify-delta", "--remotes"}:
        assert runner.run("pull-local", *options, str(world.root), "main") == 2  # needs keys, or a remote
        assert runner.run("verify", *options, "main") == 2
    if options[0] in {"--verify-delta", "--remotes"}:
        assert runner.run("pull", *options, world.url, "main") == 2
    if options[0] in {"--verify-summary", "--verify-delta", "--remotes"}:
        assert runner.run("apply-delta", *options, str(world.delta)) == 2


def test_two_remotes_are_one_too_many(runner: Runner, worlds: dict[str, World]) -> None:
    about = ["--remotes", str(worlds["all"].remotes), "--summary-cache", ""]
    assert runner.run("pull", *about, "--remote", "strict", "lax", "main") == 2
    assert runner.run("pull", *about, "--remote", "strict", "strict", "main") == 0


def test_a_plan_refuses_a_commit_without_composefs_digest(runner: Runner, worlds: dict[str, World]) -> None:
    for options in ([], ["--plan"]):
        arguments = ["pull-local", "--require-composefs-digest", *options, str(worlds["all"].root), "main"]
        assert runner.run(*arguments) not in {0, 1}
