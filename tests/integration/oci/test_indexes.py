"""Indexes that are pulled whole, listed, checked, collected, copied and pushed again with the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl import Repository
from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError, RefNotFoundError
from cfsctl.oci.digest import parse_digest
from cfsctl.oci.manifest import ManifestError
from cfsctl.oci.reference import host_platform
from cfsctl.oci.store.indexes import entry_name, iter_listed, open_index
from cfsctl.repository import Repository as LowerRepository
from tests.support import schemas
from tests.support.indexes import MultiImage, add_image, list_blobs
from tests.support.oci import Layout, digest_of, to_json
from tests.support.programs import cfsctl, require, run_cfsctl
from tests.support.repositories import make_repository, view

if TYPE_CHECKING:
    from cfsctl.oci.pull_index import IndexPullResult

DOCKER = "application/vnd.docker.distribution.manifest"

pytestmark = pytest.mark.skipif(
    str(host_platform()) != "linux/amd64", reason="the images are for amd64, which this machine is not"
)


@pytest.fixture(scope="module")
def full(multi: MultiImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository that has the index as ``app``, not to be changed."""
    path = tmp_path_factory.mktemp("full") / "repo"
    cfsctl("init", "--insecure", path)
    cfsctl("--repo", path, "oci", "pull", "--all-platforms", f"oci:{multi.layout.path}:multi", "app")
    return path


def digest(described: dict[str, object]) -> str:
    return str(described["digest"])


def source_of(layout: Layout, tag: str = "t") -> str:
    return f"oci:{layout.path}:{tag}"


def pull_index(store: Repository, source: str, tag: str = "app") -> IndexPullResult:
    result = store.oci.pull_index(source, tag)
    assert result is not None
    return result


def names_of(store: Repository) -> dict[str, str]:
    return {image.name: str(image.digest) for image in store.oci.images()}


def test_what_a_pull_says(multi: MultiImage, tmp_path: Path) -> None:
    with make_repository(tmp_path / "repo"):
        pass
    pull = ["oci", "pull", "--all-platforms", "--json", source_of(multi.layout, "multi"), "app"]
    done = run_cfsctl("--repo", tmp_path / "repo", *pull)
    found = json.loads(done.stdout)
    schemas.check(found, "oci-pull-index")
    assert (found["index"], found["tag"]) == (digest(multi.listed), "app")
    platforms = [image["platform"] for image in found["images"]]
    assert platforms == ["linux/amd64", "linux/arm64", "windows/amd64", "unknown/unknown", "linux/s390x"]
    assert [image["image"] is None for image in found["images"]] == [False, False, True, True, False]
    assert "stored without file system images" in done.stderr


def test_a_second_pull_changes_nothing(multi: MultiImage, pulled: Repository) -> None:
    before = view(Path(pulled.path) / "streams")
    result = pull_index(pulled, source_of(multi.layout, "multi"))
    assert result.counts.new == 0
    assert view(Path(pulled.path) / "streams") == before


def test_what_is_listed(multi: MultiImage, full: Path) -> None:
    (listed,) = json.loads(cfsctl("--repo", full, "oci", "images", "--json"))["images"]
    assert (listed["name"], listed["manifest_digest"]) == ("app", digest(multi.listed))
    assert "linux/s390x" in listed["platforms"]
    assert " index " in cfsctl("--repo", full, "oci", "images")
    inspected = json.loads(cfsctl("--repo", full, "oci", "inspect", "app"))
    assert digest_of(inspected["index"].encode()) == digest(multi.listed)
    assert {"digest": digest(multi.images["s390x"]), "platform": "linux/s390x"} in inspected["manifests"]
    assert f"{inspected['index']}\n" == cfsctl("--repo", full, "oci", "inspect", "app", "--manifest")


def test_kept_by_its_tag_and_collected_without(pulled: Repository) -> None:
    pulled.gc()
    assert pulled.oci.fsck(deep=True).is_ok
    assert pulled.oci.fsck("app").is_ok
    pulled.oci.untag("app")
    pulled.gc()
    assert [path.name for path in (Path(pulled.path) / "streams").iterdir()] == ["refs"]


def test_other_methods_use_the_image_for_this_machine(multi: MultiImage, pulled: Repository) -> None:
    chosen = pulled.oci.inspect(digest(multi.images["amd64"])).image
    assert chosen != pulled.oci.inspect(digest(multi.images["arm64"])).image
    for name in ("app", digest(multi.listed), digest(multi.listed)[7:20], f"@{digest(multi.listed)}"):
        assert pulled.oci.inspect(name).image == pulled.oci.find_image(name) == chosen


def test_no_image_for_this_machine(tmp_path: Path, store: Repository) -> None:
    layout = Layout(tmp_path / "layout")
    entry = add_image(layout, "riscv64")
    layout.entries.clear()
    layout.add_index("t", [entry])
    pull_index(store, source_of(layout))
    with pytest.raises(RefNotFoundError, match="no image for linux/amd64"):
        store.oci.find_image("app")
    assert store.oci.find_image(digest(entry))


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "dir"])
def test_pushed_with_the_same_bytes(
    multi: MultiImage, pulled: Repository, tmp_path: Path, transport: str
) -> None:
    target = f"{transport}:{tmp_path}/target{'' if transport == 'dir' else ':t'}"
    done = pulled.oci.push("app", target, preserve_digests=True)
    assert (str(done.manifest_digest), done.images) == (digest(multi.listed), 5)
    assert str(pull_index(pulled, target, "again").digest) == digest(multi.listed)


def test_no_blob_of_a_layout_is_lost(multi: MultiImage, pulled: Repository, tmp_path: Path) -> None:
    pulled.oci.push("app", f"oci:{tmp_path}/out:t")
    written, original = list_blobs(tmp_path / "out"), list_blobs(multi.layout.path)
    assert written.items() <= original.items()
    assert {digest(image)[7:] for image in multi.images.values()} <= written.keys()


def test_layers_that_are_compressed_again_change_the_index(
    multi: MultiImage, pulled: Repository, tmp_path: Path
) -> None:
    for entry in (Path(pulled.path) / "streams").iterdir():
        if entry.name.startswith("oci-blob-"):
            (entry.parent / os.readlink(entry)).unlink()
    with pytest.raises(CfsError, match="expected the blob"):
        pulled.oci.push("app", f"oci:{tmp_path}/out:t", preserve_digests=True)
    done = pulled.oci.push("app", f"oci:{tmp_path}/out:t")
    assert str(done.stored_digest) == digest(multi.listed) != str(done.manifest_digest)
    found = pull_index(pulled, f"oci:{tmp_path}/out:t", "again")
    assert found.digest == done.manifest_digest
    configs = {str(member.result.config_digest) for member in found.members}
    assert configs == {
        json.loads(list_blobs(multi.layout.path)[digest(image)[7:]])["config"]["digest"]
        for image in [*multi.images.values(), multi.attestation]
    }


def test_skopeo_copies_what_was_pushed(tmp_path: Path, store: Repository) -> None:
    require("skopeo")
    layout = Layout(tmp_path / "layout")
    entries = [add_image(layout, name) for name in ("amd64", "arm64")]
    layout.entries.clear()
    index = layout.add_index("t", entries)
    pull_index(store, source_of(layout))
    store.oci.push("app", f"dir:{tmp_path}/dir")
    copy = ["skopeo", "--insecure-policy", "copy", "--all"]
    ours, theirs = f"dir:{tmp_path}/dir", f"dir:{tmp_path}/theirs"
    subprocess.run([*copy, ours, f"oci:{tmp_path}/copy:t"], check=True, capture_output=True, timeout=120)
    assert digest(index)[7:] in list_blobs(tmp_path / "copy")
    subprocess.run([*copy, source_of(layout), theirs], check=True, capture_output=True, timeout=120)
    assert str(pull_index(store, theirs, "theirs").digest) == digest(index)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_copied_between_repositories(
    multi: MultiImage, pulled: Repository, tmp_path: Path, algorithm: Algorithm
) -> None:
    with make_repository(tmp_path / "other", algorithm):
        pass
    with Repository.open(tmp_path / "other") as other:
        cfsctl("--repo", other.path, "oci", "copy", "app", "--from", pulled.path, "--name", "copied")
        other.gc()
        assert other.oci.fsck(deep=True).is_ok
        done = other.oci.push("copied", f"oci:{tmp_path}/out:t", preserve_digests=True)
        assert str(done.manifest_digest) == digest(multi.listed)
        cfsctl("--repo", pulled.path, "copy", "app", other.path)
        assert names_of(other) == dict.fromkeys(["app", "copied"], digest(multi.listed))


def test_images_that_are_made_later_are_kept_by_the_index(multi: MultiImage, pulled: Repository) -> None:
    """A config's stream changes with the images that it names, and so does all that leads to it."""
    pull = ["oci", "pull", source_of(multi.layout, "one"), "one"]
    cfsctl("--repo", pulled.path, "--erofs-version", "2", *pull)
    pulled.oci.untag("one")
    pulled.gc()
    assert pulled.oci.fsck(deep=True).is_ok
    check_refs(pulled, multi)
    linked = pulled.oci.linked_images(pulled.oci.find_image(digest(multi.images["amd64"])))
    assert {image.is_version_2 for image in linked} == {False, True}


def check_refs(store: Repository, multi: MultiImage) -> None:
    """All that the index leads to is referred to as it is now."""
    with LowerRepository.open(store.path) as lower:
        index = open_index(lower, parse_digest(digest(multi.listed)))
        for listing in [index, *(listed.inner for listed in iter_listed(lower, index) if listed.inner)]:
            for descriptor in listing.entries:
                current = lower.streams.find(entry_name(descriptor))
                assert listing.document.refs[str(descriptor.digest)] == current


def test_what_another_program_has_written_is_kept_by_the_index(multi: MultiImage, pulled: Repository) -> None:
    """A program that knows no indexes leaves them behind with the former streams of manifests."""
    name = f"oci-manifest-{digest(multi.images['amd64'])}"
    link = Path(pulled.path) / "streams" / f"oci-index-{digest(multi.listed)}"
    before = os.readlink(link)
    pull = ["oci", "pull", source_of(multi.layout, "one"), "one"]
    cfsctl("--repo", pulled.path, "--erofs-version", "2", *pull)
    assert os.readlink(link) != before
    link.unlink()
    link.symlink_to(before)
    pulled.oci.untag("one")
    pulled.gc()
    assert (link.parent / name).exists()
    assert pulled.oci.fsck(deep=True).is_ok
    assert os.readlink(link) != before
    check_refs(pulled, multi)


def test_damage_below_an_index_is_found(multi: MultiImage, pulled: Repository) -> None:
    streams = Path(pulled.path) / "streams"
    (streams / f"oci-config-{config_of(multi, 'arm64')}").resolve().unlink()
    report = pulled.oci.fsck("app")
    (finding,) = report.images.findings
    assert digest(multi.images["arm64"]) in finding
    (streams / f"oci-index-{digest(multi.listed)}").resolve().unlink()
    assert any("index-read-failed" in found for found in pulled.oci.fsck().images.findings)


def config_of(multi: MultiImage, name: str) -> str:
    manifest = list_blobs(multi.layout.path)[digest(multi.images[name])[7:]]
    return str(json.loads(manifest)["config"]["digest"])


def test_tags_move_between_images_and_indexes(multi: MultiImage, pulled: Repository) -> None:
    pulled.oci.tag("app", "other")
    pulled.oci.pull(source_of(multi.layout, "one"), "other", keep=2)
    assert names_of(pulled) == {"app": digest(multi.listed), "other": digest(multi.images["amd64"])}
    assert digest(multi.listed) in {kept.target for kept in pulled.oci.history("other")}
    pulled.oci.roll_back("other")
    pulled.oci.rename("other", "third")
    assert names_of(pulled) == dict.fromkeys(["app", "third"], digest(multi.listed))


def test_a_single_image_is_no_index(multi: MultiImage, pulled: Repository) -> None:
    assert pulled.oci.pull_index(source_of(multi.layout, "one"), "one") is None
    assert names_of(pulled) == {"app": digest(multi.listed)}
    pull = ["oci", "pull", "--all-platforms", source_of(multi.layout, "one"), "one", "--json"]
    found = json.loads(cfsctl("--repo", pulled.path, *pull))
    assert found["manifest"] == digest(multi.images["amd64"])


def test_manifests_of_docker_are_converted_with_their_index(tmp_path: Path, store: Repository) -> None:
    layout = Layout(tmp_path / "layout")
    entry = add_image(layout, "amd64")
    data = list_blobs(layout.path)[digest(entry)[7:]]
    docker = data.replace(b"vnd.oci.image.manifest.v1+json", b"vnd.docker.distribution.manifest.v2+json")
    docker = docker.replace(b"vnd.oci.image.config.v1+json", b"vnd.docker.container.image.v1+json")
    described = layout.add_blob(docker, f"{DOCKER}.v2+json")
    listed = {**described, "platform": entry["platform"]}
    document = {"schemaVersion": 2, "mediaType": f"{DOCKER}.list.v2+json", "manifests": [listed]}
    layout.entries.clear()
    layout.add_entry(layout.add_blob(to_json(document), f"{DOCKER}.list.v2+json"), "t")
    found = pull_index(store, source_of(layout))
    assert [str(member.result.manifest_digest) for member in found.members] == [digest(entry)]
    stored = store.oci.inspect_index(found.digest).document
    assert digest_of(stored) == str(found.digest)
    assert json.loads(stored)["manifests"][0]["digest"] == digest(entry)


@pytest.mark.parametrize("depth", [7, 8])
def test_indexes_one_below_the_other(tmp_path: Path, store: Repository, depth: int) -> None:
    layout = Layout(tmp_path / "layout")
    entry = add_image(layout, "amd64")
    for _ in range(depth):
        entry = layout.add_index(None, [entry])
    layout.entries.clear()
    layout.add_index("t", [entry])
    if depth == 7:
        assert len(pull_index(store, source_of(layout)).members) == 1
    else:
        with pytest.raises(ManifestError, match="one below the other"):
            pull_index(store, source_of(layout))


def test_an_image_that_lacks_a_blob_names_nothing(
    multi: MultiImage, tmp_path: Path, store: Repository
) -> None:
    layout = Layout(tmp_path / "layout")
    entries = [add_image(layout, "amd64"), {**multi.images["arm64"]}]
    layout.entries.clear()
    layout.add_index("t", entries)
    with pytest.raises(RefNotFoundError, match=digest(multi.images["arm64"])):
        pull_index(store, source_of(layout))
    assert names_of(store) == {}


@pytest.mark.parametrize(
    "options", [["--plan"], ["--bootable"], ["--platform", "linux/arm64"], ["oci:other", "x"]], ids=" ".join
)
def test_what_does_not_go_with_all_platforms(tmp_path: Path, options: list[str]) -> None:
    done = run_cfsctl("--repo", tmp_path, "oci", "pull", "--all-platforms", "oci:x", "name", *options)
    assert done.returncode == 2
    assert "--all-platforms" in done.stderr
