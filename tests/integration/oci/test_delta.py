"""Deltas made of stored images: pulled, they give the new image where the old one is stored."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING

import pytest

import cfsctl
from cfsctl.fsverity.merkle import compute_digest
from tests.support import schemas
from tests.support.oci import Layout, digest_of, directory, file, make_tar
from tests.support.programs import run_cfsctl
from tests.support.repositories import flip_bit, object_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RANDOM = random.Random(8)
LIBRARY = RANDOM.randbytes(300_000)
LARGE = RANDOM.randbytes(2_000_000)
BASE = make_tar([directory("usr"), directory("run"), file("usr/shared", b"shared" * 100)])
OLD = make_tar(
    [
        directory("usr"),
        file("usr/same", b"same" * 1000),
        file("usr/libx.so.1.2", LIBRARY),
        file("usr/large", LARGE),
        file("usr/text", b"old text\n" * 9),
        file("usr/\udcff", b"not a name in UTF-8" * 100),
        directory("run"),
        file("run/gone", b"in no image" * 100),
    ]
)
NEW = make_tar(
    [
        directory("usr"),
        file("usr/renamed", b"same" * 1000),
        file("usr/libx.so.1.10", LIBRARY[:5000] + b"changed" + LIBRARY[5000:]),
        file("usr/large", LARGE[:700_000] + b"changed" + LARGE[900_000:]),
        file("usr/text", b"new text\n" * 9),
        file("usr/foreign", RANDOM.randbytes(5000)),
        file("usr/bytes", b"not a name in UTF-8" * 100),
        file("usr/was-in-run", b"in no image" * 100),
        file("usr/empty"),
    ]
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "layout")
    made.add_image("old", [BASE, OLD])
    made.add_image("new", [BASE, NEW, BASE])
    return made


@pytest.fixture
def repository(tmp_path: Path, layout: Layout) -> Iterator[cfsctl.Repository]:
    with cfsctl.Repository.init(tmp_path / "r", insecure=True) as made:
        for tag in ("old", "new"):
            made.oci.pull(f"oci:{layout.path}:{tag}", tag)
        yield made


def read_manifest(path: Path) -> dict[str, list[dict[str, object]]]:
    index = json.loads((path / "index.json").read_bytes())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    found: dict[str, list[dict[str, object]]] = json.loads((path / "blobs" / "sha256" / digest).read_bytes())
    return found


def damage(repository: cfsctl.Repository, content: bytes) -> None:
    """Flip a bit of the object that is a content."""
    store = repository.oci._store
    flip_bit(object_file(store, compute_digest(content, store.algorithm)), 999)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("frame_bytes", [1 << 24, 0], ids=["frames", "blocks"])
def test_a_delta_gives_the_new_image(
    tmp_path: Path,
    layout: Layout,
    repository: cfsctl.Repository,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    frame_bytes: int,
) -> None:
    monkeypatch.setattr("cfsctl.oci.delta.make._MAX_FRAME_PREFIX_BYTES", frame_bytes)
    result = repository.oci.make_delta("old", "new", f"oci:{tmp_path}/delta:d")
    assert (result.patches, result.reused, result.layer_bytes) == (1, 2, len(NEW))
    assert result.patch_bytes < 20_000  # the foreign file, and little else
    patch = read_manifest(tmp_path / "delta")["layers"][2]
    blob = tmp_path / "delta" / "blobs" / str(patch["digest"]).replace(":", "/")
    assert blob.read_bytes()[:8] == (b"tardf2\n\0" if frame_bytes else b"tardf1\n\0")

    with cfsctl.Repository.init(
        tmp_path / "other", insecure=True, erofs_version=cfsctl.FormatVersion(version)
    ) as other:
        other.oci.pull(f"oci:{layout.path}:old", "old")
        pulled = other.oci.pull(f"oci:{tmp_path}/delta:d", "new")
        assert pulled.manifest_digest == repository.oci.inspect("new").digest
        assert other.oci.fsck(deep=True).is_ok
        assert b"".join(other.oci.dump("new")) == b"".join(repository.oci.dump("new"))


def test_the_same_images_make_the_same_delta(tmp_path: Path, repository: cfsctl.Repository) -> None:
    made = [repository.oci.make_delta("old", "new", f"oci-archive:{tmp_path}/{name}") for name in ("a", "b")]
    assert made[0] == made[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_delta_to_the_same_image_has_no_patches(tmp_path: Path, repository: cfsctl.Repository) -> None:
    assert repository.oci.make_delta("new", "new", f"oci:{tmp_path}/delta").patches == 0
    assert repository.oci.pull(f"oci:{tmp_path}/delta", "again").counts.new == 0


def test_layers_that_unpack_to_the_same_share_a_patch(tmp_path: Path, repository: cfsctl.Repository) -> None:
    other = Layout(tmp_path / "two")
    packed = [
        (gzip.compress(NEW, level, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
        for level in (1, 9)
    ]
    other.add_image("two", [NEW, NEW], packed=packed)
    repository.oci.pull(f"oci:{other.path}:two", "two")
    assert repository.oci.make_delta("old", "two", f"oci:{tmp_path}/delta").patches == 1
    assert [layer["digest"] for layer in read_manifest(tmp_path / "delta")["layers"][2:]] == [
        read_manifest(tmp_path / "delta")["layers"][2]["digest"]
    ] * 2


def test_a_damaged_base_file_is_not_used(
    tmp_path: Path, layout: Layout, repository: cfsctl.Repository
) -> None:
    damage(repository, LIBRARY)
    repository.oci.make_delta("old", "new", f"oci:{tmp_path}/delta")
    with cfsctl.Repository.init(tmp_path / "other", insecure=True) as other:
        other.oci.pull(f"oci:{layout.path}:old", "old")
        other.oci.pull(f"oci:{tmp_path}/delta", "new")


def test_a_damaged_new_layer_is_refused(tmp_path: Path, repository: cfsctl.Repository) -> None:
    damage(repository, LARGE[:700_000] + b"changed" + LARGE[900_000:])
    with pytest.raises(cfsctl.IntegrityError, match="incorrect checksum"):
        repository.oci.make_delta("old", "new", f"oci:{tmp_path}/delta")
    assert not (tmp_path / "delta" / "index.json").exists()


def test_artifacts_have_no_deltas(tmp_path: Path, layout: Layout, repository: cfsctl.Repository) -> None:
    empty = layout.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
    layout.add_manifest("artifact", empty, [], {"os": "linux", "architecture": "amd64"})
    repository.oci.pull(
        f"oci:{layout.path}:artifact", "artifact", cfsctl.OciPullOptions(platform="linux/amd64")
    )
    for images in (("artifact", "new"), ("old", "artifact")):
        with pytest.raises(cfsctl.RepositoryError, match="artifact"):
            repository.oci.make_delta(*images, f"oci:{tmp_path}/delta")


def test_the_command(tmp_path: Path, repository: cfsctl.Repository) -> None:
    done = run_cfsctl("--repo", tmp_path / "r", "oci", "delta", "old", "new", f"oci:{tmp_path}/a:d")
    manifest, patches = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert patches.endswith(f"for {len(NEW)} bytes of layers, 2 layers reused")
    done = run_cfsctl("--repo", tmp_path / "r", "oci", "delta", "old", "new", f"oci:{tmp_path}/b:d", "--json")
    found = json.loads(done.stdout)
    schemas.check(found, "oci-delta")
    assert manifest == f"manifest {found['manifest']}"
    config = digest_of(repository.oci.inspect("old").config)
    assert found["source_config"] == config
    done = run_cfsctl("--repo", tmp_path / "r", "oci", "delta", "old", "nwe", f"oci:{tmp_path}/c")
    assert done.returncode == 17
    assert not (tmp_path / "c").exists()
