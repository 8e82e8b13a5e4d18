"""Pulls of images that are made here: what is stored, what is skipped, and what goes wrong."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import zstandard

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import CfsError, ReceivedDigestError, RefNotFoundError
from cfsctl.kinds.registry import prepare_collection
from cfsctl.oci.digest import parse_digest
from cfsctl.oci.manifest import Platform
from cfsctl.oci.media_types import CONFIG, DOCKER_CONFIG, DOCKER_MANIFEST, INDEX, MANIFEST
from cfsctl.oci.pull import PullResult, pull
from cfsctl.oci.source import ImageNotFoundError
from cfsctl.oci.sources.opening import open_source
from cfsctl.oci.store.layer_writer import ImportCounts
from cfsctl.oci.store.names import TAGS
from cfsctl.oci.store.referrers import (
    add_referrer,
    list_referrers,
    remove_dangling,
    remove_referrer,
    remove_referrers,
)
from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.names.names import InvalidNameError
from tests.support.oci import (
    LAYER,
    Layout,
    Member,
    digest_of,
    directory,
    example_layers,
    file,
    hard_link,
    make_tar,
    to_json,
)
from tests.support.repositories import make_repository, object_file

if TYPE_CHECKING:
    from collections.abc import Iterator

AMD64 = Platform("linux", "amd64")
LARGE = make_tar([directory("usr"), file("usr/large", b"x" * 3_000_000), file("usr/other", b"y" * 70)])


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", Algorithm.SHA256) as made:
        yield made


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def pull_image(
    repository: Repository, reference: str, tag: str | None = "t", platform: Platform = AMD64
) -> PullResult:
    source = open_source(reference)
    try:
        return pull(repository, source, tag, platform=platform)
    finally:
        source.close()


def stream_ids(repository: Repository) -> dict[str, str]:
    return {
        stream.name.split(":")[0].removeprefix("oci-"): stream.object_id.hex()
        for stream in repository.streams.list_streams()
    }


class TestRecordedExample:
    """Section 14.1 of the specification: layers, streams and images made by hand."""

    def test_of_format_1(self, repository: Repository, layout: Layout) -> None:
        layout.add_image("t", example_layers())
        result = pull_image(repository, f"oci:{layout.path}:t")
        assert result.image is not None
        assert result.image.hex() == "2a0f0c2077f2b1c5dbb8a36d9881bbb39b22bbfbee2de72256d0c2272c2fe157"
        found = stream_ids(repository)
        assert found["config-sha256"] == "fa54619193a9d63ed5f184a2259ef0ee659096959be28faa71a6b154caa350ff"
        manifest = "6d16c1da4cea72bd35b2c05adf016f6d11cdac6d888f4e98e55467158b8fc5af"
        assert (found["manifest-sha256"], result.manifest_id.hex()) == (manifest, manifest)

    def test_of_both_formats(self, tmp_path: Path, layout: Layout) -> None:
        layout.add_image("t", example_layers())
        make_repository(tmp_path / "r", Algorithm.SHA256).close()
        with Repository.open(str(tmp_path / "r")) as repository:
            repository.erofs_versions = (FormatVersion.V1, FormatVersion.V2)
            pull_image(repository, f"oci:{layout.path}:t")
            found = stream_ids(repository)
        assert found["config-sha256"] == "bb3cc2dccdc7244ed902262b69d2749e8129c79507c536ce17044eb1d6d27347"
        assert found["manifest-sha256"] == "23ea948c5f5a401cd7553bddead9e886dd08f797617a46aae9d3abc671cdaa52"

    def test_of_sha512(self, tmp_path: Path, layout: Layout) -> None:
        layout.add_image("t", example_layers())
        with make_repository(tmp_path / "r") as repository:
            result = pull_image(repository, f"oci:{layout.path}:t")
            found = stream_ids(repository)
        assert result.image is not None
        assert result.image.hex().startswith("618345b2c1a4819658edbf6a0f8e5065699fce4c802a0f12")
        assert found["config-sha256"].startswith("b410b34368c0eeb0b2a71fc8a3559d53c85d171f4de3")
        assert found["manifest-sha256"].startswith("0cc5317d366a7cb6c4344370da948582b482b1c3f690d7")

    def test_a_format_that_is_added_later_keeps_the_other(self, tmp_path: Path, layout: Layout) -> None:
        layout.add_image("t", example_layers())
        make_repository(tmp_path / "r", Algorithm.SHA256).close()
        for version in (FormatVersion.V2, FormatVersion.V1):
            with Repository.open(str(tmp_path / "r"), erofs_version=version) as repository:
                pull_image(repository, f"oci:{layout.path}:t")
        with Repository.open(str(tmp_path / "r")) as repository:
            found = stream_ids(repository)
        assert found["config-sha256"] == "bb3cc2dccdc7244ed902262b69d2749e8129c79507c536ce17044eb1d6d27347"


def test_a_first_pull_leaves_no_garbage(repository: Repository, layout: Layout) -> None:
    layout.add_image("t", example_layers())
    pull_image(repository, f"oci:{layout.path}:t")
    assert check_repository(repository, deep=True).is_ok
    assert collect_garbage(repository).objects_removed == 0
    repository.streams.remove_ref(TAGS.ref("t"))
    collect_garbage(repository)
    assert repository.streams.list_streams() == []


def test_a_second_pull_reads_no_layer(repository: Repository, layout: Layout) -> None:
    layout.add_image("t", example_layers())
    first = pull_image(repository, f"oci:{layout.path}:t")
    before = stream_ids(repository)
    for blob in (layout.path / "blobs" / "sha256").iterdir():
        if blob.stat().st_size > 1000:
            blob.unlink()
    second = pull_image(repository, f"oci:{layout.path}:t", "again")
    assert second.manifest_id == first.manifest_id
    assert second.counts == ImportCounts()
    assert stream_ids(repository) == before
    assert [tag.name for tag in TAGS.list(repository.streams)] == ["again", "t"]


def test_counts(repository: Repository, layout: Layout) -> None:
    layout.add_image("t", example_layers())
    counts = pull_image(repository, f"oci:{layout.path}:t").counts
    assert (counts.new, counts.present, counts.new_bytes) == (2, 0, 165)
    assert counts.inline_bytes == 2 * 10240 - 165


def test_a_missing_object_is_fetched_again(repository: Repository, layout: Layout) -> None:
    layout.add_image("t", [LARGE])
    pull_image(repository, f"oci:{layout.path}:t")
    name = next(s.name for s in repository.streams.list_streams() if s.name.startswith("oci-layer"))
    with repository.streams.open(name) as reader:
        digits = reader.object_refs[0].hex()
    object_file(repository, ObjectID(bytes.fromhex(digits))).unlink()
    assert pull_image(repository, f"oci:{layout.path}:t").counts.new == 1
    assert check_repository(repository, deep=True).is_ok


def test_complete_layers_of_a_pull_that_failed_are_kept(repository: Repository, layout: Layout) -> None:
    small = make_tar([file("usr/small", b"s" * 100)])
    layout.add_image("t", [LARGE, small])
    blobs = layout.path / "blobs" / "sha256"
    wrong = blobs / digest_of(small).removeprefix("sha256:")
    wrong.write_bytes(small.replace(b"ssss", b"xxxx"))
    source = open_source(f"oci:{layout.path}:t")
    with pytest.raises(ReceivedDigestError):
        pull(repository, source, platform=AMD64, workers=0)
    assert [s.name for s in repository.streams.list_streams()] == [f"oci-layer-{digest_of(LARGE)}"]
    wrong.write_bytes(small)
    (blobs / digest_of(LARGE).removeprefix("sha256:")).unlink()
    assert pull(repository, source, platform=AMD64, workers=0).counts.new == 1
    source.close()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_several_layers_of_some_size(repository: Repository, layout: Layout, kind: str) -> None:
    layers = [
        make_tar([directory("usr"), *(file(f"usr/{n}-{m}", b"%d" % m * 90_000) for m in range(20))])
        for n in range(5)
    ]
    pack = gzip.compress if kind == "gzip" else zstandard.ZstdCompressor().compress
    packed = [(pack(layer), f"{LAYER}+{kind}") for layer in layers]
    layout.add_image("t", layers, packed=packed)
    counts = pull_image(repository, f"oci:{layout.path}:t").counts
    assert (counts.new, counts.present) == (20, 80)
    assert check_repository(repository, deep=True).is_ok


@pytest.mark.parametrize("tag", ["", "@x", "x" * 256, "/" * 90, "."])
def test_a_tag_that_cannot_be_one_is_refused_first(repository: Repository, layout: Layout, tag: str) -> None:
    layout.add_image("t", [LARGE])
    with pytest.raises(InvalidNameError):
        pull_image(repository, f"oci:{layout.path}:t", tag)
    assert repository.streams.list_streams() == []


def test_two_manifests_of_one_config_name_the_same_images(tmp_path: Path, layout: Layout) -> None:
    packed = [[(LARGE, LAYER)], [(gzip.compress(LARGE), f"{LAYER}+gzip")]]
    for tag, blobs in zip(("plain", "packed"), packed, strict=True):
        layout.add_image(tag, [LARGE], packed=blobs)
    make_repository(tmp_path / "r", Algorithm.SHA256).close()
    results = []
    for tag, version in (("plain", FormatVersion.V1), ("packed", FormatVersion.V2)):
        with Repository.open(str(tmp_path / "r"), erofs_version=version) as repository:
            results.append(pull_image(repository, f"oci:{layout.path}:{tag}", tag))
    assert results[0].config_digest == results[1].config_digest
    with Repository.open(str(tmp_path / "r")) as repository:
        ids = set()
        for result in results:
            with repository.streams.open(f"oci-manifest-{result.manifest_digest}") as reader:
                ids.add(reader.named_refs[f"config:{result.config_digest}"])
        assert ids == {repository.streams.find(f"oci-config-{results[0].config_digest}")}


class TestLayouts:
    def test_a_digest_chooses_among_manifests(self, repository: Repository, layout: Layout) -> None:
        layout.add_image("t", [LARGE])
        digest = layout.add_image("t", example_layers())
        result = pull_image(repository, f"oci:{layout.path}@{digest}")
        assert result.manifest_digest == parse_digest(digest)

    def test_indexes_may_be_nested(self, repository: Repository, layout: Layout) -> None:
        digest = layout.add_image(None, [LARGE], platform={"os": "linux", "architecture": "amd64"})
        entries, layout.entries = layout.entries, []
        for _ in range(3):
            data = to_json({"schemaVersion": 2, "manifests": entries})
            entries = [layout.add_blob(data, INDEX)]
        layout.add_entry(entries[0], "t")
        assert str(pull_image(repository, f"oci:{layout.path}:t").manifest_digest) == digest

    def test_indexes_that_are_nested_too_deeply_are_refused(
        self, repository: Repository, layout: Layout
    ) -> None:
        layout.add_image(None, [LARGE])
        entries, layout.entries = layout.entries, []
        for _ in range(9):
            entries = [layout.add_blob(to_json({"schemaVersion": 2, "manifests": entries}), INDEX)]
        layout.add_entry(entries[0], "t")
        with pytest.raises(CfsError, match="nested too deeply"):
            pull_image(repository, f"oci:{layout.path}:t")

    def test_the_variant_counts_where_it_is_asked_for(self, repository: Repository, layout: Layout) -> None:
        found = {
            variant: layout.add_image(
                "t",
                [LARGE],
                config={"variant": variant},
                platform={"os": "linux", "architecture": "arm", "variant": variant},
            )
            for variant in ("v6", "v7")
        }
        result = pull_image(repository, f"oci:{layout.path}:t", platform=Platform("linux", "arm", "v7"))
        assert str(result.manifest_digest) == found["v7"]
        with pytest.raises(ImageNotFoundError, match="available: linux/arm/v6, linux/arm/v7"):
            pull_image(repository, f"oci:{layout.path}:t", platform=Platform("linux", "arm", "v8"))

    def test_an_artifact_alone_needs_no_platform(self, repository: Repository, layout: Layout) -> None:
        config = layout.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
        digest = layout.add_manifest("t", config, [layout.add_blob(b"small", "text/plain")])
        result = pull_image(repository, f"oci:{layout.path}:t")
        assert str(result.manifest_digest) == digest
        assert result.image is None
        pieces: list[bytes] = []
        repository.streams.cat(f"oci-layer-{digest_of(b'small')}", lambda data: pieces.append(bytes(data)))
        assert b"".join(pieces) == b"small"

    def test_images_of_docker_are_converted(self, repository: Repository, layout: Layout) -> None:
        layout.add_image(None, [LARGE])
        layout.entries = []
        config = to_json(
            {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [digest_of(LARGE)]},
            }
        )
        layer = layout.add_blob(gzip.compress(LARGE), "application/vnd.docker.image.rootfs.diff.tar.gzip")
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": layout.add_blob(config, DOCKER_CONFIG),
            "layers": [layer],
        }
        layout.add_entry(layout.add_blob(to_json(document), DOCKER_MANIFEST), "t")
        result = pull_image(repository, f"oci:{layout.path}:t")
        assert str(result.config_digest) == digest_of(config)
        assert result.image is not None
        with repository.streams.open(f"oci-manifest-{result.manifest_digest}") as reader:
            assert f"config:{result.config_digest}" in reader.named_refs

    @pytest.mark.parametrize("name", ["index.json", "blobs"])
    def test_links_are_not_followed(self, repository: Repository, layout: Layout, name: str) -> None:
        layout.add_image("t", [LARGE])
        (layout.path / name).rename(layout.path / "elsewhere")
        (layout.path / name).symlink_to("elsewhere")
        with pytest.raises((CfsError, OSError)):
            pull_image(repository, f"oci:{layout.path}:t")

    def test_a_layer_that_is_no_archive_is_refused_early(
        self, repository: Repository, layout: Layout
    ) -> None:
        layout.add_image("t", [LARGE], packed=[(LARGE, "text/plain")])
        with pytest.raises(CfsError, match="expected a tar layer, found text/plain"):
            pull_image(repository, f"oci:{layout.path}:t")
        assert repository.streams.list_streams() == []


class TestDirectories:
    def make(self, path: Path, media_type: str = MANIFEST, wrong: bytes = b"") -> str:
        path.mkdir()
        config = to_json(
            {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [digest_of(LARGE)]},
            }
        )
        blobs = []
        for data, kind in ((config, CONFIG), (LARGE, LAYER)):
            digest = digest_of(data)
            (path / digest.removeprefix("sha256:")).write_bytes(wrong or data)
            blobs.append({"mediaType": kind, "digest": digest, "size": len(data)})
        document = {"schemaVersion": 2, "mediaType": media_type, "config": blobs[0], "layers": blobs[1:]}
        (path / "manifest.json").write_bytes(to_json(document))
        return digest_of(to_json(document))

    def test_an_image_is_pulled(self, repository: Repository, tmp_path: Path) -> None:
        digest = self.make(tmp_path / "image")
        assert str(pull_image(repository, f"dir:{tmp_path}/image").manifest_digest) == digest

    def test_digests_are_checked(self, repository: Repository, tmp_path: Path) -> None:
        self.make(tmp_path / "image", wrong=b"x" * len(LARGE))
        with pytest.raises(CfsError, match="config"):
            pull_image(repository, f"dir:{tmp_path}/image")

    def test_there_may_be_none(self, repository: Repository, tmp_path: Path) -> None:
        with pytest.raises(ImageNotFoundError, match="No such file"):
            pull_image(repository, f"dir:{tmp_path}/image")


class TestArchives:
    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
    def test_large_files_are_read_in_place(
        self, repository: Repository, layout: Layout, tmp_path: Path, mode: Literal["w", "w:gz", "w:xz"]
    ) -> None:
        digest = layout.add_image("t", [LARGE, example_layers()[0]])
        with tarfile.open(tmp_path / "image.tar", mode) as tar:
            tar.add(layout.path, ".")
        result = pull_image(repository, f"oci-archive:{tmp_path}/image.tar:t")
        assert str(result.manifest_digest) == digest

    def test_a_fifo_is_refused(self, repository: Repository, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(CfsError, match="expected a regular file"):
            pull_image(repository, f"oci-archive:{tmp_path}/fifo")

    def test_every_cut_is_noticed(self, repository: Repository, layout: Layout, tmp_path: Path) -> None:
        layout.add_image("t", [example_layers()[0]])
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(layout.path, ".")
        data = buffer.getvalue().rstrip(b"\0")
        for size in range(300, len(data), 1777):
            (tmp_path / "cut.tar").write_bytes(data[:size])
            with pytest.raises((CfsError, ReceivedDigestError)):
                pull_image(repository, f"oci-archive:{tmp_path}/cut.tar:t")


def test_referrers(repository: Repository, layout: Layout) -> None:
    layout.add_image("t", [LARGE])
    config = layout.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
    layout.add_manifest(
        "a", config, [layout.add_blob(b"signature", "text/plain")], {"os": "linux", "architecture": "amd64"}
    )
    subject = pull_image(repository, f"oci:{layout.path}:t").manifest_digest
    artifact = pull_image(repository, f"oci:{layout.path}:a", "a").manifest_digest
    assert list_referrers(repository, subject) == []
    add_referrer(repository, subject, artifact)
    assert list_referrers(repository, subject) == [artifact]
    link = Path(repository.path) / "streams" / "refs" / "oci-referrers" / str(subject) / str(artifact)
    assert str(link.readlink()) == f"../../../oci-manifest-{artifact}"
    repository.streams.remove_ref(TAGS.ref("a"))
    collect_garbage(repository)
    assert repository.streams.find(f"oci-manifest-{artifact}") is not None
    assert remove_dangling(repository) == 0
    repository.streams.remove_ref(TAGS.ref("t"))
    collect_garbage(repository)
    collect_garbage(repository, prepare=prepare_collection)
    assert repository.streams.find(f"oci-manifest-{artifact}") is None
    assert remove_dangling(repository) == 0
    assert remove_referrers(repository, subject) == []
    with pytest.raises(RefNotFoundError):
        remove_referrer(repository, subject, artifact)


def test_a_hard_link_to_a_whiteout_device_is_told(repository: Repository, layout: Layout) -> None:
    device: Member = ("usr/null", tarfile.CHRTYPE, 0o600, 0, b"", {})
    layout.add_image("t", [make_tar([directory("usr"), device, hard_link("usr/again", "usr/null")])])
    with pytest.raises(CfsError) as found:
        pull_image(repository, f"oci:{layout.path}:t")
    assert "/usr/again: a whiteout with 2 names" in str(found.value)
