"""What a pull would do, and pulls of several images."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl.oci.store.partial_blobs import MIN_PARTIAL_BYTES
from tests.support import schemas
from tests.support.container_storage import Storage
from tests.support.oci import LAYER, Layout, digest_of, directory, example_layers, file, make_tar
from tests.support.programs import cfsctl, run_cfsctl
from tests.support.repositories import view

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

LOWER, UPPER = example_layers()
OTHER = make_tar([directory("usr"), file("usr/other", b"o" * 100)])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with a repository and a layout of three images; two of them share a layer."""
    layout = Layout(tmp_path / "layout")
    layout.add_image("one", [LOWER, UPPER])
    layout.add_image("two", [LOWER, OTHER, OTHER])
    layout.add_image("bad", [LOWER], packed=[(OTHER, LAYER)])
    cfsctl("--repo", tmp_path / "r", "init", "--insecure")
    return tmp_path


def run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_cfsctl("--repo", place / "r", "oci", "pull", *words, cwd=place)


def document(place: Path, schema: str, *words: str, status: int = 0) -> Any:  # noqa: ANN401 - JSON
    done = run(place, *words, "--json")
    assert done.returncode == status, done.stderr
    found = json.loads(done.stdout)
    schemas.check(found, schema)
    return found


class TestPlans:
    def test_nothing_is_changed(self, place: Path) -> None:
        before = view(place / "r")
        (plan,) = document(place, "oci-pull-plan", "oci:layout:one", "a", "--plan")["plans"]
        assert view(place / "r") == before
        assert plan["fetch_bytes"] == len(LOWER) + len(UPPER)
        assert [layer["state"] for layer in plan["layers"]] == ["fetch", "fetch"]
        assert (plan["tag"], plan["is_here"], plan["image"], plan["fetch_layers"]) == ("a", False, None, 2)

    def test_known_layers_are_not_counted(self, place: Path) -> None:
        run(place, "oci:layout:one", "a")
        (plan,) = document(place, "oci-pull-plan", "oci:layout:two", "--plan")["plans"]
        assert [layer["state"] for layer in plan["layers"]] == ["stored", "fetch", "fetch"]
        assert (plan["fetch_layers"], plan["fetch_bytes"]) == (1, len(OTHER))
        text = run(place, "oci:layout:two", "b", "--plan").stdout
        assert f"layer    {digest_of(LOWER)} stored, {len(LOWER)} bytes" in text
        assert f"fetch    1 of 3 layers, {len(OTHER)} bytes" in text

    def test_an_image_that_is_here(self, place: Path) -> None:
        pulled = document(place, "oci-pull", "oci:layout:one", "a")
        plan = document(place, "oci-pull-plan", "oci:layout:one", "a", "--plan")["plans"][0]
        assert (plan["is_here"], plan["fetch_bytes"], plan["image"]) == (True, 0, pulled["image"])
        assert "fetch    nothing: the image is here" in run(place, "oci:layout:one", "--plan").stdout

    def test_files_on_this_machine(self, place: Path) -> None:
        storage = Storage(place / "storage")
        storage.add_image(["localhost/a:b"], [LOWER])
        plan = document(place, "oci-pull-plan", f"{storage.reference}a:b", "x", "--plan")["plans"][0]
        assert plan["layers"][0]["state"] == "local"

    def test_several(self, place: Path) -> None:
        plans = document(place, "oci-pull-plan", "oci:layout:one", "oci:layout:two", "b", "--plan")["plans"]
        assert [plan["tag"] for plan in plans] == ["oci:layout:one", "b"]

    def test_what_is_not_there(self, place: Path) -> None:
        assert run(place, "oci:layout:three", "--plan").returncode == 17
        assert run(place, "oci:layout:one", "--plan", "--platform", "linux/s390x").returncode == 17

    def test_the_limit_of_kept_parts_is_small(self) -> None:
        assert MIN_PARTIAL_BYTES <= 8 << 20


class TestSeveral:
    def test_shared_layers_are_fetched_once(self, place: Path) -> None:
        images = document(place, "oci-pull-several", "oci:layout:one", "a", "oci:layout:two", "b")["images"]
        assert [one["source"] for one in images] == ["oci:layout:one", "oci:layout:two"]
        assert [one["pulled"]["tag"] for one in images] == ["a", "b"]
        assert [one["pulled"]["new_objects"] for one in images] == [2, 1]
        assert images[1]["pulled"]["inlined_bytes"] == len(OTHER) - 100
        assert json.loads(cfsctl("--repo", place / "r", "oci", "fsck", "--json"))["ok"]

    @pytest.mark.parametrize(
        ("words", "tags"),
        [
            (["oci:layout:one", "oci:layout:two"], ["oci:layout:one", "oci:layout:two"]),
            (["oci:layout:one", "a", "oci:layout:two"], ["a", "oci:layout:two"]),
            (["oci:layout:one", "oci:layout:two", "b"], ["b", "oci:layout:one"]),
            (["oci:layout:one", "registry:2"], ["registry:2"]),
            (["oci:layout:one", "oci:layout:one"], ["oci:layout:one"]),
        ],
    )
    def test_names(self, place: Path, words: list[str], tags: list[str]) -> None:
        assert run(place, *words).returncode == 0
        listed = json.loads(cfsctl("--repo", place / "r", "oci", "images", "--json"))["images"]
        assert sorted(image["name"] for image in listed) == sorted(tags)

    def test_one_that_fails_does_not_stop_the_others(self, place: Path) -> None:
        words = ("oci:layout:bad", "x", "oci:layout:two", "b")
        images = document(place, "oci-pull-several", *words, status=3)["images"]
        assert images[0]["pulled"] is None
        assert "diff_id" in images[0]["error"]
        assert images[1]["pulled"]["tag"] == "b"
        shutil.rmtree(place / "r")  # there the bad image has its layer by now
        cfsctl("--repo", place / "r", "init", "--insecure")
        done = run(place, *words)
        assert done.returncode == 3
        assert "image    oci:layout:two" in done.stdout
        assert done.stderr.startswith("Error: oci:layout:bad: ")

    def test_the_status_if_all_fail_is_that_of_the_first(self, place: Path) -> None:
        assert run(place, "oci:layout:none", "x", "oci:layout:bad", "y").returncode == 17
        assert run(place, "oci:layout:bad", "y", "oci:layout:none", "x").returncode == 16

    def test_artifacts_cannot_be_booted(self, place: Path) -> None:
        layout = Layout(place / "artifacts")
        config = layout.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
        layout.add_manifest("t", config, [layout.add_blob(b"data", "text/plain")])
        done = run(place, "oci:artifacts:t", "x", "oci:layout:none", "y", "--bootable")
        assert done.returncode == 17
        assert "is an artifact" in done.stderr
        assert "it was pulled and tagged" in done.stderr
        listed = json.loads(cfsctl("--repo", place / "r", "oci", "images", "--json"))["images"]
        assert [image["name"] for image in listed] == ["x"]

    def test_a_tree_that_cannot_be_booted(self, place: Path) -> None:
        layout = Layout(place / "trees")
        root = [directory("usr"), directory("boot"), directory("sysroot")]
        layout.add_image("incomplete", [make_tar(root[:2])])
        layout.add_image("nothing", [make_tar(root)])
        done = run(place, "oci:trees:incomplete", "x", "--bootable")
        assert done.returncode == 17
        assert "add /sysroot to the tree, or leave --bootable out" in done.stderr
        done = run(place, "oci:trees:incomplete", "x")  # the hint holds
        assert done.returncode == 0
        done = run(place, "oci:trees:nothing", "y", "--bootable")
        assert done.returncode == 0
        assert "has no kernel and no boot entry" in done.stderr

    @pytest.mark.parametrize(
        "words",
        [
            ["oci:layout:one", "a", "b"],
            ["oci:layout:one", "oci:layout:two", "--bootable", "--expected-digest", "00"],
            ["one", "oci:layout:two"],
        ],
    )
    def test_wrong_use(self, place: Path, words: list[str]) -> None:
        assert run(place, *words).returncode in {2, 3, 16}

    def test_a_name_is_checked_before_anything_is_read(self, place: Path) -> None:
        shutil.rmtree(place / "layout" / "blobs")
        done = run(place, "oci:layout:one", "a", "oci:layout:two", "@b")
        assert "reserved for digest" in done.stderr
        assert "blob" not in done.stderr
