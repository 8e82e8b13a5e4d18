"""Copies of images and artifacts between repositories."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError, IntegrityError
from cfsctl.kinds.checks import content_checks
from cfsctl.kinds.copying import copy_by_name
from cfsctl.kinds.repair import open_repair_source
from cfsctl.linux.capabilities import CAP_DAC_READ_SEARCH, has_capability
from cfsctl.oci.copy import ZeroCopyError, copy_image
from cfsctl.oci.pull import PullResult, pull
from cfsctl.oci.sources.opening import open_source
from cfsctl.oci.store.images import OciNotFoundError, open_image
from cfsctl.oci.store.layer_writer import ImportCounts
from cfsctl.oci.store.names import TAGS
from cfsctl.progress import silent
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.repair.repair import repair_repository
from tests.support import schemas
from tests.support.oci import LAYER, Layout, digest_of, directory, example_layers, file, make_tar
from tests.support.programs import run_cfsctl
from tests.support.repositories import flip_bit, make_repository, object_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.repository import Repository

LARGE = make_tar([directory("usr"), file("usr/large", b"x" * 3_000_000)])
LAYERS = (*example_layers(), LARGE)
EMPTY = "application/vnd.oci.empty.v1+json"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "source", Algorithm.SHA256) as made:
        yield made


@pytest.fixture(params=[Algorithm.SHA256, Algorithm.SHA512], ids=["same hash", "other hash"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "target", request.param) as made:
        yield made


@pytest.fixture
def alike(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "alike", Algorithm.SHA256) as made:
        yield made


def store(repository: Repository, path: Path, *, bootable: bool = False, keep: bool = False) -> PullResult:
    layout = Layout(path)
    packed = [(gzip.compress(layer, 1, mtime=0), f"{LAYER}+gzip") for layer in LAYERS]
    layout.add_image("t", LAYERS, packed=packed)
    return pull_from(repository, layout, bootable=bootable, keep=keep)


def pull_from(
    repository: Repository, layout: Layout, *, bootable: bool = False, keep: bool = False
) -> PullResult:
    opened = open_source(f"oci:{layout.path}:t")
    try:
        return pull(repository, opened, "image", bootable=bootable, keep_compressed=keep)
    finally:
        opened.close()


def store_artifact(repository: Repository, path: Path, size: int) -> PullResult:
    layout = Layout(path)
    config = layout.add_blob(b"{}", EMPTY)
    layout.add_manifest("t", config, [layout.add_blob(b"b" * size, "text/plain")])
    return pull_from(repository, layout)


def test_a_copy_is_as_if_it_was_pulled(tmp_path: Path, source: Repository, target: Repository) -> None:
    original = store(source, tmp_path / "layout")
    copied = copy_image(source, target, "image", "copy")
    with make_repository(tmp_path / "expected", target.algorithm) as expected:
        pulled = store(expected, tmp_path / "again")
    assert copied.manifest_digest == original.manifest_digest
    assert (copied.manifest_id, copied.config_id, copied.image) == (
        pulled.manifest_id,
        pulled.config_id,
        pulled.image,
    )
    assert copied.counts[:4] == original.counts[:4]
    assert [tag.name for tag in TAGS.list(target.streams)] == ["copy"]
    assert check_repository(target, deep=True, content_checks=content_checks(target)).is_ok


def test_a_second_copy_reads_no_layer(tmp_path: Path, source: Repository, target: Repository) -> None:
    store(source, tmp_path / "layout")
    first = copy_image(source, target, "image", "one")
    for objects in Path(source.path, "objects").glob("??/*"):
        if objects.stat().st_size > 1_000_000:
            objects.unlink()
    second = copy_image(source, target, "image", "two")
    assert second.counts == ImportCounts()
    assert second.manifest_id == first.manifest_id


def test_without_a_name_there_is_no_tag(tmp_path: Path, source: Repository, target: Repository) -> None:
    original = store(source, tmp_path / "layout")
    copy_image(source, target, f"@{original.manifest_digest}")
    assert not [*TAGS.list(target.streams)]
    assert open_image(target, original.manifest_digest).digest == original.manifest_digest


@pytest.mark.parametrize("size", [0, 1, 64, 65, 2_000_000])
def test_artifacts_stay_as_they_are(
    tmp_path: Path, source: Repository, target: Repository, size: int
) -> None:
    original = store_artifact(source, tmp_path / "layout", size)
    copied = copy_image(source, target, "image", "copy")
    assert copied.manifest_digest == original.manifest_digest
    assert copied.image is None
    if source.algorithm is target.algorithm:
        assert copied.manifest_id == original.manifest_id
    assert check_repository(target, deep=True, content_checks=content_checks(target)).is_ok


def test_kept_blobs_are_copied(tmp_path: Path, source: Repository, target: Repository) -> None:
    store(source, tmp_path / "layout", keep=True)
    copy_image(source, target, "image", "copy")
    names = [stream.name for stream in source.streams.list_streams() if "blob" in stream.name]
    assert len(names) == len(LAYERS)
    assert [stream.name for stream in target.streams.list_streams() if "blob" in stream.name] == names


@pytest.mark.skipif(not has_capability(CAP_DAC_READ_SEARCH), reason="needs CAP_DAC_READ_SEARCH")
def test_zerocopy_shares_objects(tmp_path: Path, source: Repository, alike: Repository) -> None:
    original = store(source, tmp_path / "layout")
    counts = copy_image(source, alike, "image", "copy", zerocopy=True).counts
    assert counts.new == original.counts.new
    assert counts.reflinked + counts.hardlinked == counts.new
    assert counts.reflinked_bytes + counts.hardlinked_bytes == counts.new_bytes
    assert check_repository(alike, deep=True).is_ok


def test_zerocopy_needs_the_same_hash(tmp_path: Path, source: Repository) -> None:
    store(source, tmp_path / "layout")
    message = "algorithms; source uses Sha256 but destination uses Sha512"
    with (
        make_repository(tmp_path / "other", Algorithm.SHA512) as other,
        pytest.raises(ZeroCopyError, match=message),
    ):
        copy_image(source, other, "image", zerocopy=True)


def test_what_is_not_there(source: Repository, target: Repository) -> None:
    for name in ("image", "@sha256:" + "0" * 64):
        with pytest.raises(OciNotFoundError):
            copy_image(source, target, name, "copy")


def test_damage_is_not_copied(tmp_path: Path, source: Repository, target: Repository) -> None:
    """A bit is wrong in a large file, and the file has no fs-verity."""
    store(source, tmp_path / "layout")
    for path in Path(source.path, "objects").glob("??/*"):
        if path.stat().st_size == 3_000_000:
            flip_bit(path, 1_000_000)
    with pytest.raises(CfsError):
        copy_image(source, target, "image", "copy")
    assert not [*TAGS.list(target.streams)]
    assert f"oci-layer-{digest_of(LARGE)}" not in [s.name for s in target.streams.list_streams()]


class TestBootImages:
    def store(self, repository: Repository, layouts: Path) -> PullResult:
        opened = open_source(f"oci:{layouts}/boot-plain:t")
        try:
            return pull(repository, opened, "image", bootable=True)
        finally:
            opened.close()

    def test_they_are_made_too(self, layouts: Path, source: Repository, target: Repository) -> None:
        original = self.store(source, layouts)
        copied = copy_image(source, target, "image", "copy")
        assert copied.boot_image is not None
        if source.algorithm is target.algorithm:
            assert (copied.boot_image, copied.manifest_id) == (original.boot_image, original.manifest_id)

    def test_one_of_another_filter_is_found(
        self, layouts: Path, source: Repository, alike: Repository
    ) -> None:
        from cfsctl.oci.boot_images import BootSearch  # to list what can be made
        from cfsctl.oci.store.images import config_of

        original = self.store(source, layouts)
        layers = config_of(open_image(source, original.manifest_digest)).layers()
        assert original.boot_image is not None
        search = BootSearch(source, layers, original.boot_image)
        others = {match.image_id for match, _ in search._iter_images(keeps_nanoseconds=True)}
        wanted = sorted(others - {original.boot_image})
        for image_id in wanted:
            opened = open_source(f"oci:{layouts}/boot-plain:t")
            pull(source, opened, "image", bootable=True, expected=image_id)
            opened.close()
        copy_image(source, alike, "image", "copy")
        refs = set(open_image(alike, original.manifest_digest).config_document.refs.values())
        assert set(wanted) <= refs


class TestKinds:
    """What the commands for whole repositories do with images."""

    @pytest.mark.parametrize(
        "name", ["image", "@{manifest}", "{manifest}", "oci-manifest-{manifest}", "{short}"]
    )
    def test_copy_by_name(self, tmp_path: Path, source: Repository, target: Repository, name: str) -> None:
        original = store(source, tmp_path / "layout")
        digest = str(original.manifest_digest)
        done = copy_by_name(source, target, name.format(manifest=digest, short=digest[7:20]), "copy", silent)
        assert done.ids["manifest"] == digest
        assert [tag.name for tag in TAGS.list(target.streams)] == ["copy"]

    def test_a_layer_is_copied_as_a_stream(
        self, tmp_path: Path, source: Repository, alike: Repository
    ) -> None:
        store(source, tmp_path / "layout")
        name = f"oci-layer-{digest_of(LARGE)}"
        copy_by_name(source, alike, name)
        assert alike.streams.find(name) == source.streams.find(name)

    @pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
    def test_fsck_finds_another_content(self, tmp_path: Path, source: Repository, kind: str) -> None:
        """A stream that is sound and has the name of another one."""
        store(source, tmp_path / "layout")
        store_artifact(source, tmp_path / "other", 5)
        names = [s.name for s in source.streams.list_streams() if s.name.startswith(f"oci-{kind}-")]
        streams = Path(source.path, "streams")
        first, second = names[:2]
        text = (streams / second).readlink()
        (streams / first).unlink()
        (streams / first).symlink_to(text)
        for deep in (True,) if kind == "layer" else (True, False):
            report = check_repository(source, deep=deep, content_checks=content_checks(source, is_deep=deep))
            assert any("stream-content-invalid" in text and first in text for text in report.findings)

    def test_fsck_says_what_a_name_claims(self, tmp_path: Path, source: Repository) -> None:
        store(source, tmp_path / "layout")
        layer = source.streams.find(f"oci-layer-{digest_of(LARGE)}")
        assert layer is not None
        source.streams.link("oci-manifest-sha256:" + "0" * 64, layer)
        report = check_repository(source, content_checks=content_checks(source, is_deep=False))
        assert any("expected a manifest" in text for text in report.findings)

    @pytest.mark.alone
    @pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
    def test_lost_streams_come_from_another_repository(
        self, tmp_path: Path, source: Repository, alike: Repository, kind: str
    ) -> None:
        store(source, tmp_path / "layout")
        copy_image(source, alike, "image", "copy")
        name = next(s.name for s in source.streams.list_streams() if s.name.startswith(f"oci-{kind}-"))
        object_id = source.streams.find(name)
        assert object_id is not None
        object_file(source, object_id).unlink()
        opened = open_repair_source(source, alike.path, silent)
        try:
            report = repair_repository(source, [opened], content_checks=content_checks(source))
        finally:
            opened.close()
        assert report.after.is_ok
        assert source.streams.find(name) is not None


def test_the_command(tmp_path: Path) -> None:
    with make_repository(tmp_path / "source", Algorithm.SHA256) as source:
        original = store(source, tmp_path / "layout")
    with make_repository(tmp_path / "target", Algorithm.SHA512):
        pass

    def run(*words: str) -> tuple[int, str, str]:
        done = run_cfsctl("--repo", tmp_path / "target", "oci", "copy", *words, "--from", tmp_path / "source")
        return done.returncode, done.stdout, done.stderr

    status, output, _ = run("image", "--name", "new")
    lines = output.splitlines()
    assert status == 0
    assert lines[0] == f"Copied image image from {tmp_path}/source to destination repo, tagged as new"
    assert lines[1] == f"Manifest digest: {original.manifest_digest}"
    assert [line.split(":")[0] for line in lines[2:]] == ["Manifest verity", "Config digest", "Config verity"]
    document = json.loads(run("image", "--json")[1])
    schemas.check(document, "oci-copy")
    assert document["tag"] is None
    assert run("missing")[0] == 17
    status, _, errors = run("image", "--zerocopy")
    assert (status, "requires matching hash algorithms" in errors) == (1, True)
    assert "reserved for digest" in run("image", "--name", "@x")[2]
    command = ("--repo", tmp_path / "target", "oci", "copy", "image")
    assert run_cfsctl(*command).returncode == 2
    assert run_cfsctl(*command, "--from", tmp_path / "no").returncode == 10


def test_errors_are_of_the_source(tmp_path: Path, source: Repository, target: Repository) -> None:
    """A layer's stream that is missing in the source."""
    original = store(source, tmp_path / "layout")
    config = open_image(source, original.manifest_digest).config_document
    object_file(source, config.refs[digest_of(LARGE)]).unlink()
    with pytest.raises(IntegrityError, match=f"{source.path}: object"):
        copy_image(source, target, "image", "copy")
