"""Bootable images of directories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import cfsctl, run_cfsctl

if TYPE_CHECKING:
    from pathlib import Path

POLICY = "/.* system_u:object_r:default_t:s0\n/usr/bin/.* -- system_u:object_r:bin_t:s0\n"
LARGE_POLICY = POLICY + "# so long that it is an object\n" * 100


@pytest.fixture(params=[POLICY, LARGE_POLICY], ids=["inline", "object"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ("usr/bin", "usr/lib/modules/6.1", "boot", "sysroot", "etc/selinux/t/contexts/files"):
        (root / name).mkdir(parents=True)
    (root / "usr/bin/x").write_text("x")
    (root / "usr/lib/modules/6.1/vmlinuz").write_text("kernel")
    (root / "boot/config").write_text("c")
    (root / "etc/selinux/config").write_text("SELINUXTYPE=t\n")
    (root / "etc/selinux/t/contexts/files/file_contexts").write_text(request.param)
    return root


@pytest.fixture
def store(tmp_path: Path) -> Path:
    cfsctl("init", "--insecure", tmp_path / "store")
    return tmp_path / "store"


def dump(tree: Path, *options: str) -> dict[str, str]:
    """Return the lines of the dump of a bootable tree by path."""
    lines = cfsctl("--no-repo", "create-dumpfile", "--bootable", *options, tree).splitlines()
    return {line.split(" ")[0]: line for line in lines}


def test_labels_come_from_the_policy_of_the_tree(tree: Path) -> None:
    lines = dump(tree)
    assert lines["/usr/bin/x"].endswith(" security.selinux=system_u:object_r:bin_t:s0")
    assert lines["/usr/bin"].endswith(" security.selinux=system_u:object_r:default_t:s0")


def test_boot_is_emptied(tree: Path) -> None:
    lines = dump(tree)
    assert "/boot" in lines
    assert "/boot/config" not in lines
    assert lines["/boot"].split(" ")[8] == lines["/usr"].split(" ")[8]


def test_all_commands_agree(tree: Path, store: Path) -> None:
    created = cfsctl("--repo", store, "create-image", "--bootable", tree).strip()
    computed = cfsctl("--repo", store, "compute-id", "--bootable", tree).strip()
    argument = cfsctl("--repo", store, "compute-karg", tree).strip()
    result = json.loads(cfsctl("--repo", store, "compute-karg", "--json", tree))
    assert created == f"sha512:{computed}" == result["image"]
    assert argument == f"composefs.digest=v1-sha512-12:{computed}" == result["argument"]
    plain = cfsctl("--repo", store, "compute-id", tree).strip()
    assert plain != computed


def test_policy_of_the_host_is_never_read(tree: Path, tmp_path: Path) -> None:
    """A link to a place outside leads to the same place inside, where there is nothing."""
    outside = tmp_path / "outside"
    outside.write_text("SELINUXTYPE=t\n")
    config = tree / "etc/selinux/config"
    config.unlink()
    config.symlink_to(outside)
    assert "security.selinux" not in "".join(dump(tree).values())


def test_links_within_the_tree_are_followed(tree: Path) -> None:
    config = tree / "etc/selinux/config"
    config.rename(tree / "usr/config")
    config.symlink_to("/usr/config")
    assert "bin_t" in dump(tree)["/usr/bin/x"]


@pytest.mark.parametrize("missing", ["boot", "sysroot"])
def test_missing_directories_are_named(tree: Path, missing: str) -> None:
    for path in (tree / missing).iterdir():
        path.unlink()
    (tree / missing).rmdir()
    done = run_cfsctl("--no-repo", "compute-id", "--bootable", tree)
    assert done.returncode == 17
    assert f'Directory entry "{missing}" does not exist' in done.stderr
    assert f"add /{missing} to the tree" in done.stderr


def test_broken_policies_are_refused(tree: Path) -> None:
    (tree / "etc/selinux/t/contexts/files/file_contexts").write_text("/a( x\n")
    done = run_cfsctl("--no-repo", "compute-id", "--bootable", tree)
    assert done.returncode == 16
    assert "file_contexts, line 1: invalid expression '/a('" in done.stderr


def test_images_need_sound_boot_entries_and_ids_do_not(tree: Path, store: Path) -> None:
    """As with the original: an ID can be computed of a tree whose entries cannot be read."""
    (tree / "boot/aboot-1.img").write_text("junk")
    cfsctl("--repo", store, "compute-id", "--bootable", tree)
    done = run_cfsctl("--repo", store, "create-image", "--bootable", tree, "name")
    assert done.returncode == 16
    assert 'aboot payload "/boot/aboot-1.img"' in done.stderr
    assert "name" not in cfsctl("--repo", store, "images")
