"""`ls`, `show` and `extract`: what they give equals the tree, however else it is looked at."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.scan import build_images, scan_directory
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.programs import CFSCTL, cfsctl, require, run_cfsctl
from tests.support.repositories import flip_bit, make_repository, object_file
from tests.support.scans import describe_directory, make_random_tree

if TYPE_CHECKING:
    from tests.support.scans import Description

SHA512 = Algorithm.SHA512
NOBODY = 65534
is_root = os.geteuid() == 0


def store_tree(place: Path, tree: Path, name: str = "im") -> None:
    """Make an image of a directory with everything that it has."""
    with make_repository(place / "r") as repository:
        found = scan_directory(str(tree), algorithm=SHA512, store=repository.objects, workers=0)
        build_images(repository, found, name)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a place with an image `im` of a small tree."""
    tree = tmp_path / "tree"
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / "tool").write_bytes(b"tool" * 1000)
    (tree / "usr" / "bin" / "tool").chmod(0o4755)
    (tree / "usr" / "bin" / "again").hardlink_to(tree / "usr" / "bin" / "tool")
    (tree / "etc").mkdir()
    (tree / "etc" / "small").write_bytes(b"small")
    (tree / "etc" / "link").symlink_to("../usr/bin")
    (tree / "etc" / "absolute").symlink_to("/etc/small")
    (tree / "etc" / "odd\x1b[2J\n").write_bytes(b"odd")
    store_tree(tmp_path, tree)
    return tmp_path


@pytest.mark.parametrize("seed", range(4))
def test_extract_gives_the_tree_back(seed: int, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    make_random_tree(tree, seed, as_root=is_root)
    store_tree(tmp_path, tree)
    cfsctl("--repo", tmp_path / "r", "extract", "im", tmp_path / "out")
    assert describe_directory(tmp_path / "out", SHA512) == describe_directory(tree, SHA512)


@pytest.mark.privileged
@pytest.mark.skipif(not is_root, reason="needs root to mount")
def test_extract_equals_the_mounted_image(tmp_path: Path) -> None:
    require("unshare", "util-linux")
    tree, mountpoint = tmp_path / "tree", tmp_path / "mnt"
    tree.mkdir()
    mountpoint.mkdir()
    make_random_tree(tree, 11, as_root=True)
    for path in tree.rglob("*"):  # a mounted image shows whiteouts as files with attributes for overlayfs
        if stat.S_ISCHR(path.lstat().st_mode) and not path.lstat().st_rdev:
            path.unlink()
    store_tree(tmp_path, tree)
    cfsctl("--repo", tmp_path / "r", "extract", "im", tmp_path / "out")
    script = (
        "import pickle; from pathlib import Path; from cfsctl.digest import Algorithm;"
        "from tests.support.scans import describe_directory as describe;"
        "Path('seen').write_bytes(pickle.dumps(describe(Path('mnt'), Algorithm.SHA512)))"
    )
    unshare = ("unshare", "--mount", "--propagation", "private")
    mount = '"$0" --repo r mount im mnt && exec "$1" -c "$2"'
    done = subprocess.run(
        [*unshare, "sh", "-c", mount, CFSCTL, sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if "Operation not permitted" in done.stderr or "Block device required" in done.stderr:
        pytest.skip("EROFS cannot be mounted here")
    assert done.returncode == 0, done.stderr
    seen = pickle.loads((tmp_path / "seen").read_bytes())
    assert describe_directory(tmp_path / "out", SHA512) == seen


@pytest.mark.parametrize("seed", range(2))
def test_extract_equals_the_checkout_of_the_client(seed: int, tmp_path: Path) -> None:
    require_ostree()
    tree, source = tmp_path / "tree", tmp_path / "source"
    tree.mkdir()
    source.mkdir()
    make_random_tree(tree, seed + 20)
    remove_what_the_client_refuses(tree)
    run_ostree(source, "init", "--mode=bare" if is_root else "--mode=archive")
    run_ostree(source, "commit", "--branch=b", f"--tree=dir={tree}")
    run_ostree(source, "checkout", *([] if is_root else ["-U"]), "b", str(tmp_path / "theirs"))
    cfsctl("init", "--insecure", tmp_path / "r")
    cfsctl("--repo", tmp_path / "r", "ostree", "pull-local", source, "b")
    cfsctl("--repo", tmp_path / "r", "extract", "commit:b", tmp_path / "ours")
    # The client links files with the same content, and sets no times of links and directories.
    ours, theirs = (
        describe_directory(tmp_path / name, SHA512, hard_links=False) for name in ("ours", "theirs")
    )
    assert without_times(ours) == without_times(theirs)


def remove_what_the_client_refuses(tree: Path) -> None:
    """Remove pipes, and names that are not text."""
    for base, directories, files in os.walk(os.fsencode(tree), topdown=False):
        for name in [*directories, *files]:
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode) and b"\xff" in name:
                shutil.rmtree(path)
            elif stat.S_ISFIFO(mode) or b"\xff" in name:
                os.unlink(path)


def without_times(description: Description) -> Description:
    """Leave out modification times."""
    return {path: (*row[:4], *row[5:]) for path, row in description.items()}


def test_tar_archive_gives_the_tree_back(tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    out.mkdir()
    make_random_tree(tree, 5)
    store_tree(tmp_path, tree)
    archive = subprocess.run(
        [CFSCTL, "--repo", tmp_path / "r", "extract", "--tar", "im"],
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    subprocess.run(
        [
            "tar",
            "--extract",
            "--preserve-permissions",
            "--xattrs",
            "--xattrs-include=*",
            f"--directory={out}",
        ],
        input=archive,
        check=True,
        timeout=60,
    )
    assert whole_times(describe_directory(out, SHA512)) == whole_times(describe_directory(tree, SHA512))


def whole_times(description: Description) -> Description:
    """Leave out the fractions of times before 1970, which archives do not have."""
    rows = {}
    for path, row in description.items():
        time = row[4]
        assert isinstance(time, int)
        rows[path] = (*row[:4], time // 10**9 * 10**9 if time < 0 else time, *row[5:])
    return rows


def test_parts_of_a_tree(small: Path) -> None:
    repo = ("--repo", small / "r")
    cfsctl(*repo, "extract", "im", "etc/link/", small / "bin")
    assert sorted(os.listdir(small / "bin")) == ["again", "tool"]
    assert (small / "bin" / "again").stat().st_nlink == 2
    cfsctl(*repo, "extract", "im", "/etc/small", small / "one")
    assert (small / "one" / "small").read_bytes() == b"small"
    assert os.listdir(small / "one") == ["small"]
    (small / "empty").mkdir()
    cfsctl(*repo, "extract", "im", "usr", small / "empty")
    assert (small / "empty" / "bin" / "tool").stat().st_size == 4000


@pytest.mark.skipif(not is_root, reason="needs root to become somebody else")
def test_other_users_own_what_they_extract(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "tool").write_bytes(b"tool" * 100)
    (tree / "tool").chmod(0o6755)
    (tree / "closed").mkdir()
    (tree / "closed" / "file").write_bytes(b"inner")
    (tree / "closed" / "again").hardlink_to(tree / "tool")
    (tree / "closed").chmod(0o000)
    os.chown(tree / "closed", 1, 2)
    os.mknod(tree / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    store_tree(tmp_path, tree)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o005 != 0o005:
            path.chmod(0o755)
    for path in [tmp_path / "r", *(tmp_path / "r").rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    # The interpreter of the tests may be where others may not look, so it imports what it needs before.
    program = (
        "import ctypes, json, os, pkgutil, cfsctl\n"
        "for module in pkgutil.walk_packages(cfsctl.__path__, 'cfsctl.'):\n"
        "    if not module.name.endswith(('__main__', '_lanes')): __import__(module.name)\n"
        "from cfsctl.cli.main import main\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "raise SystemExit(main())\n"
    )
    arguments = ("--json", "--repo", tmp_path / "r", "extract", "image:im")
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, home / "out"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "PermissionError" in done.stderr or "No module named" in done.stderr:
        pytest.skip("other users may not read the interpreter of the tests")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["skipped"] == ["device"]
    assert "device: left out, only root can create devices" in done.stderr
    out = home / "out"
    assert sorted(os.listdir(out)) == ["closed", "tool"]
    status = (out / "tool").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_nlink) == (0o755, NOBODY, 2)
    closed = (out / "closed").stat()
    assert (stat.S_IMODE(closed.st_mode), closed.st_uid) == (0, NOBODY)
    assert (out / "closed" / "file").read_bytes() == b"inner"


@pytest.mark.parametrize("damage", ["changed", "missing"])
@pytest.mark.parametrize("target", ["new", "empty"])
def test_nothing_is_left_of_a_damaged_tree(damage: str, target: str, small: Path) -> None:
    with make_repository(small / "r") as repository:
        (victim,) = repository.images.objects("im")
        file = object_file(repository, victim)
    if damage == "changed":
        flip_bit(file, 100)
    else:
        file.unlink()
    if target == "empty":
        (small / "out").mkdir()
    before = sorted(os.listdir(small))
    done = run_cfsctl("--repo", small / "r", "extract", "im", small / "out")
    assert (done.returncode, done.stdout) == (15, "")
    assert victim.hex() in done.stderr
    assert sorted(os.listdir(small)) == before
    assert target == "new" or os.listdir(small / "out") == []
    for command in (("show", "im", "usr/bin/tool"), ("extract", "--tar", "im", "/usr/bin/tool")):
        done = run_cfsctl("--repo", small / "r", *command)
        assert done.returncode == 15
        assert b"tooltool" not in done.stdout.encode()


def test_what_is_in_the_way_stays(small: Path) -> None:
    (small / "full").mkdir()
    (small / "full" / "mine").write_text("mine")
    (small / "file").write_text("file")
    for name in ("full", "file"):
        done = run_cfsctl("--repo", small / "r", "extract", "im", small / name)
        assert done.returncode == 2
        assert "expected a new or empty directory" in done.stderr
    assert (small / "full" / "mine").read_text() == "mine"
    (small / "open").mkdir()
    (small / "open").chmod(0o777)
    done = run_cfsctl("--repo", small / "r", "extract", "im", small / "open")
    assert (done.returncode, os.listdir(small / "open")) == (2, [])
    assert "only you may write to" in done.stderr
    done = run_cfsctl("--repo", small / "r", "extract", "im", small / "none" / "out")
    assert done.returncode == 17
    assert not (small / "none").exists()


def test_deep_trees(tmp_path: Path) -> None:
    """They are deeper than a process may have directories open, and paths longer than the kernel takes."""
    depth = 1500
    lines = ["/ 0 40755 2 0 0 0 1.0 - - -"]
    path = ""
    for _ in range(depth):
        path += "/dddd"
        lines.append(f"{path} 0 40555 2 0 0 0 1.0 - - -")
    lines.append(f"{path}/a 5 100644 2 0 0 0 1.0 - hello -")
    lines.append(f"{path}/b 5 @120000 - - - - 0.0 {path}/a - -")
    (tmp_path / "dump").write_text("\n".join(lines) + "\n")
    cfsctl("--no-repo", "extract", f"dump:{tmp_path / 'dump'}", tmp_path / "out")
    shown = cfsctl("--no-repo", "ls", "-R", f"dump:{tmp_path / 'dump'}").splitlines()
    assert len(shown) == depth + 2
    found = subprocess.run(
        ["find", tmp_path / "out", "-type", "f", "-links", "2", "-size", "5c"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert len(found.stdout.splitlines()) == 2
    (tmp_path / "dump").write_text("\n".join([*lines, "/z 100 100644 1 0 0 0 1.0 ab/cd - -"]) + "\n")
    done = run_cfsctl("--no-repo", "extract", f"dump:{tmp_path / 'dump'}", tmp_path / "again")
    assert done.returncode != 0
    assert sorted(os.listdir(tmp_path)) == ["dump", "out"]
    subprocess.run(["rm", "-rf", tmp_path / "out"], check=True, timeout=60)


def test_show(small: Path) -> None:
    repo = ("--repo", small / "r")
    assert cfsctl(*repo, "show", "im", "etc/absolute") == "small"
    assert cfsctl(*repo, "show", "image:im", "/etc/link/tool") == "tool" * 1000
    for path, text in (
        ("etc", "expected a file, found a directory"),
        ("etc/none", "no such file"),
        ("etc/small/x", "not a directory"),
    ):
        done = run_cfsctl(*repo, "show", "im", path)
        assert (done.returncode, done.stdout) == (17, "")
        assert text in done.stderr


def test_ls(small: Path) -> None:
    repo = ("--repo", small / "r")
    assert cfsctl(*repo, "ls", "im").splitlines() == ["etc", "usr"]
    assert cfsctl(*repo, "ls", "im", "etc/link").splitlines() == ["link"]
    assert cfsctl(*repo, "ls", "im", "etc/link/").splitlines() == ["again", "tool"]
    assert cfsctl(*repo, "ls", "-d", "im", "etc").splitlines() == ["/etc"]
    recursive = cfsctl(*repo, "ls", "-R", "im").splitlines()
    assert recursive[:3] == ["/etc", "/etc/absolute", "/etc/link"]
    # What could act on a terminal is escaped.
    assert "/etc/odd\\x1b[2J\\n" in recursive
    long = cfsctl(*repo, "ls", "-l", "im", "usr/bin").splitlines()
    assert [line.split()[0] for line in long] == ["-rwsr-xr-x", "-rwsr-xr-x"]
    assert [line.split()[3] for line in long] == ["4000", "4000"]
    entries = json.loads(cfsctl(*repo, "ls", "--json", "im", "usr/bin"))["entries"]
    assert [entry["path"] for entry in entries] == ["/usr/bin/again", "/usr/bin/tool"]
    assert entries[0]["object"] == entries[1]["object"]


def test_reflinks_take_no_space(small: Path) -> None:
    """Where the file system shares blocks, all content is shared; elsewhere nothing is."""
    done = run_cfsctl("--json", "--repo", small / "r", "extract", "im", small / "out")
    document = json.loads(done.stdout)
    assert document["reflinked_bytes"] in {0, 4000}
    assert (small / "out" / "usr" / "bin" / "tool").read_bytes() == b"tool" * 1000
    shutil.rmtree(small / "out")
