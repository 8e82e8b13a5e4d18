"""Results as JSON are as their schemas say, for every command that has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import click
import pytest

from cfsctl.cli.app import cfsctl
from tests.integration.cli.conftest import TRUSTED, environment, run
from tests.support import schemas
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.programs import CFSCTL
from tests.support.repositories import flip_bit
from tests.support.web import serve_directory
from tools.man_pages import subcommands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CASES: dict[str, list[tuple[list[str], int]]] = {
    "compute-karg": [(["compute-karg", "bootable"], 0)],
    "compute-id": [(["compute-id", "tree"], 0), (["compute-id", "--no-propagate-usr-to-root", "tree"], 0)],
    "create-image": [(["create-image", "tree"], 0), (["create-image", "tree", "a/b"], 0)],
    "diff": [
        (["diff", "dir:tree", "image:web"], 0),
        (["--quiet", "diff", "dir:tree/usr", "dir:tree"], 1),
        (["diff", "dir:other", "dir:tree"], 1),
    ],
    "explain-digest": [
        (["explain-digest", "image:web", "ID"], 0),
        (["explain-digest", "dir:other", "ID", "--image", "web"], 1),
        (["explain-digest", "dir:other", "ab" * 64], 1),
    ],
    "ls": [
        (["ls", "image:web"], 0),
        (["ls", "--recursive", "image:web"], 0),
        (["ls", "-d", "dir:tree", "/usr"], 0),
    ],
    "extract": [(["extract", "web", "extracted"], 0), (["extract", "web", "usr", "extracted"], 0)],
    "copy": [(["copy", "web", "target"], 0), (["copy", "web", "target", "--as", "x/y"], 0)],
    "doctor": [(["doctor"], 0)],
    "fsck": [(["fsck"], 0)],
    "fsck-repair": [(["fsck", "--repair"], 0)],
    "gc": [(["gc"], 0), (["gc", "--dry-run"], 0)],
    "gc-why": [(["gc", "--why", "ID"], 0)],
    "image-history": [(["image", "history", "web"], 0)],
    "image-tag": [
        (["tag", "web", "site"], 0),
        (["image", "rename", "web", "a/b"], 0),
        (["rename", "web", "a/b"], 0),
        (["image", "rollback", "web"], 0),
        (["image", "tag", "web", "web"], 0),
    ],
    "image-untag": [(["untag", "web"], 0), (["image", "untag", "web"], 0)],
    "image-objects": [(["image-objects", "web"], 0)],
    "images": [(["images"], 0), (["images", "--size"], 0)],
    "import-image": [(["import-image", "imported"], 0)],
    "mounts": [(["mounts"], 0)],
    "init": [(["init", "--insecure", "repo"], 0), (["init", "--insecure", "new"], 0)],
    "prune": [(["prune", "--keep-last=1", "--gc"], 0), (["prune", "*", "--keep-tag=w*", "-n"], 0)],
    "remote-list": [(["remote", "list", "--remotes=remotes"], 0), (["remote", "list", "--remotes=none"], 0)],
    "remote-show": [(["remote", "show", "--remotes=remotes", "configured"], 0)],
    "remote-change": [
        (["remote", "add", "--remotes=remotes", "new", "http://a/", TRUSTED], 0),
        (["remote", "add", "--remotes=remotes", "configured", "http://a/", "--if-not-exists"], 0),
        (["remote", "remove", "--remotes=remotes", "configured"], 0),
        (["remote", "remove", "--remotes=remotes", "none", "--if-exists"], 0),
    ],
    "report": [(["report", "page.html"], 0)],
    "stats": [(["stats"], 0)],
}
"""Arguments and exit status of results by the name of their schema."""


OSTREE: dict[str, list[list[str]]] = {
    "ostree-commit": [
        ["ostree", "commit", "web"],
        ["ostree", "commit", "web", "--reference=made/here", "--timestamp=@0"],
    ],
    "ostree-compute-id": [["ostree", "compute-id", "test"]],
    "ostree-export": [
        ["ostree", "export", "test", "ostree-repo"],
        ["ostree", "export", "test", "ostree-repo", "--reference=x"],
    ],
    "ostree-history": [["ostree", "history", "test"]],
    "ostree-images": [["ostree", "images"], ["ostree", "images", "--size"]],
    "ostree-inspect": [["ostree", "inspect", "test"]],
    "ostree-log": [["ostree", "log", "test"]],
    "ostree-list-refs": [["ostree", "list-refs", "URL"]],
    "ostree-pull": [
        ["ostree", "pull-local", "ostree-repo", "test"],
        ["ostree", "pull", "URL", "test"],
        ["ostree", "apply-delta", "delta"],
    ],
    "ostree-pull-plan": [
        ["ostree", "pull-local", "ostree-repo", "test", "--plan"],
        ["ostree", "pull", "URL", "test", "--plan"],
    ],
    "ostree-tag": [
        ["ostree", "tag", "test", "other/tag"],
        ["ostree", "rename", "test", "renamed"],
        ["ostree", "rollback", "renamed"],
    ],
    "ostree-untag": [["ostree", "untag", "test"]],
}

BOOT = {f"boot {command}": f"boot-{command}" for command in ("list", "prepare", "remove")}
"""Commands about what is booted; tests/integration/oci/test_prepare_boot.py compares them."""

IMAGES = {
    f"oci {command}": f"oci-{command}"
    for command in [
        "build",
        "compute-id",
        "copy",
        "delta",
        "fsck",
        "history",
        "images",
        "import-layer",
        "layer",
        "prepare-boot",
        "pull",
        "push",
        "tag",
        "untag",
    ]
} | {"oci rename": "oci-tag", "oci rollback": "oci-tag"}
"""Commands about OCI images; the tests below tests/integration/oci compare them."""

FETCHED = {"fetch": "fetch", "oci fetch": "fetch"}
"""Commands that need a server; tests/integration/repository/test_fetch.py compares them."""

PULLS = {"oci-pull-index", "oci-pull-plan", "oci-pull-several"}
"""Further results of a pull, which the tests below tests/integration/oci compare."""

MOUNTS = {"mount": "mount", "ostree mount": "mount", "oci mount": "mount", "umount": "umount"}
"""Commands that mount; the test below needs root."""

SIGNED = {"ostree verify": "ostree-verify"}
"""Commands whose results need signatures; tests/integration/ostree/test_pull_plan.py compares them."""
"""Arguments of commands that work on commits by the name of their schema; these need the client."""


def results() -> list[Any]:
    return [
        pytest.param(name, arguments, status, id=f"{name}-{index}")
        for name, cases in CASES.items()
        for index, (arguments, status) in enumerate(cases)
    ]


def document_of(place: Path, *arguments: str, status: int = 0) -> dict[str, Any]:
    image_id = os.path.basename(os.readlink(place / "repo" / "images" / "refs" / "web"))
    words = [image_id if word == "ID" else word for word in arguments]
    with (place / "web.img").open("rb") as image:
        done = run(place, "--repo", "repo", *words, stdin=image)
    assert (done.returncode, done.stderr) == (status, "")
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


@pytest.fixture
def other(place: Path) -> Path:
    """Return the place with a second tree, which differs in all kinds of things."""
    tree = place / "other"
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / "program").write_bytes(b"y" * 6000)
    (tree / "usr" / "link").symlink_to("nowhere")
    os.mkfifo(tree / "usr" / "pipe")
    (tree / "usr" / "small").write_text("small")
    return place


@pytest.mark.parametrize(("name", "arguments", "status"), results())
def test_result_is_as_its_schema_says(name: str, arguments: list[str], status: int, other: Path) -> None:
    schemas.check(document_of(other, *arguments, "--json", status=status), name)


@pytest.fixture
def url(place: Path) -> Iterator[str]:
    """Serve the OSTree repository."""
    with serve_directory(place / "ostree-repo") as url:
        yield url


@pytest.mark.parametrize("name", OSTREE)
def test_result_about_commits_is_as_its_schema_says(name: str, place: Path, url: str) -> None:
    require_ostree()
    run_ostree(place / "ostree-repo", "summary", "-u")
    delta = ["static-delta", "generate", "--empty", "--inline", f"--filename={place / 'delta'}", "test"]
    run_ostree(place / "ostree-repo", *delta)
    for arguments in OSTREE[name]:
        words = [url if word == "URL" else word for word in arguments]
        schemas.check(document_of(place, *words, "--json"), name)


def test_global_option_asks_for_the_same(place: Path) -> None:
    assert document_of(place, "--json", "image-objects", "web") == document_of(
        place, "image-objects", "web", "--json"
    )


ORIGINALS = ["images", "fsck", "oci images", "oci fsck"]


@pytest.mark.parametrize("name", ORIGINALS)
def test_behind_the_command_the_documents_of_the_original_keep_their_form(name: str, place: Path) -> None:
    behind = document_of(place, *name.split(), "--json")
    before = document_of(place, "--json", *name.split())
    assert "schema_version" not in behind
    assert next(iter(before)) == "schema_version"
    assert before.keys() - {"schema_version"} == behind.keys()


@pytest.mark.parametrize("name", ["fsck", "oci fsck"])
def test_json_changes_no_exit_status_but_where_the_original_does(name: str, place: Path) -> None:
    flip_bit((place / "repo" / "images" / "refs" / "web").resolve(), 1024)
    words = ["--repo", "repo", *name.split()]
    assert run(place, *words).returncode == 15
    assert run(place, *words, env={**environment(), "CFSCTL_JSON": "1"}).returncode == 15
    assert run(place, "--json", *words).returncode == 15
    assert run(place, *words, "--json").returncode == 0


def test_report_of_a_damaged_repository(place: Path) -> None:
    flip_bit((place / "repo" / "images" / "refs" / "web").resolve(), 1024)
    document = document_of(place, "fsck", "--json")
    schemas.check(document, "fsck")
    assert not document["ok"]
    assert document["errors"]


def test_results_say_what_the_text_says(place: Path) -> None:
    for command in (["create-image", "tree"], ["import-image", "x"]):
        with (place / "web.img").open("rb") as image:
            text = run(place, "--repo", "repo", *command, stdin=image).stdout.strip()
        assert document_of(place, *command, "--json")["image"] == text
    text = run(place, "--repo", "repo", "compute-id", "tree").stdout.strip()
    assert document_of(place, "compute-id", "tree", "--json")["image"] == f"sha512:{text}"
    text = run(place, "--repo", "repo", "image-objects", "web").stdout
    assert document_of(place, "image-objects", "web", "--json")["objects"] == text.split()


def all_commands(root: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Yield all commands that are to be seen, those of groups with the name of the group before them."""
    for name, command in subcommands(root):
        yield name, command
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name, parent=root)
            yield from ((f"{name} {below}", inner) for below, inner in subcommands(context))


def test_every_command_with_json_is_in_the_table() -> None:
    commands = dict(all_commands(click.Context(cfsctl, info_name="cfsctl")))
    with_json = {
        name
        for name, command in commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    groups = {"image", "remote"}
    lines = [words for cases in CASES.values() for words, _ in cases]
    tested = {" ".join(words[: 2 if words[0] in groups else 1]) for words in lines} - {"--quiet"}
    about_commits = {" ".join(words[:2]) for cases in OSTREE.values() for words in cases}
    others = SIGNED | FETCHED | IMAGES | MOUNTS | BOOT
    assert with_json == tested | about_commits | others.keys()


def test_every_schema_is_tested() -> None:
    names = {path.stem for path in schemas.DIRECTORY.glob("*.json")}
    tested = {*CASES, *OSTREE}
    tested |= {name for table in (SIGNED, FETCHED, IMAGES, MOUNTS, BOOT) for name in table.values()}
    assert names == tested | PULLS | {"error", "progress", "version"}


DOES_NOTHING = {"boot", "image", "oci", "ostree", "help", "remote"}
WITHOUT = {
    "cat": "writes a stream",
    "create-dumpfile": "writes a dump",
    "dump-files": "writes dump lines",
    "oci dump": "writes a dump",
    "oci inspect": "always JSON",
    "oci linked-erofs-images": "always JSON",
    "oci varlink": "serves",
    "show": "writes a file",
    "ostree dump": "writes a dump",
    "varlink": "serves",
    "transaction": "has the output of its program",
}
"""Commands that need no ``--json``."""


def test_every_command_that_does_something_has_json() -> None:
    root = click.Context(cfsctl, info_name="cfsctl")
    missing = set()
    for name, command in all_commands(root):
        if not any("--json" in parameter.opts for parameter in command.params):
            missing.add(name)
    assert missing - DOES_NOTHING == WITHOUT.keys()


@pytest.mark.privileged
@pytest.mark.parametrize("name", MOUNTS)
def test_mount_says_what_it_mounted(name: str, place: Path) -> None:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("mounting needs root and unshare")
    if name.startswith("ostree"):
        require_ostree()
    named = {"mount": "web", "ostree mount": "test", "oci mount": "app"}.get(name, "")
    words = f"{CFSCTL} --repo repo {name} --json {named} mountpoint"
    if name == "umount":
        words = f"{CFSCTL} --repo repo mount web mountpoint && {words}"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", words],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    schemas.check(json.loads(done.stdout), MOUNTS[name])


@pytest.mark.parametrize("name", sorted(path.stem for path in schemas.DIRECTORY.glob("*.json")))
def test_schema_describes_every_property(name: str) -> None:
    """Whoever reads a schema need not guess; nothing but the shape itself goes without words."""
    schema = schemas.load(name)
    assert schema["title"]
    for key, rule in schema.get("properties", {}).items():
        assert "description" in rule or rule.get("type") == "array", f"{name}: {key}"


BROKEN: list[tuple[Any, str]] = [
    ({}, "missing"),
    ({"images": [], "more": 1}, "not described"),
    ({"images": {}}, "is no array"),
    ({"images": [{"name": 1, "digest": ""}]}, "is no string"),
    ({"images": [{"name": "x", "digest": "xyz"}]}, "is no"),
]


@pytest.mark.parametrize(("document", "text"), BROKEN)
def test_checker_refuses_what_is_wrong(document: object, text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        schemas.check(document, "images")
