"""What the library does with OCI images."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

import cfsctl

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def built(repository: cfsctl.Repository, tree: Path) -> cfsctl.OciPullResult:
    return repository.oci.build(str(tree), "site", cfsctl.OciBuildOptions(source_date_s=1)).pulled


def test_an_image_is_built_listed_and_inspected(
    repository: cfsctl.Repository, built: cfsctl.OciPullResult
) -> None:
    assert built.tag == "site"
    (listed,) = repository.oci.images()
    assert (listed.name, listed.digest, listed.layer_count) == ("site", built.manifest_digest, 1)
    inspected = repository.oci.inspect("site")
    assert inspected.digest == built.manifest_digest
    assert hashlib.sha256(inspected.config).hexdigest() == built.config_digest.encoded
    assert str(inspected.image) == str(built.image) == str(repository.oci.find_image("site"))
    assert str(inspected.manifest_stream) == str(built.manifest_id)
    assert inspected.boot_image is None


def test_ids_of_trees_are_those_of_images(repository: cfsctl.Repository, built: cfsctl.OciPullResult) -> None:
    assert repository.oci.compute_id("site") == built.image
    by_digest = cfsctl.OciTreeOptions(config_stream=str(repository.oci.inspect("site").config_stream))
    assert repository.oci.compute_id(f"@{built.config_digest}", by_digest) == built.image
    assert b"".join(repository.oci.dump("site")).count(b"\n/usr/share/") == 60
    wrong = cfsctl.OciTreeOptions(config_stream=str(built.image))
    with pytest.raises(cfsctl.IntegrityError):
        repository.oci.compute_id(f"@{built.config_digest}", wrong)


def test_tags_are_moved_and_removed(repository: cfsctl.Repository, built: cfsctl.OciPullResult) -> None:
    assert repository.oci.tag("site", "other").new == str(built.manifest_digest)
    repository.oci.untag("site")
    assert [image.name for image in repository.oci.images()] == ["other"]
    with pytest.raises(cfsctl.RefNotFoundError):
        repository.oci.untag("site")
    with pytest.raises(cfsctl.RefNotFoundError):
        repository.oci.inspect("site")
    with pytest.raises(cfsctl.InvalidNameError):
        repository.oci.tag("other", "@")


def test_an_image_goes_out_and_into_another_repository(
    repository: cfsctl.Repository, built: cfsctl.OciPullResult, tmp_path: Path
) -> None:
    pushed = repository.oci.push("site", f"oci:{tmp_path / 'layout'}:site", preserve_digests=False)
    assert pushed.stored_digest == built.manifest_digest
    with cfsctl.Repository.init(tmp_path / "second", insecure=True) as second:
        events: list[cfsctl.Event] = []
        pulled = second.oci.pull(f"oci:{tmp_path / 'layout'}:site", "site", progress=events.append)
        assert pulled.image == built.image
        assert pulled.config_digest == built.config_digest
        assert any(isinstance(event, cfsctl.Done) for event in events)
        (linked,) = second.oci.linked_images(repository.oci.find_image("site"))
        assert linked.image_id == built.image
        assert second.oci.fsck(deep=True).is_ok
        with pytest.raises(cfsctl.RefNotFoundError):
            second.oci.pull(f"oci:{tmp_path / 'layout'}:nothing")


def test_layers_are_read_and_imported(
    repository: cfsctl.Repository, built: cfsctl.OciPullResult, tmp_path: Path
) -> None:
    layer = repository.oci.layer(diff_id(repository))
    pieces: list[bytes] = []
    layer.read(lambda piece: pieces.append(bytes(piece)))
    assert layer.measure().size == sum(map(len, pieces))
    assert repository.oci.find_layer(str(layer.digest)) == layer.stream_id
    with cfsctl.Repository.init(tmp_path / "second", insecure=True) as second:
        assert second.oci.find_layer(str(layer.digest)) is None
        assert second.oci.import_layer(layer.digest, pieces, "kept") == layer.stream_id
        with pytest.raises(cfsctl.IntegrityError):
            second.oci.import_layer(built.manifest_digest, pieces)
        with pytest.raises(cfsctl.RefNotFoundError):
            second.oci.layer(str(built.manifest_digest))


def diff_id(repository: cfsctl.Repository) -> str:
    digest: str = json.loads(repository.oci.inspect("site").config)["rootfs"]["diff_ids"][0]
    return digest


@pytest.mark.usefixtures("built")
def test_damage_is_reported(repository: cfsctl.Repository) -> None:
    report = repository.oci.fsck("nothing")
    assert not report.is_ok
    assert report.repository.is_ok
    assert (report.images.checked, report.images.corrupted) == (1, 1)


def test_options_are_checked_when_they_are_made() -> None:
    with pytest.raises(ValueError, match="needs bootable"):
        cfsctl.OciPullOptions(expected_boot_image="ab")
    with pytest.raises(cfsctl.FormatError, match="expected os/architecture"):
        cfsctl.OciPullOptions(platform="linux")
    with pytest.raises(cfsctl.FormatError, match="expected os/architecture"):
        cfsctl.OciBuildOptions(platform="")
    with pytest.raises(ValueError, match="lzma"):
        cfsctl.OciBuildOptions(compression="lzma")


@pytest.mark.usefixtures("built")
def test_a_closed_repository_has_no_images(repository: cfsctl.Repository) -> None:
    images = repository.oci
    repository.close()
    with pytest.raises(ValueError, match="is closed"):
        images.inspect("site")
    with pytest.raises(ValueError, match="is closed"):
        list(images.images())


def test_images_that_cannot_be_read_are_told_when_one_is_looked_for(
    repository: cfsctl.Repository, built: cfsctl.OciPullResult
) -> None:
    store = repository.oci._store
    config = repository.oci.inspect("site").config_stream
    name = f"oci-manifest-sha256:{'0' * 64}"
    store.streams.link(name, config)
    events: list[cfsctl.Event] = []
    assert built.image is not None
    (linked,) = repository.oci.linked_images(cfsctl.ObjectID(built.image), progress=events.append)
    assert linked.image_id == built.image
    assert [event for event in events if isinstance(event, cfsctl.Message) and "0" * 64 in event.text]
