"""What is printed is accepted back: IDs of everything, whole and shortened, with and without their hash."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.conftest import run
from tests.support.ostree_client import require_ostree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def image_of(place: Path) -> str:
    return os.path.basename(os.readlink(place / "repo" / "images" / "refs" / "web"))


def commit_of(place: Path) -> str:
    return run(place, "--repo", "repo", "ostree", "images", "-q").stdout.strip()


def document(place: Path) -> dict[str, str]:
    found = json.loads(run(place, "--repo", "repo", "oci", "inspect", "app").stdout)
    assert isinstance(found, dict)
    return found


def manifest_of(place: Path) -> str:
    listed = json.loads(run(place, "--repo", "repo", "--json", "oci", "images").stdout)
    (digest,) = [str(one["manifest_digest"]) for one in listed["images"] if one["name"] == "app"]
    return digest.removeprefix("sha256:")


def config_of(place: Path) -> str:
    digest: str = json.loads(document(place)["manifest"])["config"]["digest"]
    return digest.removeprefix("sha256:")


def layer_of(place: Path) -> str:
    digest: str = json.loads(document(place)["config"])["rootfs"]["diff_ids"][0]
    return digest.removeprefix("sha256:")


def object_of(place: Path) -> str:
    return run(place, "--repo", "repo", "image-objects", "web").stdout.split()[0].partition(":")[2]


COMMANDS: dict[str, tuple[Callable[[Path], str], str, list[list[str]]]] = {
    "image": (
        image_of,
        "sha512",
        [
            ["image-objects", "ID"],
            ["dump-files", "ID", "/usr"],
            ["tag", "ID", "x"],
            ["gc", "-n", "-r", "ID"],
            ["copy", "ID", "target", "--as", "x"],
            ["diff", "ID", "image:web"],
            ["diff", "image:ID", "image:web"],
        ],
    ),
    "commit": (
        commit_of,
        "sha256",
        [
            ["ostree", "inspect", "ID"],
            ["ostree", "dump", "ID"],
            ["ostree", "compute-id", "ID"],
            ["ostree", "log", "ID"],
            ["ostree", "export", "ID", "ostree-repo"],
            ["ostree", "tag", "ID", "x"],
            ["ostree", "commit", "web", "--parent", "ID"],
            ["ostree", "pull-local", "ostree-repo", "test", "--base-name", "ID"],
            ["copy", "ID", "target", "--as", "x"],
            ["diff", "commit:ID", "commit:test"],
            ["cat", "ID"],
        ],
    ),
    "manifest": (
        manifest_of,
        "sha256",
        [
            ["oci", "inspect", "ID"],
            ["oci", "tag", "ID", "x"],
            ["oci", "dump", "ID"],
            ["oci", "compute-id", "ID"],
            ["oci", "fsck", "ID"],
            ["oci", "push", "ID", "oci:pushed:x"],
            ["oci", "build", "tree", "x", "--base", "ID"],
        ],
    ),
    "config": (config_of, "sha256", [["oci", "inspect", "ID"], ["oci", "compute-id", "ID"]]),
    "layer": (layer_of, "sha256", [["oci", "layer", "ID"], ["oci", "layer", "--json", "ID"]]),
    "object": (object_of, "sha512", [["gc", "--why", "ID"]]),
}
CASES = [
    pytest.param(kind, words, id=" ".join([kind, *words]))
    for kind, (_, _, lines) in COMMANDS.items()
    for words in lines
]


@pytest.mark.parametrize(("kind", "words"), CASES)
def test_every_spelling_is_accepted(kind: str, words: list[str], place: Path) -> None:
    if kind == "commit":
        require_ostree()
    find, algorithm, _ = COMMANDS[kind]
    digits = find(place)
    spellings = [digits[:7], f"{algorithm}:{digits[:12]}", f"@{algorithm}:{digits[:5]}", f"@{digits}"]
    if "diff" not in words[0]:
        spellings = spellings[:: 3 if words[0] in {"copy", "oci"} else 1]
    for spelling in spellings:
        line = [word.replace("ID", spelling) for word in words]
        done = run(place, "--repo", "repo", *line)
        assert done.returncode == 0, (line, done.stderr)


def test_the_beginning_of_a_stream(place: Path) -> None:
    layer = layer_of(place)
    whole = run(place, "--repo", "repo", "cat", f"oci-layer-sha256:{layer}").stdout
    for name in (f"oci-layer-sha256:{layer[:6]}", layer[:8], f"sha256:{layer[:8]}"):
        assert run(place, "--repo", "repo", "cat", name).stdout == whole
    stream = json.loads(run(place, "--json", "--repo", "repo", "oci", "layer", layer).stdout)["verity"]
    assert run(place, "--repo", "repo", "cat", stream).stdout == whole


def test_the_file_system_image_of_an_oci_image(place: Path) -> None:
    image = (place / "oci-image-id").read_text().strip()
    for spelling in (image[:6], f"sha512:{image}", f"sha512:{image[:9]}"):
        assert run(place, "--repo", "repo", "oci", "linked-erofs-images", spelling).returncode == 0


def collide(place: Path, digits: str) -> None:
    """Add an image entry whose ID begins like another's."""
    images = place / "repo" / "images"
    other = digits + "0" * (128 - len(digits))
    (images / other).symlink_to(f"../objects/{other[:2]}/{other[2:]}")


def test_ambiguous_ones_are_listed(place: Path) -> None:
    image = image_of(place)
    collide(place, image[:10])
    for words in (["image-objects"], ["gc", "-n", "-r"], ["mount"]):
        tail = ["mountpoint"] if words == ["mount"] else []
        done = run(place, "--repo", "repo", *words, image[:6], *tail)
        assert (done.returncode, done.stdout) == (17, ""), words
        assert f"ambiguous image ID '{image[:6]}': 2 match: " in done.stderr
        assert f"{image[:13]} (web)" in done.stderr or f"{image[:12]} (web)" in done.stderr
    assert run(place, "--repo", "repo", "image-objects", image[:16]).returncode == 0
    done = run(place, "--repo", "repo", "diff", image[:6], "image:web")
    assert done.returncode == 2
    assert "ambiguous" in done.stderr


def test_a_name_of_the_same_spelling_comes_first(place: Path) -> None:
    image = image_of(place)
    assert run(place, "--repo", "repo", "create-image", "bootable", image[:6]).returncode == 0
    by_name = run(place, "--repo", "repo", "image-objects", image[:6]).stdout
    assert by_name != run(place, "--repo", "repo", "image-objects", "web").stdout


def test_another_hash_is_said(place: Path) -> None:
    done = run(place, "--repo", "repo", "image-objects", f"sha256:{image_of(place)[:12]}")
    assert done.returncode == 16
    assert "of another hash than the repository's (sha512)" in done.stderr


def test_fewer_digits_are_a_name(place: Path) -> None:
    done = run(place, "--repo", "repo", "image-objects", image_of(place)[:3])
    assert done.returncode == 17
    assert "image not found" in done.stderr
