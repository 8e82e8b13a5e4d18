"""Every verb in every environment does what it does in an ordinary one, and is never an internal error."""

from __future__ import annotations

import os
import random
import re
import stat
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.app import COMMANDS
from cfsctl.cli.commands.oci.group import COMMANDS as OCI_COMMANDS
from cfsctl.cli.commands.ostree.group import COMMANDS as OSTREE_COMMANDS
from tests.support.environments import (
    CHARSETS,
    NO_PROC,
    QUICK_CHARSETS,
    READS_STDIN,
    STREAMS,
    TOOLS,
    UMASKS,
    VARIABLES,
    VERBS,
    Environment,
    World,
    make_locales,
)

if TYPE_CHECKING:
    from pathlib import Path

ALL_VERBS = [*VERBS, *TOOLS]
FIXED = [*STREAMS, *VARIABLES, *UMASKS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("original"), tmp_path_factory.mktemp("copies"))


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> list[Environment]:
    quick = {locale: charset for locale, charset in CHARSETS.items() if charset in QUICK_CHARSETS}
    return make_locales(tmp_path_factory.mktemp("locales"), quick)


def check(world: World, environment: Environment, verb: str) -> None:
    """Run a verb in an environment and compare."""
    expected = world.expected(verb)
    if "--json" in VERBS.get(verb, ()) and environment.name == NO_PROC.name and verb.startswith("gc"):
        # What cannot be looked at is said: gc keeps everything then.
        expected = expected._replace(stdout=world.run(environment, verb)[0].stdout)
        assert b'"complete": false' in expected.stdout
        assert b'"problems": []' not in expected.stdout
    outcome, place = world.run(environment, verb)
    where = f"{verb} with {environment.name}: {outcome.stderr.decode(errors='replace')}"
    assert b"internal error" not in outcome.stderr, where
    assert b"Traceback" not in outcome.stderr, where
    assert b"Exception ignored" not in outcome.stderr, where
    statuses = environment.status(expected.status, bool(expected.stdout))
    if verb in READS_STDIN and "<&-" in environment.redirections:
        statuses = {1}
    assert outcome.status in statuses, where
    if outcome.stdout and not environment.variables.keys() & {"PYTHONIOENCODING", "LOCPATH"}:
        assert without_space(outcome.stdout) == without_space(expected.stdout), where
    if "json" in verb:
        assert without_space(outcome.stdout) in {without_space(expected.stdout), b""}, where
    check_modes(place)


def without_space(output: bytes) -> bytes:
    """Leave out how much space the file system has, which other programs change meanwhile."""
    return re.sub(rb"\d[\d.]* [KMGT]?i?B of", b"", output)


def check_modes(place: Path) -> None:
    """Check what the store and the world are made of: modes as documented, whatever the umask."""
    for store in ("store", "other", "fresh"):
        for directory, _, files in os.walk(place / store):
            if directory != str(place / store) and ".cfsctl" not in directory:
                assert stat.S_IMODE(os.stat(directory).st_mode) == 0o755, directory
            for name in files:
                status = os.lstat(os.path.join(directory, name))
                if stat.S_ISREG(status.st_mode) and not name.startswith("."):
                    assert stat.S_IMODE(status.st_mode) == 0o644, os.path.join(directory, name)


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_some_environments(world: World, locales: list[Environment], verb: str) -> None:
    environments = [*FIXED, *locales]
    check(world, environments[ALL_VERBS.index(verb) % len(environments)], verb)


def test_each_table_has_every_command() -> None:
    used = {next((word for word in line if not word.startswith("-")), "") for line in VERBS.values()}
    assert set(COMMANDS) - used <= {"mount", "list-images"}
    used = {line[1] for line in VERBS.values() if line[:1] == ["oci"]}
    assert set(OCI_COMMANDS) - used <= {"mount"}
    used = {line[1] for line in VERBS.values() if line[:1] == ["ostree"]}
    assert set(OSTREE_COMMANDS) - used <= {"mount"}


LIBRARY = """
import sys, cfsctl
assert sys.getfilesystemencoding() != "utf-8" or sys.argv[3] == "utf-8"
for name in cfsctl.__all__:
    getattr(cfsctl, name)
with cfsctl.Repository.init(sys.argv[1], insecure=True) as repository:
    print(repository.create_image(sys.argv[2], "name"), cfsctl.compute_id(sys.argv[2]))
    sys.stdout.flush()
    sys.stdout.buffer.writelines(cfsctl.create_dumpfile(sys.argv[2]))
"""


def test_a_program_that_uses_the_library_sees_the_same_files_in_every_locale(
    locales: list[Environment], tmp_path: Path
) -> None:
    names = (b"a", b"\xa1\xc3", b"\xa1\xc5", b"\xa2\xcc", b"\xa4\x51", b"\xff", "ä日".encode())
    for name in names:
        directory = os.path.join(os.fsencode(tmp_path), b"tree/usr", name)
        os.makedirs(directory)
        with open(os.path.join(directory, name + b".file"), "wb") as stream:
            stream.write(name * 100)
    outputs = []
    for number, variables in enumerate(({"LC_ALL": "C.UTF-8"}, *(one.variables for one in locales))):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                LIBRARY,
                tmp_path / f"store{number}",
                tmp_path / "tree",
                "x" if number else "utf-8",
            ],
            env=os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"} | dict(variables),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert set(outputs) == {outputs[0]}
    assert outputs[0].count(b".file") == len(names)


SCANNING = (
    "compute-karg",
    "compute-id",
    "create-dumpfile",
    "create-image",
    "diff",
    "explain-digest",
    "fsck repair",
    "mkcomposefs",
)


def without_proc(verb: str) -> Environment:
    """Return the environment without /proc: scans refuse, and gc does nothing, as it sees no mounts."""
    if verb.startswith("gc"):
        return replace(NO_PROC, status=lambda status, _: {status, 1, 3})
    if verb.startswith(SCANNING):
        return replace(NO_PROC, status=lambda status, _: {status, 1, 2})
    return NO_PROC


@pytest.mark.privileged
@pytest.mark.parametrize(
    "verb", ["copy", "create-image", "ostree pull", "ostree pull-local", "mkcomposefs store"]
)
def test_some_verbs_without_proc(world: World, verb: str) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root for a mount namespace")
    check(world, without_proc(verb), verb)


@pytest.mark.deep
@pytest.mark.privileged
@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_verb_without_proc(world: World, verb: str) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root for a mount namespace")
    check(world, without_proc(verb), verb)


@pytest.mark.deep
@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_environment(world: World, verb: str) -> None:
    for environment in FIXED:
        check(world, environment, verb)


@pytest.mark.deep
def test_every_locale(world: World, tmp_path: Path) -> None:
    locales = make_locales(tmp_path, CHARSETS)
    assert locales, "no locale could be made: is localedef installed?"
    for environment in locales:
        for verb in ALL_VERBS:
            check(world, environment, verb)


@pytest.mark.deep
def test_random_combinations(world: World, tmp_path: Path) -> None:
    locales = make_locales(tmp_path, CHARSETS)
    random_choice = random.Random(14)
    for _ in range(300):
        streams = random_choice.choice(STREAMS)
        text = random_choice.choice([*VARIABLES, *locales])
        mask = random_choice.choice(UMASKS)
        both = Environment(
            f"{streams.name}, {text.name} and {mask.name}",
            streams.redirections,
            text.variables,
            mask.umask,
            status=streams.status,
        )
        check(world, both, random_choice.choice(ALL_VERBS))
