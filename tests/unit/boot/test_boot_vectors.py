"""Bootable trees, their IDs and kernel arguments are those of the original."""

from __future__ import annotations

import csv
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cfsctl.boot.cmdline import DIGEST_KEY, LEGACY_KEY, KernelArgumentError, find_argument, format_argument
from cfsctl.boot.entries import find_boot_entries
from cfsctl.boot.selinux.escapes import PatternError, UnsupportedPatternError
from cfsctl.boot.selinux.patterns import compile_pattern, translate
from cfsctl.boot.transform import make_bootable
from cfsctl.digest import Algorithm, ObjectID, qualified
from cfsctl.dumpfile import iter_dump
from cfsctl.dumpfile.format import unescape
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.errors import CfsError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.tree.transform import XattrFilter, apply_oci_transform
from tests.support.tars import TarTree
from tests.support.vectors import parse

VECTORS = Path(__file__).parents[2] / "vectors" / "boot"
KINDS = {"in": (False, False), "plain": (False, True), "boot": (True, True), "boot-keep": (True, False)}
"""Kinds of dumps: made bootable, and ``/usr`` propagated to the root."""


def read_table(name: str) -> list[dict[str, str]]:
    text = (VECTORS / f"{name}.tsv").read_text()
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


IDS = read_table("ids")
KARGS = read_table("kargs")
ABOOT = read_table("aboot")
REGEXES = json.loads((VECTORS / "regex.json").read_text())
CMDLINES = json.loads((VECTORS / "uki-cmdline.json").read_text())


@cache
def archive(name: str, algorithm: Algorithm) -> TarTree:
    return TarTree(VECTORS / "trees" / f"{name}.tar.xz", algorithm=algorithm)


@cache
def image_id(name: str, hash_name: str, version: str, *, bootable: bool, propagate: bool) -> ObjectID:
    algorithm = Algorithm.from_hash_name(hash_name)
    tree = TarTree(VECTORS / "trees" / f"{name}.tar.xz", algorithm=algorithm)
    if propagate:
        apply_oci_transform(tree.filesystem, XattrFilter.ALLOWLIST_ONLY)
    if bootable:
        make_bootable(tree.filesystem, tree.read)
    return compute_digest(build_image(tree.filesystem, FormatVersion[version]), algorithm)


@pytest.mark.parametrize("path", sorted((VECTORS / "dumps").iterdir()), ids=lambda path: path.name)
def test_dumps(path: Path) -> None:
    name, kind, *_ = path.name.split(".")
    bootable, propagate = KINDS[kind]
    tree = archive(name, Algorithm.SHA256)
    filesystem = parse(gzip.decompress((VECTORS / "dumps" / f"{name}.in.dump.gz").read_bytes()))
    if propagate:
        apply_oci_transform(filesystem, XattrFilter.ALLOWLIST_ONLY)
    if bootable:
        make_bootable(filesystem, tree.read)
    assert b"".join(iter_dump(filesystem)) == gzip.decompress(path.read_bytes())


@pytest.mark.parametrize("row", IDS, ids=lambda row: "-".join(list(row.values())[:5]))
def test_ids(row: dict[str, str]) -> None:
    found = image_id(
        row["tree"],
        row["hash"],
        row["format"],
        bootable=row["bootable"] == "1",
        propagate=row["propagate"] == "1",
    )
    assert found.hex() == row["id"]


@pytest.mark.parametrize("row", KARGS, ids=lambda row: "-".join(list(row.values())[:4]))
def test_kernel_arguments(row: dict[str, str]) -> None:
    object_id = image_id(row["tree"], row["hash"], row["format"], bootable=True, propagate=True)
    is_insecure = row["insecure"] == "1"
    written = format_argument(object_id, is_format_2=row["format"] == "V2", is_insecure=is_insecure)
    assert written == row["argument"]
    read = find_argument(f"quiet {written} rw", Algorithm.of_digest(object_id))
    assert read is not None
    assert (read.object_id, read.is_insecure) == (object_id, is_insecure)
    assert read.key == (LEGACY_KEY if row["format"] == "V2" else DIGEST_KEY)


@pytest.mark.parametrize("case", REGEXES["cases"], ids=lambda case: case["regex"])
def test_regular_expressions(case: dict[str, object]) -> None:
    regex = str(case["regex"])
    if "error" in case:
        with pytest.raises(PatternError):
            compile_pattern(regex, "-")
        return
    try:
        prefix = translate(regex, "-").prefix
    except UnsupportedPatternError:
        pytest.importorskip("pcre2", reason="the expression needs the package pcre2")
        prefix = b""
    match = compile_pattern(regex, "-")
    subjects = {name: b"/usr/" + unescape(name.encode()) for name in REGEXES["paths"]}
    found = [name for name, subject in subjects.items() if match(subject + b"-")]
    assert found == case["matches"]
    assert all(subjects[name].startswith(prefix) for name in found)


@pytest.mark.parametrize("row", ABOOT, ids=lambda row: row["case"])
def test_aboot_payloads(row: dict[str, str]) -> None:
    tree = TarTree(VECTORS / "aboot.tar.xz", f"aboot/{row['case']}")
    if row["exit"] == "0":
        find_boot_entries(tree.filesystem, tree.read)
    else:
        with pytest.raises(CfsError) as raised:
            find_boot_entries(tree.filesystem, tree.read)
        for part in row["message"].split(" <- "):
            if not part.startswith(("Parsing", "I/O", "failed to fill", "invalid utf-8")):
                assert part in str(raised.value)
    apply_oci_transform(tree.filesystem, XattrFilter.ALLOWLIST_ONLY)
    make_bootable(tree.filesystem, tree.read)
    image = build_image(tree.filesystem, FormatVersion.V1)
    assert compute_digest(image, Algorithm.SHA256).hex() == row["id"]


@pytest.mark.parametrize("case", CMDLINES["cases"], ids=lambda case: repr(case["cmdline"])[:60])
def test_command_lines(case: dict[str, Any]) -> None:
    """Which image a command line names; that of a UKI is stripped of NULs before, see `read_cmdline`."""
    error = case["error"] or ""
    if "parsing UKI .cmdline section" in error:
        with pytest.raises(KernelArgumentError) as raised:
            find_argument(case["cmdline"], Algorithm.SHA256)
        first = error.split("0: ")[1].split("\n")[0].rstrip()
        assert first in str(raised.value)
        return
    found = find_argument(case["cmdline"], Algorithm.SHA256)
    if "no composefs karg" in error:
        assert found is None
        return
    assert found is not None
    is_named = found.object_id.hex() == CMDLINES["image_id"]
    assert is_named == (case["status"] == 0)
    assert is_named or f"(is '{qualified(found.object_id)}'" in error
