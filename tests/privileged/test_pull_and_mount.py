"""The main road from end to end: `ostree` commits, nginx serves, we pull and mount, the trees are equal."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.nginx import run_nginx
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.programs import cfsctl, require

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.compat,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own files and to mount"),
]

REF = "test/x86_64/main"

DESCRIBE = r"""
import hashlib, json, os, stat, sys
def describe(root):
    found = {}
    for base, dirs, files in os.walk(os.fsencode(root)):
        for name in [b".", *dirs, *files]:
            path = os.path.join(base, name)
            if name == b"." and base != os.fsencode(root):
                continue
            about = os.lstat(path)
            entry = [oct(about.st_mode), about.st_uid, about.st_gid]
            entry.append(sorted((k, os.getxattr(path, k, follow_symlinks=False).hex())
                                for k in os.listxattr(path, follow_symlinks=False)))
            if stat.S_ISLNK(about.st_mode):
                entry.append(os.fsdecode(os.readlink(path)))
            elif stat.S_ISREG(about.st_mode):
                entry.append([about.st_size, hashlib.sha256(open(path, "rb").read()).hexdigest()])
            found[os.fsdecode(os.path.relpath(path, os.fsencode(root)))] = entry
    return found
json.dump(describe(sys.argv[1]), sys.stdout)
"""


def make_tree(root: Path) -> None:
    """Make a tree of everything that OSTree can hold."""

    def put(name: str | bytes, data: bytes, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(data)
        os.chown(path, *owner)
        os.chmod(path, mode)

    put("usr/bin/tool", b"#!/bin/sh\n" * 50, 0o755)
    put("usr/bin/su", b"s" * 5000, 0o4755)
    put("usr/bin/wall", b"w" * 70, 0o2755, (0, 5))
    put("usr/lib/empty", b"")
    put("usr/lib/small", b"small")
    for size in (63, 64, 65, 127, 128, 129, 4095, 4096, 4097):
        put(f"usr/lib/{size}", bytes(size - 1) + b"\n")
    put("usr/lib/large", bytes(range(256)) * 20_000)
    put("usr/share/sp ace\n\\x", b"odd")
    put("usr/share/\N{SNOWMAN}", b"utf-8")
    put("usr/share/" + "n" * 255, b"long name")
    put("etc/shadow", b"root:!", 0o000, (0, 42))
    (root / "usr/lib/hard").hardlink_to(root / "usr/lib/large")
    (root / "usr/lib/soft").symlink_to("../bin/tool")
    (root / "usr/lib/dangling").symlink_to("/nowhere/" + "d" * 900)
    (root / "usr/empty").mkdir()
    (root / "var/tmp").mkdir(parents=True)
    (root / "var/tmp").chmod(0o1777)
    for path, name, value in (
        ("usr/bin/tool", "security.selinux", b"system_u:object_r:bin_t:s0\0"),
        ("usr", "security.selinux", b"system_u:object_r:usr_t:s0\0"),
        ("usr/bin/tool", "user.note", b"hello"),
        ("usr/lib/small", "user.binary", bytes(range(256))),
        ("usr/lib/small", "trusted.thing", b"t"),
        ("etc", "user.dir", b"d"),
    ):
        os.setxattr(root / path, name, value)


def describe(root: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE, root], capture_output=True, check=True, text=True, timeout=60
    )
    return done.stdout


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive repository that the real client made, and a checkout of its commit beside it."""
    require_ostree()
    work = tmp_path_factory.mktemp("upstream")
    old = os.umask(0o022)
    try:
        make_tree(work / "tree")
    finally:
        os.umask(old)
    repository = work / "repo"
    run_ostree(repository, "init", "--mode=archive")
    run_ostree(repository, "commit", f"--branch={REF}", f"--tree=dir={work / 'tree'}", "--subject=everything")
    run_ostree(work / "bare", "init", "--mode=bare")
    run_ostree(work / "bare", "pull-local", str(repository), REF)
    run_ostree(work / "bare", "checkout", REF, str(work / "checkout"))
    return work


@pytest.fixture(scope="module")
def url(upstream: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where nginx serves the repository."""
    with run_nginx(upstream / "repo", tmp_path_factory.mktemp("nginx")) as server:
        yield server.url


def mount_and_describe(store: Path, work: Path, *arguments: str) -> str:
    """Mount in a mount namespace of its own, describe what is there, and let go of it again."""
    mountpoint = work / "mnt"
    mountpoint.mkdir()
    script = f"""
set -e
mount --make-rprivate /
"{Path(sys.executable).parent}/cfsctl" --repo "{store}" {" ".join(arguments)} "{mountpoint}"
"{sys.executable}" -c "$0" "{mountpoint}"
"""
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, DESCRIBE],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", ["0", "1", "2"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_mounted_commit_equals_checkout(
    upstream: Path, url: str, tmp_path: Path, algorithm: str, version: str
) -> None:
    require("unshare", "util-linux")
    store = tmp_path / "store"
    cfsctl("init", "--insecure", f"--algorithm=fsverity-{algorithm}-12", f"--erofs-version={version}", store)
    pulled = cfsctl("--repo", store, "ostree", "pull", url, REF).splitlines()
    commit = run_ostree(upstream / "repo", "rev-parse", REF).strip()
    assert pulled[0] == f"commit  {commit}"
    assert f"tagged  {REF}" in pulled
    mounted = mount_and_describe(store, tmp_path, "ostree", "mount", REF)
    assert json.loads(mounted) == json.loads(describe(upstream / "checkout"))
    assert cfsctl("--repo", store, "fsck").splitlines()[-1] == "status: ok"


def test_pull_local_gives_the_same_image(upstream: Path, url: str, tmp_path: Path) -> None:
    images = []
    for name, verb, source in (("local", "pull-local", str(upstream / "repo")), ("http", "pull", url)):
        store = tmp_path / name
        cfsctl("init", "--insecure", store)
        cfsctl("--repo", store, "ostree", verb, source, REF)
        images.append(cfsctl("--repo", store, "ostree", "compute-id", REF))
    assert images[0] == images[1]


def test_every_object_is_a_plain_file_of_its_mode(upstream: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    cfsctl("init", "--insecure", store)
    cfsctl("--repo", store, "ostree", "pull-local", upstream / "repo", REF)
    modes = {stat.S_IMODE(path.lstat().st_mode) for path in (store / "objects").glob("*/*")}
    assert modes == {0o644}
