"""Known ways to make an image, and finding the one that was taken."""

from __future__ import annotations

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.inspection.diff import Attribute, Changed, iter_differences
from cfsctl.inspection.explain import Base, explain, find_nearest
from cfsctl.inspection.explanation import explanation_document, iter_explanation
from cfsctl.inspection.sources import DumpSource
from cfsctl.inspection.variants import (
    Times,
    Treatment,
    Variant,
    Xattrs,
    apply_treatment,
    copy_tree,
    iter_forms,
    iter_treatments,
)
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.model import CharDevice, Directory, ExternalFile, Fifo, FileSystem, InlineFile
from cfsctl.tree.transform import XattrFilter, remove_devices

OBJECT = ObjectID(b"\x01" * 32)


def tree() -> FileSystem:
    """Return a tree on which every treatment has an effect."""
    root, usr, run = Directory(0o700, mtime_s=1), Directory(0o755, 1, 2, 3, 4), Directory(0o755)
    file = ExternalFile(OBJECT, 100, 0o644, 0, 0, 5, 6, {b"user.a": b"b", b"security.capability": b"c"})
    usr.entries = {b"one": file, b"two": file, b"null": CharDevice(0x103, 0o666)}
    usr.xattrs = {b"trusted.t": b""}
    run.entries = {b"stale": Fifo(0o600)}
    root.entries = {b"usr": usr, b"run": run, b"note": InlineFile(b"x", 0o644, mtime_s=7)}
    return FileSystem(root)


def image_id(filesystem: FileSystem, version: FormatVersion, dialect: Dialect = Dialect.RUST) -> ObjectID:
    return compute_digest(build_image(filesystem, version, dialect), Algorithm.SHA256)


def test_treatments_are_all_different() -> None:
    treatments = list(iter_treatments(tree()))
    assert len(set(treatments)) == len(treatments)
    ids = set()
    for treatment in treatments:
        treated = apply_treatment(tree(), treatment)
        assert treated is not None
        ids.add(image_id(treated, FormatVersion.V1))
    assert len(ids) == len(treatments)


def test_treatments_without_effect_are_left_out() -> None:
    plain = FileSystem(Directory(0o755))
    assert list(iter_treatments(plain)) == [Treatment()]


@pytest.mark.parametrize("version", FormatVersion)
def test_every_variant_is_found_again(version: FormatVersion) -> None:
    filesystem = tree()
    for treatment in list(iter_treatments(filesystem))[::9]:
        treated = apply_treatment(filesystem, treatment)
        assert treated is not None
        found = explain([Base(filesystem)], image_id(treated, version))
        assert found is not None
        assert found.variant.version is version
        # V2 has no nanoseconds, so there two treatments are one.
        expected = treated
        again = apply_treatment(filesystem, found.variant.treatment)
        assert again is not None
        ignored = {Attribute.MTIME} if version is FormatVersion.V2 else set()
        assert list(iter_differences(expected, again, ignored=ignored)) == []


def test_treating_leaves_the_tree_alone() -> None:
    filesystem = tree()
    for treatment in iter_treatments(filesystem):
        apply_treatment(filesystem, treatment)
    assert list(iter_differences(filesystem, tree())) == []


def test_whiteouts_and_the_c_tool() -> None:
    root = Directory(0o755, mtime_s=-5)
    root.entries[b"00"] = CharDevice(0, 0o644, mtime_s=-5)
    filesystem = FileSystem(root)
    forms = list(iter_forms(filesystem, (FormatVersion.V1, FormatVersion.V2)))
    assert forms == [
        (FormatVersion.V1, Dialect.RUST),
        (FormatVersion.V2, Dialect.RUST),
        (FormatVersion.V1, Dialect.C),
    ]
    found = explain([Base(filesystem)], image_id(filesystem, FormatVersion.V1, Dialect.C))
    assert found is not None
    assert found.variant.dialect is Dialect.C
    assert "C mkcomposefs" in found.describe()


def test_without_usr_there_is_no_propagation() -> None:
    assert apply_treatment(FileSystem(Directory(0)), Treatment(XattrFilter.ALLOWLIST_ONLY)) is None


def test_copy_shares_no_node_and_keeps_links() -> None:
    filesystem = tree()
    copied = copy_tree(filesystem)
    usr = copied.root.entries[b"usr"]
    assert isinstance(usr, Directory)
    assert usr.entries[b"one"] is usr.entries[b"two"]
    assert list(iter_differences(filesystem, copied)) == []
    usr.entries[b"one"].mode = 0
    assert len(list(iter_differences(filesystem, copied))) == 2
    without_devices = copy_tree(filesystem, hard_links=False)
    remove_devices(without_devices)
    broken = without_devices.root.entries[b"usr"]
    assert isinstance(broken, Directory)
    assert broken.entries[b"one"] is not broken.entries[b"two"]
    assert b"null" not in broken.entries


@pytest.mark.parametrize(
    ("treatment", "version", "hash_name", "expected"),
    [
        (Treatment(XattrFilter.KEEP_USER), 2, "sha512",
         "cfsctl --no-repo --hash sha512 --erofs-version 2 compute-id --xattrs keep-user-xattrs PATH"),
        (Treatment(), 1, "sha256",
         "cfsctl --no-repo --hash sha256 --erofs-version 1 compute-id --no-propagate-usr-to-root PATH"),
        (Treatment(hard_links=False), 0, "sha256", "mkcomposefs --print-digest-only PATH"),
        (Treatment(times=Times.EPOCH, xattrs=Xattrs.USER, devices=False), 1, "sha256",
         ("mkcomposefs --print-digest-only --min-version=1 --use-epoch --user-xattrs --skip-devices "
         "--hardlinks PATH")),
        (Treatment(times=Times.EPOCH), 1, "sha512", None),
        (Treatment(times=Times.WHOLE_SECONDS), 1, "sha256", None),
        (Treatment(xattrs=Xattrs.NONE), 2, "sha256", None),
        (Treatment(XattrFilter.ALLOWLIST_ONLY, hard_links=False), 1, "sha256", None),
    ],
)  # fmt: skip
def test_command(treatment: Treatment, version: int, hash_name: str, expected: str | None) -> None:
    assert Variant(treatment, FormatVersion(version), Dialect.RUST).command(hash_name) == expected


def test_nearest() -> None:
    filesystem = tree()
    target = apply_treatment(filesystem, Treatment(times=Times.EPOCH, xattrs=Xattrs.NONE))
    assert target is not None
    target.root.entries[b"note"].mode = 0o600
    nearest = find_nearest([Base(FileSystem(Directory(0)), "an empty tree"), Base(filesystem)], target)
    assert nearest.treatment == Treatment(times=Times.EPOCH, xattrs=Xattrs.NONE)
    (difference,) = nearest.differences
    assert isinstance(difference, Changed)
    assert difference.path == b"/note"
    assert nearest.describe() == "times all zero, attributes none"


def test_explanation_as_text_and_document() -> None:
    source = DumpSource("the dump", b"")
    filesystem = tree()
    expected = image_id(filesystem, FormatVersion.V2)
    found = explain([Base(filesystem)], expected)
    lines = list(iter_explanation(source, expected, found, None))
    assert lines == [
        f"sha256:{expected.hex()} is dump the dump: EROFS version 2",
        "  cfsctl --no-repo --hash sha256 --erofs-version 2 compute-id --no-propagate-usr-to-root PATH",
    ]
    document = explanation_document(expected, found, None)
    assert document["explained"] is True
    assert document["options"] == {
        "erofs_version": 2,
        "written_as": "composefs-rs",
        "propagate_usr_to_root": False,
        "xattr_filter": None,
        "xattrs": "all",
        "times": "kept",
        "devices": True,
        "hard_links": True,
    }


def test_no_explanation_shows_the_nearest_and_not_too_much() -> None:
    source = DumpSource("the dump", b"")
    target = tree()
    for number in range(30):
        target.root.entries[b"%02d" % number] = Fifo(0)
    base = Base(tree())
    assert explain([base], OBJECT) is None
    nearest = find_nearest([base], target)
    lines = list(iter_explanation(source, OBJECT, None, nearest))
    assert lines[0] == f"no known set of options gives sha256:{OBJECT.hex()} for dump the dump"
    assert lines[1] == "nearest: the tree as it is"
    assert lines[2] == "  + /00 (fifo)"
    assert lines[-1] == "  and 10 more"
    assert len(lines) == 23
    document = explanation_document(OBJECT, None, nearest)
    assert document["explained"] is False
    assert "nearest" in document
    same = find_nearest([base], tree())
    assert "written in another way" in list(iter_explanation(source, OBJECT, None, same))[-1]
