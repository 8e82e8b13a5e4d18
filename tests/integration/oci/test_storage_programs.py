"""Storages that skopeo and buildah have written, also those of an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import cfsctl as package
from cfsctl.digest import Algorithm
from tests.support.oci import Layout, directory, file, hard_link, make_tar, symlink
from tests.support.programs import cfsctl, require, run_cfsctl
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.compat,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: storages map user IDs"),
]

TREE: Final = make_tar(
    [
        directory("usr"),
        directory("usr/bin"),
        file("usr/bin/tool", b"t" * 70_000, 0o755),
        file("usr/bin/su", b"s" * 5000, 0o4755),
        file("usr/bin/private", b"p" * 5000, 0o600),
        hard_link("usr/bin/hard", "usr/bin/tool"),
        symlink("usr/bin/link", "tool"),
        file("usr/" + "n" * 120, b"long" * 30),
        ("usr/caps", b"0", 0o755, 0, b"c" * 500, {"SCHILY.xattr.user.k": "v"}),
    ]
)
LAYERS: Final = [
    TREE,
    make_tar([directory("usr"), file("usr/.wh.caps"), file("usr/new", b"x" * 99)]),
]


class Programs:
    """The programs with a storage of their own."""

    def __init__(self, path: Path, driver: str) -> None:
        self.path = path
        self.driver = driver
        self.reference = f"containers-storage:[{driver}@{path}/root+{path}/run]"
        (path / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{path}/root"\nrunroot = "{path}/run"\n'
        )
        self.environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(path / "storage.conf")}

    def run(self, *words: str | Path) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, check=False, text=True)
        if done.returncode and ("overlay" in done.stderr or "mount" in done.stderr):
            pytest.skip(f"no {self.driver} storage here: {done.stderr[-300:]}")
        assert not done.returncode, done.stderr
        return done.stdout

    def skopeo_copy(self, source: str, name: str) -> None:
        self.run("skopeo", "--insecure-policy", "copy", "--quiet", source, f"{self.reference}{name}")


@pytest.fixture(params=["overlay", "vfs"])
def programs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Programs]:
    for program in ("skopeo", "buildah"):
        require(program)
    yield Programs(tmp_path, request.param)
    # The driver overlay mounts its directory on itself, which would stay.
    subprocess.run(
        ["umount", "--quiet", "--lazy", tmp_path / "root" / request.param], check=False, capture_output=True
    )


def pull(
    repository: Path, image: str, *options: str, environment: dict[str, str] | None = None
) -> dict[str, object]:
    with make_repository(repository, Algorithm.SHA256):
        pass
    done = run_cfsctl("--repo", repository, "oci", "pull", image, "t", "--json", *options, env=environment)
    assert done.returncode == 0, done.stderr
    checked = cfsctl("--repo", repository, "oci", "fsck", "--deep", "--json")
    assert json.loads(checked)["ok"], checked
    found: dict[str, object] = json.loads(done.stdout)
    return found


def without_counts(found: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in found.items() if key in {"manifest", "config", "stream", "image"}}


@pytest.mark.parametrize("fetch", ["disabled", "auto"])
def test_an_image_that_skopeo_has_copied(tmp_path: Path, programs: Programs, fetch: str) -> None:
    layout = Layout(tmp_path / "layout")
    layout.add_image("t", LAYERS)
    programs.skopeo_copy(f"oci:{layout.path}:t", "localhost/a:b")
    expected = pull(tmp_path / "expected", f"oci:{layout.path}:t")
    found = pull(tmp_path / "found", f"{programs.reference}localhost/a:b", "--local-fetch", fetch)
    assert without_counts(found) == without_counts(expected)
    assert found["inlined_bytes"] == expected["inlined_bytes"]


def test_an_image_that_buildah_has_built(tmp_path: Path, programs: Programs) -> None:
    tree = tmp_path / "tree"
    (tree / "usr").mkdir(parents=True)
    (tree / "usr" / "file").write_bytes(os.urandom(200_000))
    container = programs.run("buildah", "from", "scratch").strip()
    programs.run("buildah", "copy", container, tree, "/")
    programs.run("buildah", "commit", "--quiet", container, "localhost/built")
    programs.run("buildah", "commit", "--quiet", "--format", "docker", container, "localhost/docker")
    for name in ("built", "localhost/docker:latest"):
        found = pull(
            tmp_path / name.replace("/", "-"), f"containers-storage:{name}", environment=programs.environment
        )
        assert found["new_objects"] == 1
    target = f"oci:{tmp_path}/copy:t"
    programs.run(
        "skopeo", "--insecure-policy", "copy", "--quiet", f"{programs.reference}localhost/built", target
    )
    copied = pull(tmp_path / "copied", target)
    assert copied["config"] == pull(tmp_path / "again", f"{programs.reference}built")["config"]


USER: Final = 24680
AS_USER: Final = (
    'for each in python packages sources; do mount --bind "$1" $each || exit 77; shift; done; '
    "mount --bind subid /etc/subuid && mount --bind subid /etc/subgid || exit 77; "
    "mount --bind passwd /etc/passwd || exit 77; "
    f'exec setpriv --reuid={USER} --regid={USER} --clear-groups "$@"'
)
PROGRAM: Final = "import sys; from cfsctl.cli.main import main; sys.argv[0] = 'cfsctl'; sys.exit(main())"


@pytest.mark.alone
@pytest.mark.privileged
@pytest.mark.parametrize("lends", [True, False], ids=["namespace", "nothing lent"])
def test_the_storage_of_an_ordinary_user(tmp_path: Path, lends: bool) -> None:  # noqa: FBT001 - a parameter
    """Files of other IDs that only their owners may read, as rootless containers make them."""
    for program in ("newuidmap", "unshare", "setpriv"):
        require(program, "uidmap" if program == "newuidmap" else "util-linux")
    from tests.support.container_storage import Storage

    storage = Storage(tmp_path / "home" / "storage")
    storage.add_image(["localhost/a:b"], [TREE])
    for path in [tmp_path / "home", *(tmp_path / "home").rglob("*")]:
        os.chown(path, USER, USER)
    files = storage.files(str(storage.layers[0]["id"])) / "usr"
    (files / "bin" / "private").chmod(0o600)
    os.chown(files / "bin" / "private", 700_005, 700_005)
    os.chown(files / "bin", 700_001, 700_001)
    (files / "bin").chmod(0o700)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(0o755)
    for name in ("python", "packages", "sources"):
        (tmp_path / name).mkdir()
    (tmp_path / "subid").write_text(f"{USER}:700000:65536\n" if lends else "")
    (tmp_path / "passwd").write_text(f"root:x:0:0::/root:/bin/sh\nlender:x:{USER}:{USER}::/:/bin/sh\n")
    sources = Path(package.__file__).parents[1]
    interpreter = tmp_path / f"python/bin/python{sys.version_info.major}.{sys.version_info.minor}"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private", "sh", "-c", AS_USER, "sh"),
                *(sys.base_prefix, sysconfig.get_path("purelib"), str(sources)),
                *(str(interpreter), "-c", PROGRAM, *arguments),
            ],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{tmp_path}/sources:{tmp_path}/packages",
                "HOME": str(tmp_path / "home"),
                "CONTAINERS_STORAGE_ROOT": str(storage.path),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    repository = str(tmp_path / "home" / "repository")
    made = run("--insecure", "--repo", repository, "init")
    if made.returncode == 77:
        pytest.skip(f"cannot mount here: {made.stderr}")
    assert made.returncode == 0, made.stderr
    done = run(
        "--repo", repository, "oci", "pull", "containers-storage:a:b", "t", "--json", "--local-fetch", "auto"
    )
    if not lends:
        assert done.returncode == 14
        assert "Permission denied (no user namespace: /etc/subuid has no subordinate IDs" in done.stderr
        assert "podman unshare" in done.stderr
        return
    if "user namespace" in done.stderr and "kernel does not let" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new_objects"] == 5
    checked = run("--repo", repository, "oci", "fsck", "--deep")
    assert checked.returncode == 0, checked.stdout


def test_the_programs_are_not_needed(tmp_path: Path) -> None:
    """The pull runs no program: PATH is empty."""
    from tests.support.container_storage import Storage

    storage = Storage(tmp_path / "storage")
    storage.add_image(["localhost/a:b"], [TREE])
    assert shutil.which("sh") is not None
    environment = {"CONTAINERS_STORAGE_ROOT": str(storage.path), "PATH": "", "HOME": str(tmp_path)}
    pull(tmp_path / "r", "containers-storage:a:b", environment=environment)
