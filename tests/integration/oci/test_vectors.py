"""Every recorded image gives the recorded IDs and trees, and what is broken is refused with its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.dumpfile import iter_dump
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import CfsError
from cfsctl.oci.boot_images import turn_bootable
from cfsctl.oci.check import check_images
from cfsctl.oci.manifest import Platform, parse_config, parse_manifest
from cfsctl.oci.pull import PullResult, pull
from cfsctl.oci.sources.opening import open_source
from cfsctl.oci.store.documents import read_document
from cfsctl.oci.store.layers import iter_entries
from cfsctl.oci.store.names import CONFIG, LAYER, TAGS
from cfsctl.oci.to_tree import image_tree
from cfsctl.repository.check.fsck import check_repository
from cfsctl.splitstream.format import ContentType
from cfsctl.tree.transform import XattrFilter
from tests.support.oci import VECTORS, digest_of, read_table
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.repository import Repository

AMD64 = Platform("linux", "amd64")
MESSAGES = {
    "pax-key-nonutf8": "invalid UTF-8 in PAX key",
    "gzip-truncated": "unexpected end",
    "gzip-badcrc": "damaged",
    "zstd-truncated": "unexpected end",
    "gzip-trailing-garbage": "expected a gzip member or the end",
    "wrong-arch": "No manifest found for platform linux/amd64; available: linux/sparc",
}
"""Where our message says it in other words than the recorded one."""

REFUSALS = {
    "wrong-diff-id": "layer sha256:.*diff_id",
    "wrong-layer-digest": "layer sha256:a.*blob",
    "wrong-manifest-digest": "manifest",
    "wrong-config-digest": "config",
    "sparse-1.0-short-map": "layer sha256:.*usr/a.*sparse",
    "device-too-big": "layer sha256:.*/usr/c.*4096:0",
}


def pull_into(repository: Repository, reference: str) -> PullResult:
    source = open_source(reference)
    try:
        return pull(repository, source, "tag", platform=AMD64)
    finally:
        source.close()


def row_id(row: dict[str, str]) -> str:
    return "-".join(row[key] for key in ("layout", "hash", "erofs"))


@pytest.mark.parametrize("row", read_table("images.tsv"), ids=row_id)
def test_images_have_the_recorded_ids(row: dict[str, str], layouts: Path, tmp_path: Path) -> None:
    algorithm = Algorithm.from_hash_name(row["hash"])
    version = FormatVersion(int(row["erofs"]))
    tag = "" if row["reference"] == "-" else f":{row['reference']}"
    with make_repository(tmp_path / "r", algorithm, version) as repository:
        result = pull_into(repository, f"oci:{layouts}/{row['layout']}{tag}")
        assert str(result.manifest_digest) == row["manifest"]
        assert str(result.config_digest) == row["config"]
        assert (result.image.hex() if result.image else "-") == row["image"]
        assert TAGS.find(repository.streams, "tag") == result.manifest_digest
        assert check_repository(repository, deep=True).is_ok
        assert check_images(repository, deep=True).is_ok
        if row["boot_image"] != "-":
            source = open_source(f"oci:{layouts}/{row['layout']}{tag}")
            booted = pull(repository, source, "boot", platform=AMD64, bootable=True)
            assert booted.boot_image is not None
            assert booted.boot_image.hex() == row["boot_image"]
            assert check_images(repository, deep=True).is_ok


DUMPS = sorted(path.name for path in (VECTORS / "dumps").iterdir())


@pytest.mark.parametrize("name", DUMPS)
def test_trees_are_as_recorded(name: str, layouts: Path, tmp_path: Path) -> None:
    layout, hash_name, *variant, _ = name.split(".")
    row = next(row for row in read_table("images.tsv") if row["layout"] == layout)
    tag = "" if row["reference"] == "-" else f":{row['reference']}"
    kept = XattrFilter.KEEP_USER if variant == ["user"] else XattrFilter.ALLOWLIST_ONLY
    with make_repository(tmp_path / "r", Algorithm.from_hash_name(hash_name)) as repository:
        source = open_source(f"oci:{layouts}/{layout}{tag}")
        pull(repository, source, platform=AMD64)
        found = source.find_manifest(AMD64)
        tree = image_tree(repository, layers_of(repository, found.data), kept)
        if variant == ["boot"]:
            turn_bootable(repository, tree)
        assert b"".join(iter_dump(tree)) == (VECTORS / "dumps" / name).read_bytes()


def layers_of(repository: Repository, manifest: bytes) -> list[tuple[OciDigest, ObjectID]]:
    digest = parse_manifest(manifest).config.digest
    stream_id = repository.streams.find(f"{CONFIG}{digest}")
    assert stream_id is not None
    config = read_document(repository, stream_id, ContentType.OCI_CONFIG, digest)
    return [(diff_id, config.refs[str(diff_id)]) for diff_id in parse_config(config.data).diff_ids]


@pytest.mark.parametrize("row", read_table("must-fail.tsv"), ids=lambda row: row["case"])
def test_broken_images_are_refused(row: dict[str, str], layouts: Path, tmp_path: Path) -> None:
    reference = f"oci:{layouts}/must-fail/{row['case']}:t"
    with make_repository(tmp_path / "r", Algorithm.SHA256) as repository:
        with pytest.raises(
            CfsError, match=re.escape(MESSAGES.get(row["case"], row["last_message"]))
        ) as found:
            pull_into(repository, reference)
        assert reference in str(found.value)
        assert TAGS.list(repository.streams) == []
        assert check_repository(repository, deep=True).is_ok


@pytest.mark.parametrize("row", read_table("must-refuse.tsv"), ids=lambda row: row["case"])
def test_lies_are_refused(row: dict[str, str], layouts: Path, tmp_path: Path) -> None:
    reference = f"oci:{layouts}/must-refuse/{row['case']}:t"
    with make_repository(tmp_path / "r", Algorithm.SHA256) as repository:
        with pytest.raises(CfsError, match=REFUSALS[row["case"]]) as found:
            pull_into(repository, reference)
        assert reference in str(found.value)
        wrong = {stream.name for stream in repository.streams.list_streams()}
        assert not wrong or row["case"] == "device-too-big"  # whose layer is what it says
        assert TAGS.list(repository.streams) == []


@pytest.mark.parametrize("row", read_table("compression.tsv"), ids=lambda row: row["case"])
def test_compressed_layers(row: dict[str, str], layouts: Path, tmp_path: Path) -> None:
    reference = f"oci:{layouts}/compression/{row['case']}:t"
    with make_repository(tmp_path / "r", Algorithm.SHA256) as repository:
        if row["verdict"] == "fail":
            with pytest.raises(CfsError, match="layer sha256:"):
                pull_into(repository, reference)
            return
        pull_into(repository, reference)
        (name,) = (s.name for s in repository.streams.list_streams() if s.name.startswith(LAYER))
        pieces: list[bytes] = []
        repository.streams.cat(name, lambda data: pieces.append(bytes(data)))
        assert f"{LAYER}{digest_of(b''.join(pieces))}" == name
        with repository.streams.open(name) as reader:
            assert next(entry.path for entry, _ in iter_entries(reader)) == b"usr/"


@pytest.mark.parametrize("row", read_table("archives.tsv"), ids=lambda row: row["reference"])
def test_archives(row: dict[str, str], layouts: Path, tmp_path: Path) -> None:
    reference = f"oci-archive:{layouts}/archives/{row['reference']}"
    with make_repository(tmp_path / "r", Algorithm.SHA256) as repository:
        if row["verdict"] == "ok":
            assert str(pull_into(repository, reference).manifest_digest) == row["manifest"]
        else:
            with pytest.raises(CfsError, match=re.escape(str(layouts / "archives"))):
                pull_into(repository, reference)


@pytest.mark.parametrize(
    "row", read_table("deltas.tsv"), ids=lambda row: f"{row['case']}-{row['base_pulled']}"
)
@pytest.mark.parametrize("version", [FormatVersion.V1, FormatVersion.V2])
def test_deltas(row: dict[str, str], version: FormatVersion, layouts: Path, tmp_path: Path) -> None:
    reference = f"oci:{layouts}/deltas/{row['case']}"
    with make_repository(tmp_path / "r", Algorithm.SHA256, version) as repository:
        if row["base_pulled"] == "yes":
            pull_into(repository, f"oci:{layouts}/deltas/base:t")
        if row["verdict"] != "ok":
            with pytest.raises(CfsError, match=re.escape(reference)) as found:
                pull_into(repository, reference)
            assert DELTA_MESSAGES.get(row["case"], row["message_0.9.4"].split(" <- ")[-1]) in str(found.value)
            return
        result = pull_into(repository, reference)
        if row["manifest"] != "-":
            assert str(result.manifest_digest) == row["manifest"]
            assert result.image is not None
            assert result.image.hex() == row[f"image_V{version.value}"]
        assert check_images(repository, deep=True).is_ok


DELTA_MESSAGES = {
    "manifest-altered": "Embedded target manifest: expected digest sha256:bbbb",
    "config-altered": "Embedded target config: expected digest sha256:cccc",
    "no-such-file": "Source file not found: usr/x",
    "wrong-result": "found no tar archive: unexpected EOF in tar stream",
    "size-wrong": "Expected size 196 but found 195",
}


@pytest.mark.parametrize("table", ["images.tsv", "must-fail.tsv", "must-refuse.tsv", "compression.tsv"])
def test_no_recorded_layout_is_left_out(table: str, layouts: Path) -> None:
    directory = layouts if table == "images.tsv" else layouts / table.removesuffix(".tsv")
    key = "layout" if table == "images.tsv" else "case"
    rows = {row[key] for row in read_table(table)}
    found = {path.name for path in directory.iterdir() if (path / "index.json").exists()}
    assert found == rows
