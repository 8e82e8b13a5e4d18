"""Arguments that are no UTF-8, and variables that must not change what a command says."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.support.oci import Layout, directory, file, make_tar
from tests.support.programs import CFSCTL, cfsctl, run_cfsctl

if TYPE_CHECKING:
    from pathlib import Path

BYTES = "Gr\udcfc\udcdfe"
"""Latin-1, as Python has it."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "tree" / "usr" / "file").write_bytes(b"x" * 1000)
    cfsctl("init", "--insecure", tmp_path / "store")
    cfsctl("--repo", tmp_path / "store", "create-image", tmp_path / "tree", "image")
    return tmp_path / "store"


@pytest.mark.parametrize(
    "arguments",
    [
        ("ostree", "commit", "image", "--subject", BYTES),
        ("ostree", "commit", "image", "--body", BYTES),
        ("ostree", "commit", "image", "--reference", BYTES),
        ("ostree", "commit", "image", "--add-metadata-string", f"who={BYTES}"),
        ("ostree", "commit", "image", "--add-metadata-string", f"{BYTES}=x"),
        ("ostree", "pull", f"http://127.0.0.1:1/{BYTES}", "ref"),
        ("ostree", "pull", f"http://{BYTES}/", "ref"),
        ("ostree", "pull", "http://127.0.0.1:1/", BYTES),
        ("ostree", "pull", "http://127.0.0.1:1/", "ref", "--proxy", f"http://{BYTES}:3128/"),
        ("ostree", "pull", "http://127.0.0.1:1/", "ref", "--header", f"X: {BYTES}"),
        ("ostree", "pull", "http://127.0.0.1:1/", "ref", "--fallback-url", f"http://{BYTES}/"),
        ("ostree", "pull", "http://127.0.0.1:1/", "ref", "--content-url", f"http://{BYTES}/"),
        ("ostree", "pull", "http://127.0.0.1:1/", "ref", "--subset", BYTES),
        ("ostree", "pull", "http://127.0.0.1:1/", "ref", "--collection-id", BYTES),
        ("ostree", "pull", "http://127.0.0.1:1/", "ref", "--remote", BYTES),
        ("ostree", "pull-local", "/nowhere", BYTES),
        ("ostree", "list-refs", f"http://127.0.0.1:1/{BYTES}"),
    ],
    ids=lambda arguments: "-".join(arguments[:2] + arguments[-2:-1]),
)
def test_text_must_be_utf8(store: Path, arguments: tuple[str, ...]) -> None:
    done = run_cfsctl("--repo", store, *arguments)
    assert done.returncode == 2, done.stderr
    assert "expected UTF-8, found" in done.stderr
    assert r"Gr\xfc\xdfe" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ostree", "pull-local", "/nowhere"), "name at least one REF"),
        (("ostree", "pull", "http://127.0.0.1:1/"), "name at least one REF"),
        (("ostree", "pull", "http://127.0.0.1:1/", "ref", "--mirror"), "name at least one REF"),
        (
            ("ostree", "pull-local", "/nowhere", "ref", "--subpath=/a", "--require-composefs-digest"),
            "needs all of the commit",
        ),
        (("ostree", "pull", "http://127.0.0.1:1/", "ref", "--header", "name"), "expected NAME:VALUE"),
        (("ostree", "list-refs", "http://127.0.0.1:1/", "--header", "name"), "expected NAME:VALUE"),
        (("ostree", "verify", "nothing"), "nothing to verify with"),
        (("mount", "nothing", "/nowhere", "--read-write"), "--read-write needs --upperdir"),
        (("ostree", "mount", "nothing", "/nowhere", "--upperdir", "up"), "must be used together"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_options_are_checked_before_anything_is_opened(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """There is no repository, no directory and no server to be found missing first."""
    done = run_cfsctl("--repo", tmp_path / "nowhere", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_a_subpath_is_checked_before_anything_is_opened(tmp_path: Path) -> None:
    done = run_cfsctl(
        "--repo", tmp_path / "nowhere", "ostree", "pull-local", "/nowhere", "ref", "--subpath=a/.."
    )
    assert "expected a path within the tree" in done.stderr


def test_names_are_bytes_and_can_be_listed(store: Path, tmp_path: Path) -> None:
    image = cfsctl("--repo", store, "create-image", tmp_path / "tree", BYTES).strip()
    assert sorted(os.listdir(os.fsencode(store / "images" / "refs"))) == [os.fsencode(BYTES), b"image"]
    listed = json.loads(cfsctl("--repo", store, "images", "--json"))["images"]
    assert [entry["name"] for entry in listed] == [BYTES, "image"]
    assert r"Gr\xfc\xdfe" in cfsctl("--repo", store, "images")
    assert r"Gr\xfc\xdfe" in cfsctl("--repo", store, "stats")
    objects = cfsctl("--repo", store, "image-objects", BYTES)
    assert objects == cfsctl("--repo", store, "image-objects", image)
    assert cfsctl("--repo", store, "dump-files", BYTES, "/usr/file").startswith("/usr/file 1000 ")
    commit = cfsctl("--repo", store, "ostree", "commit", BYTES, "--timestamp", "@1").split()[1]
    cfsctl("--repo", store, "copy", BYTES, store, "--as", f"copy-{BYTES}")
    assert run_cfsctl("--repo", store, "ostree", "tag", commit, BYTES).returncode in {0, 16}
    cfsctl("--repo", store, "gc")
    assert run_cfsctl("--repo", store, "fsck").returncode == 0
    assert cfsctl("--repo", store, "image-objects", BYTES) == objects
    image_file = store / os.readlink(store / "images" / "refs" / "image").removeprefix("../")
    imported = (store / "images" / image_file.name).read_bytes()
    done = run_cfsctl("--repo", store, "import-image", f"imported-{BYTES}", stdin=imported)
    assert (done.returncode, done.stdout.strip()) == (0, image)


def test_paths_are_bytes(tmp_path: Path) -> None:
    place = tmp_path / BYTES
    (place / "tree" / "usr").mkdir(parents=True)
    (place / "tree" / f"file-{BYTES}").write_bytes(b"x" * 100)
    cfsctl("init", "--insecure", place / "store")
    image = cfsctl("--repo", place / "store", "create-image", place / "tree", "image").strip()
    assert image.endswith(cfsctl("--no-repo", "compute-id", place / "tree").strip())
    tool = CFSCTL.parent / "mkcomposefs"
    subprocess.run([tool, place / "tree", place / "image"], check=True)
    info = CFSCTL.parent / "composefs-info"
    done = subprocess.run([info, "ls", place / "image"], check=True, capture_output=True)
    assert rb"file-Gr\xfc\xdfe" in done.stdout.replace(b"\xfc", rb"\xfc").replace(b"\xdf", rb"\xdf")


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"CFSCTL_JSON": "1"}, []),
        ({"CFSCTL_JSON": "1", "CFSCTL_QUIET": "1"}, []),
        ({"CFSCTL_QUIET": "1", "CFSCTL_VERBOSE": "1"}, []),
        ({"CFSCTL_QUIET": "1"}, ["--verbose"]),
        ({"CFSCTL_VERBOSE": "1"}, ["--quiet"]),
        ({"CFSCTL_VERBOSE": "3", "CFSCTL_LOG_TIME": "1"}, []),
        ({"CFSCTL_LOG_LEVEL": "debug"}, []),
        ({"CFSCTL_DEBUG": "1"}, []),
        ({"CFSCTL_PROGRESS": "json"}, []),
        ({"CFSCTL_FSYNC": "none"}, []),
    ],
    ids=str,
)
def test_variables_change_no_exit_code(store: Path, variables: dict[str, str], options: list[str]) -> None:
    def status(*arguments: str, env: dict[str, str], options: list[str] = options) -> int:
        return run_cfsctl("--repo", store, *options, *arguments, env=env).returncode

    env = os.environ | variables
    assert status("fsck", env=env) == 0
    damaged = next(path for path in (store / "objects").glob("*/*") if path.stat().st_size == 1000)
    damaged.chmod(0o644)
    damaged.write_bytes(b"y" * 1000)
    for arguments in (["fsck"], ["fsck", "--repair"], ["images"], ["image-objects", "none"], ["frob"]):
        plain = status(*arguments, env=dict(os.environ), options=[])
        assert status(*arguments, env=env) == plain, arguments
    assert status("fsck", env=env) != 0


def test_json_on_the_command_line_hides_damage_as_in_the_original(store: Path) -> None:
    damaged = next(path for path in (store / "objects").glob("*/*") if path.stat().st_size == 1000)
    damaged.chmod(0o644)
    damaged.write_bytes(b"y" * 1000)
    assert run_cfsctl("--repo", store, "fsck", "--json").returncode == 0
    # Before the command it asks for our form, and changes no status.
    assert run_cfsctl("--repo", store, "--json", "fsck").returncode == 15
    done = run_cfsctl("--repo", store, "fsck", env=os.environ | {"CFSCTL_JSON": "1"})
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (15, False)


def test_paths_in_image_references_are_bytes(store: Path, tmp_path: Path) -> None:
    layout, target = tmp_path / BYTES, tmp_path / f"to-{BYTES}"
    Layout(layout).add_image("tag", [make_tar([directory("usr"), file("usr/file", b"x" * 900)])])
    cfsctl("--repo", store, "oci", "pull", f"oci:{layout}:tag", "name")
    with tarfile.open(tmp_path / f"{BYTES}.tar", "w") as archive:
        archive.add(layout, ".")
    cfsctl("--repo", store, "oci", "pull", f"oci-archive:{tmp_path}/{BYTES}.tar:tag", "name")
    cfsctl("--repo", store, "oci", "push", "name", f"oci:{target}:tag")
    assert (target / "oci-layout").exists()
    for words in (["oci", "pull", f"oci:{layout}:tag"], ["oci", "pull", f"docker://{BYTES}", "name"]):
        done = run_cfsctl("--repo", store, *words)
        assert (done.returncode, "expected UTF-8, found" in done.stderr) == (2, True), done.stderr
