"""Images made of trees: the same each time, and with the same file system image as the tree itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from cfsctl.compression import Compression
from cfsctl.digest import Algorithm, qualified
from cfsctl.dumpfile import parse_dump
from cfsctl.errors import CfsError, IntegrityError
from cfsctl.oci.build import BuildOptions, build
from cfsctl.oci.manifest import Platform
from cfsctl.oci.store.images import open_found, resolve
from cfsctl.oci.tar.write import TarWriteError
from cfsctl.scan import scan_container_root
from cfsctl.scan.creating import create_image
from cfsctl.scan.images import build_images
from cfsctl.tree.transform import TransformError, XattrFilter, apply_oci_transform
from tests.support import schemas
from tests.support.oci import Layout, directory, file, make_tar
from tests.support.programs import CFSCTL, require, run_cfsctl
from tests.support.repositories import flip_bit, make_repository, object_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.oci.build import BuildResult
    from cfsctl.repository import Repository

LONG = "n" * 110


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", Algorithm.SHA256) as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory with names, links and sizes of all kinds."""
    root = tmp_path / "tree"
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / "large").write_bytes(bytes(range(256)) * 1000)
    (root / "usr" / "bin" / "hard").hardlink_to(root / "usr" / "bin" / "large")
    (root / "usr" / "bin" / "soft").symlink_to("large")
    (root / "usr" / "bin" / "deep").symlink_to("../" * 50 + "x")
    (root / "usr" / LONG).mkdir()
    (root / "usr" / LONG / LONG).write_bytes(b"x" * 65)
    (root / "usr" / "small").write_bytes(b"y" * 64)
    (root / "usr" / "empty").touch()
    (root / "usr" / os.fsdecode(b"\xff\n")).touch()
    os.mkfifo(root / "usr" / "fifo")
    for path in (root / "usr" / "bin" / "large", root / "usr" / "small", root / "usr"):
        os.utime(path, ns=(0, 1_234_567_890_123_456_789))
    return root


def build_tree(
    repository: Repository, tree: Path, options: BuildOptions | None = None, tag: str | None = "t"
) -> BuildResult:
    scanned = scan_container_root(
        str(tree), algorithm=repository.algorithm, store=repository.objects, propagate_usr=False
    )
    return build(repository, scanned, tag, options or BuildOptions())


def build_dump(repository: Repository, lines: str, options: BuildOptions | None = None) -> BuildResult:
    tree = parse_dump(BytesIO(lines.encode()), repository.algorithm)
    return build(repository, tree, "t", options or BuildOptions())


DUMP = """\
/ 4096 40755 3 0 0 0 0.0 - - -
/usr 4096 40700 2 4294967295 2097152 0 -5.0 - - - security.capability=\\x01\\x00\\x02 trusted.x=y
/usr/late 3 100644 1 0 0 0 99999999999.5 - abc -
/usr/device 0 20600 1 0 0 259 1.0 - - -
/usr/zeros 300000 100644 1 0 0 0 1.0 - - -
/usr/attribute 3 107777 1 1 2 0 7.000000001 - abc - user.k=\\n\\x3d\\xff security.selinux=label
"""


class TestImageIDs:
    """The file system image of what was built is that of the tree itself."""

    def test_of_a_directory(self, repository: Repository, tree: Path) -> None:
        assert build_tree(repository, tree).pulled.image == create_image(repository, str(tree))

    def test_of_odd_metadata(self, repository: Repository) -> None:
        # A file of zeros without an object becomes one with an object, as any archive has it.
        lines = "".join(line for line in DUMP.splitlines(keepends=True) if "/zeros" not in line)
        built = build_dump(repository, lines)
        plain = parse_dump(BytesIO(lines.encode()), repository.algorithm)
        apply_oci_transform(plain, XattrFilter.ALLOWLIST_ONLY)
        assert built.pulled.image == build_images(repository, plain)

    def test_of_an_image_again(self, repository: Repository, tree: Path, tmp_path: Path) -> None:
        image = create_image(repository, str(tree), "web")
        done = run_cfsctl("--repo", tmp_path / "r", "oci", "build", "image:web", "app", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["image"] == qualified(image)

    def test_of_a_commit(self, repository: Repository, tree: Path, tmp_path: Path) -> None:
        (tree / "usr" / "fifo").unlink()
        (tree / "usr" / os.fsdecode(b"\xff\n")).unlink()
        create_image(repository, str(tree), "web")
        run = ("--repo", tmp_path / "r")
        done = run_cfsctl(*run, "ostree", "commit", "web", "--reference", "branch", "--timestamp", "@1")
        assert done.returncode == 0, done.stderr
        done = run_cfsctl(*run, "oci", "build", "commit:branch", "app", "--json")
        assert done.returncode == 0, done.stderr
        dump = run_cfsctl(*run, "ostree", "dump", "branch").stdout
        expected = parse_dump(BytesIO(dump.encode()), repository.algorithm)
        apply_oci_transform(expected, XattrFilter.ALLOWLIST_ONLY)
        assert json.loads(done.stdout)["image"] == qualified(build_images(repository, expected))


class TestReproducible:
    def test_in_another_repository(self, repository: Repository, tree: Path, tmp_path: Path) -> None:
        first = build_tree(repository, tree)
        with make_repository(tmp_path / "other") as other:
            second = build_tree(other, tree)
        assert first.pulled.manifest_digest == second.pulled.manifest_digest

    def test_the_bytes_are_the_same_as_ever(self, repository: Repository) -> None:
        """Not compressed, so that no library has a part in it."""
        options = BuildOptions(
            platform=Platform("linux", "arm64", "v8"),
            compression=Compression.NONE,
            source_date_s=1_000_000_000,
            entrypoint=["/usr/bin/x"],
            cmd=["-y"],
            env={"PATH": "/usr/bin"},
            labels={"b": "2", "a": "1"},
        )
        digest = build_dump(repository, DUMP, options).pulled.manifest_digest
        assert str(digest) == "sha256:e895240915605f763a348d04a834bad30582b906311532d2257044890691c96c"

    def test_later_times_become_the_source_date(self, repository: Repository, tree: Path) -> None:
        options = BuildOptions(source_date_s=1_500_000_000)
        first = build_tree(repository, tree, options)
        os.utime(tree / "usr" / "bin" / "large", ns=(0, 1_600_000_000_000_000_000))
        os.utime(tree / "usr" / "empty")
        before = build_tree(repository, tree, options)
        os.utime(tree / "usr" / "empty", ns=(0, 1_700_000_000_000_000_000))
        assert build_tree(repository, tree, options).pulled.manifest_digest == before.pulled.manifest_digest
        assert first.pulled.manifest_digest != before.pulled.manifest_digest
        config = json.loads(open_found(repository, resolve(repository, "t")).config_document.data)
        assert config["created"] == config["history"][0]["created"] == "2017-07-14T02:40:00Z"


def test_on_top_of_another_image(tree: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    lower = make_tar([directory("usr"), file("usr/lower", b"l" * 100), file("usr/small", b"old")])
    config = {
        "config": {"Env": ["A=1", "B=2"], "Cmd": ["old"], "User": "me", "Labels": {"k": "v"}},
        "history": [{"created_by": "x"}],
    }
    layout.add_image("base", [lower], config=config)
    make_repository(tmp_path / "r").close()
    run = ("--repo", tmp_path / "r", "oci")
    assert run_cfsctl(*run, "pull", f"oci:{layout.path}:base", "base").returncode == 0
    done = run_cfsctl(
        *(*run, "build", tree, "top", "--base", "base", "--env", "B=3", "--label", "l=w"),
        *("--entrypoint", "/usr/bin/large", "--cmd", "a", "--cmd", "b"),
    )
    assert done.returncode == 0, done.stderr
    inspected = json.loads(run_cfsctl(*run, "inspect", "top", "--config").stdout)
    assert inspected["config"] == {
        "Env": ["A=1", "B=3"],
        "Cmd": ["a", "b"],
        "User": "me",
        "Labels": {"k": "v", "l": "w"},
        "Entrypoint": ["/usr/bin/large"],
    }
    assert len(inspected["rootfs"]["diff_ids"]) == len(inspected["history"]) == 2
    dump = run_cfsctl(*run, "dump", "top").stdout
    assert "/usr/lower " in dump
    assert "/usr/small 64 " in dump
    assert run_cfsctl(*run, "fsck", "--deep").returncode == 0


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_others_read_it(repository: Repository, tree: Path, tmp_path: Path, compression: str) -> None:
    require("skopeo")
    run = ("--repo", tmp_path / "r", "oci")
    done = run_cfsctl(*run, "build", tree, "app", "--compression", compression, "--json")
    assert done.returncode == 0, done.stderr
    built = json.loads(done.stdout)
    schemas.check(built, "oci-build")
    place = f"oci:{tmp_path}/out:app"
    done = run_cfsctl(*run, "push", "app", place, "--preserve-digests")
    assert done.returncode == 0, done.stderr
    found = subprocess.run(["skopeo", "inspect", place], capture_output=True, check=True)
    assert json.loads(found.stdout)["Digest"] == built["manifest"]
    copy = ["skopeo", "--insecure-policy", "copy", place, f"dir:{tmp_path}/copy"]
    subprocess.run(copy, check=True, capture_output=True)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    layer = run_cfsctl(*run, "inspect", "app", "--config")
    (diff_id,) = json.loads(layer.stdout)["rootfs"]["diff_ids"]
    tar = tmp_path / "layer.tar"
    with open(tar, "wb") as target:
        subprocess.run([CFSCTL, *run, "layer", diff_id], stdout=target, check=True)
    subprocess.run(["tar", "-xpf", tar, "-C", unpacked], check=True)
    assert qualified(create_image(repository, str(unpacked))) == built["image"]


NO_USR = "/ 4096 40755 2 0 0 0 0.0 - - -\n"
WHITEOUT = """\
/ 4096 40755 3 0 0 0 0.0 - - -
/usr 4096 40755 2 0 0 0 0.0 - - -
/usr/.wh.x 0 100644 1 0 0 0 0.0 - - -
"""


def test_a_full_disk_for_temporary_files_is_named(tmp_path: Path) -> None:
    require("prlimit", "util-linux")
    tree = tmp_path / "tree" / "usr"
    tree.mkdir(parents=True)
    for number in range(100):
        (tree / f"f{number}").write_bytes(b"x" * 65)
    make_repository(tmp_path / "r").close()
    (tmp_path / "temporary").mkdir()
    command = ["prlimit", "--fsize=50000", str(CFSCTL), "--repo", str(tmp_path / "r")]
    done = subprocess.run(
        [*command, "oci", "build", str(tree.parent), "app", "--compression", "none"],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )
    assert done.returncode != 0
    assert f"{tmp_path}/temporary: temporary file" in done.stderr
    assert not list((tmp_path / "temporary").iterdir())
    assert run_cfsctl("--repo", tmp_path / "r", "fsck").returncode == 0


REFUSED: dict[str, tuple[str, type[CfsError], str]] = {
    "a whiteout": (WHITEOUT, TarWriteError, r"usr/\.wh\.x: a name that begins with \.wh\."),
    "no /usr": (NO_USR, TransformError, '"usr" does not exist'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_built(repository: Repository, case: str) -> None:
    lines, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        build_dump(repository, lines)


def test_an_attribute_without_a_name_in_archives(repository: Repository) -> None:
    lines = "/ 4096 40755 3 0 0 0 0.0 - - -\n/usr 4096 40755 2 0 0 0 0.0 - - - user.a\\x3db=c\n"
    options = BuildOptions(xattr_filter=XattrFilter.KEEP_USER)
    with pytest.raises(TarWriteError, match=r"usr/: extended attribute 'user\.a=b'"):
        build_dump(repository, lines, options)


def test_sockets_are_skipped_and_listed(tree: Path, tmp_path: Path) -> None:
    make_repository(tmp_path / "r").close()
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        try:
            os.chdir(tree)
            made.bind("usr/socket")
        finally:
            os.chdir(here)
        done = run_cfsctl("--repo", tmp_path / "r", "oci", "build", tree, "app", "--json")
    assert done.returncode == 3
    assert "usr/socket: skipped" in done.stderr
    assert json.loads(done.stdout)["skipped"] == ["usr/socket"]


def test_content_that_is_damaged_is_not_built(repository: Repository, tree: Path) -> None:
    scanned = scan_container_root(
        str(tree), algorithm=repository.algorithm, store=repository.objects, propagate_usr=False
    )
    large = scanned.root.entries[b"usr"].entries[b"bin"].entries[b"large"]  # type: ignore[union-attr]
    flip_bit(object_file(repository, large.object_id), 500)  # type: ignore[union-attr]
    with pytest.raises(IntegrityError):
        build(repository, scanned, "t", BuildOptions())
    assert repository.streams.list_streams() == []


@pytest.mark.parametrize(
    "arguments",
    [("--env", "X"), ("--label", "=x"), ("--platform", "x"), ("--compression", "xz"), ("--base", "nothing")],
)
def test_wrong_options(tree: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    make_repository(tmp_path / "r").close()
    done = run_cfsctl("--repo", tmp_path / "r", "oci", "build", tree, "app", *arguments)
    assert done.returncode in {2, 16, 17}, done.stderr
    assert not list((tmp_path / "r" / "streams").glob("oci-*"))
