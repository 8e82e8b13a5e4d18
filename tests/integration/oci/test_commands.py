"""The commands as programs: recorded lines of the original, and what ours have besides."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, TypedDict

import pytest

from cfsctl.errors import ExitCode
from tests.support import schemas
from tests.support.oci import (
    VECTORS,
    Layout,
    digest_of,
    directory,
    example_layers,
    file,
    hard_link,
    make_tar,
    symlink,
)
from tests.support.programs import CFSCTL, run_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[bytes]]

# One work directory is filled by all recorded lines one after the other: a file of tests stays in one worker.


class Case(TypedDict, total=False):
    run: str
    status: int
    stdout: str
    order: str


CASES: list[Case] = json.loads((VECTORS / "cases.json").read_text())
OTHER = {
    6: "a repository without streams says that there is no such image, and not ENOENT",
}
"""Lines whose outcome is another one on purpose."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, layouts: Path) -> list[tuple[int, str]]:
    work = tmp_path_factory.mktemp("recorded")
    (work / "bin").mkdir()
    (work / "bin" / "cfsctl").symlink_to(CFSCTL)
    environment = {
        "PATH": f"{work}/bin:{os.environ['PATH']}",
        "HOME": str(work),
        "FIX": str(layouts / "cases"),
        "LC_ALL": "C.UTF-8",
    }
    found = []
    for case in CASES:
        done = subprocess.run(
            ["bash", "-c", case["run"]],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        found.append((done.returncode, done.stdout.decode()))
    return found


@pytest.mark.parametrize("number", range(len(CASES)))
def test_recorded_line(number: int, outcomes: list[tuple[int, str]]) -> None:
    case = CASES[number]
    status, text = outcomes[number]
    # Errors have exit statuses of their own where the original always has 1.
    assert status == case["status"] or (case["status"] == 1 and status > 2), OTHER.get(number)
    wanted, found = case["stdout"].split("\n"), text.split("\n")
    if case.get("order") == "any":
        wanted, found = sorted(wanted), sorted(found)
    assert found == wanted


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "layout")
    made.add_image("t", example_layers())
    return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what runs ``cfsctl oci`` on a new repository."""
    repository = str(tmp_path / "r")
    init = [str(CFSCTL), "init", repository, "--insecure", "--algorithm", "fsverity-sha256-12"]
    assert run_program(*init).returncode == 0

    def run(*arguments: str, data: bytes = b"", status: int = 0) -> subprocess.CompletedProcess[bytes]:
        command = [str(CFSCTL), "--repo", repository, *arguments]
        done = run_program(*command, stdin=data)
        assert done.returncode == status, done.stderr.decode()
        return done

    return run


MANIFEST = "sha256:76b7e1f1a10a42bb3cb9813362fbcacdce52d9906933b2a6036b6905c7cc8b53"
CONFIG = "sha256:0c02b8cec94187a0a4fe22fce81dd5a8a5152b0418266aea1f42ee9f1a0acc00"
IMAGE = "2a0f0c2077f2b1c5dbb8a36d9881bbb39b22bbfbee2de72256d0c2272c2fe157"


def test_a_pull_says_what_it_did(run: Run, layout: Layout) -> None:
    lines = run("oci", "pull", f"oci:{layout.path}:t", "name").stdout.decode().splitlines()
    assert lines[:2] == [f"manifest {MANIFEST}", f"config   {CONFIG}"]
    assert re.fullmatch("verity   [0-9a-f]{64}", lines[2])
    assert lines[3:] == [
        "tagged   name",
        "objects  2 new + 0 already present objects; 165 B stored, 19.84 KiB inlined",
    ]
    again = json.loads(run("oci", "pull", f"oci:{layout.path}:t", "--json").stdout)
    assert again["tag"] == f"oci:{layout.path}:t"
    assert (again["image"], again["new_objects"]) == (f"sha256:{IMAGE}", 0)


@pytest.mark.parametrize("name", ["name", MANIFEST, f"@{CONFIG}", MANIFEST[7:15], CONFIG[:20]])
def test_every_spelling_names_the_image(run: Run, layout: Layout, name: str) -> None:
    run("oci", "pull", f"oci:{layout.path}:t", "name")
    assert run("oci", "compute-id", name).stdout.decode().strip() == IMAGE
    document = json.loads(run("oci", "inspect", name).stdout)
    assert digest_of(document["manifest"].encode()) == MANIFEST
    assert digest_of(document["config"].encode()) == CONFIG
    assert document["composefs_erofs"] == IMAGE
    assert document["composefs_boot_erofs"] is None
    tagged = run("oci", "tag", name, "a/b%2F:c").stdout.decode()
    assert tagged == f"Tagged {MANIFEST} as a/b%2F:c\n"
    (first, second) = json.loads(run("oci", "images", "--json").stdout)["images"]
    assert (first["name"], second["name"]) == ("a/b%2F:c", "name")
    run("oci", "fsck", name)


@pytest.mark.parametrize("name", ["name", MANIFEST, f"@{CONFIG}", MANIFEST[7:15]])
def test_the_tree_of_an_image_is_compared(run: Run, layout: Layout, name: str) -> None:
    run("oci", "pull", f"oci:{layout.path}:t", "name")
    assert run("diff", f"oci:{name}", IMAGE).stdout == b""
    assert run("diff", name, f"image:{IMAGE}").stdout == b""


def test_a_name_of_two_kinds_has_to_be_told_apart(run: Run, layout: Layout) -> None:
    run("oci", "pull", f"oci:{layout.path}:t", "name")
    run("create-image", "--no-propagate-usr-to-root", str(layout.path), "name")
    error = run("diff", "name", "name", status=2).stderr.decode()
    assert "name: there are an image and a container image of that name" in error
    assert "say image: or oci: before it" in error
    assert run("diff", "oci:nothing", IMAGE, status=2).stderr.startswith(
        b"Error: OCI reference not found: nothing"
    )


def test_documents_are_printed_byte_for_byte(run: Run, layout: Layout) -> None:
    run("oci", "pull", f"oci:{layout.path}:t", "name")
    assert digest_of(run("oci", "inspect", "name", "--manifest").stdout[:-1]) == MANIFEST
    assert digest_of(run("oci", "inspect", "name", "--config").stdout[:-1]) == CONFIG
    run("oci", "inspect", "name", "--config", "--manifest", status=2)


def test_tags_come_and_go(run: Run, layout: Layout) -> None:
    assert run("oci", "images").stdout == b"No images found\n"
    run("oci", "pull", f"oci:{layout.path}:t", "name")
    table = run("oci", "images").stdout.decode()
    for word in ("NAME", "DIGEST", "ARCH", "LAYERS", "REFS", "amd64", MANIFEST[7:19]):
        assert word in table
    assert run("oci", "untag", "name").stdout == b"Removed tag name\n"
    error = run("oci", "untag", "name", status=ExitCode.NOT_FOUND).stderr.decode()
    assert "Failed to remove tag name" in error
    assert b"Pruned symlinks: 1 image" in run("gc").stdout
    error = run("oci", "inspect", MANIFEST, status=ExitCode.NOT_FOUND).stderr.decode()
    assert "neither a manifest nor a config" in error


@pytest.mark.parametrize("name", ["@x", "", "x" * 256])
def test_names_that_cannot_be_tags_are_refused(run: Run, layout: Layout, name: str) -> None:
    run("oci", "pull", f"oci:{layout.path}:t", name, status=ExitCode.INVALID_DATA)
    run("oci", "pull", f"oci:{layout.path}:t", "name")
    run("oci", "tag", "name", name, status=ExitCode.INVALID_DATA)


class TestLayers:
    LAYER = make_tar(
        [
            directory("usr", 0o755, 5),
            file("usr/big", b"x" * 100),
            file("usr/.wh.gone"),
            symlink("usr/link", "big"),
            hard_link("usr/hard", "usr/big"),
            file("../x"),
        ]
    )
    DIFF_ID = digest_of(LAYER)

    def test_a_layer_goes_in_and_comes_out(self, run: Run) -> None:
        stream = run("oci", "import-layer", self.DIFF_ID, "kept/here", data=self.LAYER).stdout
        assert re.fullmatch(rb"sha256:[0-9a-f]{64}\n", stream)
        assert run("oci", "import-layer", self.DIFF_ID, data=b"not read").stdout == stream
        assert run("oci", "layer", self.DIFF_ID).stdout == self.LAYER
        assert run("oci", "layer", f"@{self.DIFF_ID}").stdout == self.LAYER
        assert run("cat", "refs/kept/here").stdout == self.LAYER
        document = json.loads(run("oci", "layer", self.DIFF_ID, "--json").stdout)
        assert document == {
            "diffId": self.DIFF_ID,
            "verity": stream.decode().strip().removeprefix("sha256:"),
            "size": len(self.LAYER),
            "entryCount": 6,
            "splitstream": {
                "externalObjects": 1,
                "externalSize": 100,
                "inlineSize": len(self.LAYER) - 100,
            },
        }
        run("gc")
        run("oci", "layer", self.DIFF_ID)

    def test_entries_are_lines(self, run: Run) -> None:
        run("oci", "import-layer", self.DIFF_ID, data=self.LAYER)
        lines = run("oci", "layer", self.DIFF_ID, "--dumpfile").stdout.decode().splitlines()
        assert [line.split()[0] for line in lines] == [
            "/usr",
            "/usr/big",
            "/usr/.wh.gone",
            "/usr/link",
            "/usr/hard",
            "/../x",
        ]
        assert lines[0] == "/usr 0 40755 1 0 0 0 5.0 - - -"
        assert lines[4] == "/usr/hard 0 @120000 - - - - 0.0 /usr/big - -"
        run("oci", "layer", self.DIFF_ID, "--dumpfile", "--json", status=2)

    def test_another_layer_is_refused(self, run: Run) -> None:
        wrong = digest_of(b"")
        error = run("oci", "import-layer", wrong, data=self.LAYER, status=ExitCode.INVALID_DATA).stderr
        assert b"expected digest sha256:e3b0c4" in error
        run("oci", "layer", wrong, status=ExitCode.NOT_FOUND)

    @pytest.mark.parametrize("name", ["../x", "a/../../b", "a/"])
    def test_names_do_not_lead_out(self, run: Run, name: str) -> None:
        run("oci", "import-layer", self.DIFF_ID, name, data=self.LAYER, status=ExitCode.INVALID_DATA)

    def test_what_is_no_digest_is_wrong_usage(self, run: Run) -> None:
        run("oci", "import-layer", "sha256:zz", data=self.LAYER, status=2)


class TestFsck:
    def test_sound_images(self, run: Run, layout: Layout) -> None:
        run("oci", "pull", f"oci:{layout.path}:t", "name")
        lines = run("oci", "fsck").stdout.decode().splitlines()
        assert lines[-2:] == ["status: ok", "oci images: 1/1 ok"]
        document = json.loads(run("oci", "fsck", "--deep", "--json").stdout)
        assert document["ok"]
        assert document["repo"]["ok"]
        assert (document["images_checked"], document["errors"]) == (1, [])

    def test_a_missing_layer(self, run: Run, layout: Layout, tmp_path: Path) -> None:
        run("oci", "pull", f"oci:{layout.path}:t", "name")
        digest = digest_of(example_layers()[0])
        (tmp_path / "r" / "streams" / f"oci-layer-{digest}").unlink()
        done = run("oci", "fsck", "name", status=ExitCode.CORRUPTION)
        assert f"  - fsck: layer-stream-missing: name: {digest}" in done.stdout.decode()
        assert b"OCI integrity check failed" in done.stderr

    def test_an_unknown_name(self, run: Run) -> None:
        done = run("oci", "fsck", "name", status=ExitCode.CORRUPTION)
        assert "fsck: ref-resolve-failed: name: OCI reference not found: name" in done.stdout.decode()

    def test_a_layer_of_another_digest_is_found_in_depth(
        self, run: Run, layout: Layout, tmp_path: Path
    ) -> None:
        run("oci", "pull", f"oci:{layout.path}:t", "name")
        names = [f"oci-layer-{digest_of(layer)}" for layer in example_layers()]
        streams = tmp_path / "r" / "streams"
        config = next(p for p in streams.iterdir() if p.name.startswith("oci-config"))
        data = (streams / config.readlink()).read_bytes()
        links = [(streams / name).readlink() for name in names]
        first, second = (bytes.fromhex(link.parent.name + link.name) for link in links)
        swapped = data.replace(first, b"_" * 32).replace(second, first).replace(b"_" * 32, second)
        (streams / config.readlink()).chmod(0o644)
        (streams / config.readlink()).write_bytes(swapped)
        done = run("oci", "fsck", "--deep", status=ExitCode.CORRUPTION)
        assert done.stdout.decode().count("layer-check-failed: name: sha256:") == 2
        assert "Layer has incorrect checksum" in done.stdout.decode()


def test_artifacts_have_no_tree(run: Run, layout: Layout) -> None:
    config = layout.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
    layout.add_manifest("artifact", config, [layout.add_blob(b"content", "text/plain")])
    run("oci", "pull", f"oci:{layout.path}:artifact", "art")
    assert "artifact" in run("oci", "images").stdout.decode()
    error = run("oci", "dump", "art", status=ExitCode.INVALID_DATA).stderr.decode()
    assert "this is an artifact and has no file system" in error
    assert run("cat", f"oci-layer-{digest_of(b'content')}").stdout == b"content"
    run("oci", "fsck", "--deep")


def test_the_kind_of_error_is_the_exit_status(run: Run, layout: Layout) -> None:
    run("oci", "pull", "foo:bar", status=ExitCode.INVALID_DATA)
    run("oci", "pull", f"oci:{layout.path}:no", status=ExitCode.NOT_FOUND)
    run("oci", "pull", f"oci:{layout.path}:t", "--expected-digest", "00", status=2)
    run("oci", "pull", f"oci:{layout.path}:t", "--platform", "x", status=ExitCode.INVALID_DATA)
    run("oci", "inspect", "no", status=ExitCode.NOT_FOUND)
    for words in (
        ["dump", "@sha256:zz"],
        ["inspect", "@x"],
        ["mount", "@sha512:0", "/"],
        ["layer", "nothing"],
    ):
        run("oci", *words, status=2)
    run("oci", "layer", "sha256:zz", status=2)
    error = json.loads(run("--json", "oci", "layer", digest_of(b""), status=ExitCode.NOT_FOUND).stderr)
    assert error["kind"] == "not-found"


def test_documents_follow_their_schemas(run: Run, layout: Layout) -> None:
    def document(*words: str, data: bytes = b"") -> object:
        return json.loads(run("oci", *words, "--json", data=data).stdout)

    layer = digest_of(TestLayers.LAYER)
    schemas.check(document("pull", f"oci:{layout.path}:t", "name"), "oci-pull")
    schemas.check(document("images"), "oci-images")
    schemas.check(document("tag", "name", "other"), "oci-tag")
    schemas.check(document("history", "other"), "oci-history")
    schemas.check(document("rename", "other", "again"), "oci-tag")
    schemas.check(document("untag", "again"), "oci-untag")
    schemas.check(document("compute-id", "name"), "oci-compute-id")
    schemas.check(document("fsck", "--deep"), "oci-fsck")
    schemas.check(document("import-layer", layer, data=TestLayers.LAYER), "oci-import-layer")
    schemas.check(document("layer", layer), "oci-layer")
