"""Our images against those of the C mkcomposefs, and what fsck.erofs says of them."""

from __future__ import annotations

import csv
import gzip
import os
import random
import stat
import subprocess
from pathlib import Path

import pytest

from cfsctl.cli.tools.mkcomposefs import main
from cfsctl.digest import Algorithm
from cfsctl.dumpfile import Dialect, DumpfileError
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.write.defects import is_unreadable_in_v2
from cfsctl.erofs.write.image import build_image
from cfsctl.tree.model import Directory
from tests.support.programs import c_program, require
from tests.support.vectors import Recorded, golden, image_digest, parse, random_trees

V2 = FormatVersion.V2

pytestmark = pytest.mark.compat


DUMPS = Path(__file__).parents[1] / "vectors" / "erofs" / "composefs-c"


def rows(name: str) -> list[dict[str, str]]:
    with open(DUMPS / name, newline="") as table:
        return list(csv.DictReader(table, delimiter="\t"))


def stored(row: dict[str, str]) -> bytes:
    return gzip.decompress((DUMPS / f"{row['dump']}.gz").read_bytes())


def test_dumps_of_the_c_project() -> None:
    found, expected = {}, {}
    for row in rows("digests.tsv"):
        dump = stored(row)
        for dialect, prefix in ((Dialect.C, "c"), (Dialect.RUST, "rust")):
            for version in FormatVersion:
                digest = row.get(f"{prefix}_v{version.value}", "-")
                if digest != "-":
                    key = (row["dump"], dialect, version)
                    expected[key] = digest
                    found[key] = image_digest(dump, version, dialect)
    assert len(expected) > 30
    assert found == expected


def test_dumps_that_the_c_project_refuses() -> None:
    tables = rows("must-fail.tsv")
    assert len(tables) > 10
    for row in tables:
        with pytest.raises((DumpfileError, ErofsError)) as caught:
            image_digest(stored(row), FormatVersion.V1, Dialect.C)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with everything that can be made in one without privileges, and more with."""
    root = tmp_path_factory.mktemp("tree")
    source = random.Random(5)
    (root / "a" / "b" / "c").mkdir(parents=True)
    for number in range(150):
        path = root / "a" / ("b" if number % 3 else ".") / f"file-{number}"
        path.write_bytes(source.randbytes(source.choice([0, 1, 64, 65, 5000])))
        if number % 7 == 0:
            os.setxattr(path, "user.note", b"note %d" % (number % 3))
        os.utime(path, ns=(0, source.randrange(10**18)))
    (root / "link").symlink_to("x" * 300)
    (root / "a" / "hard").hardlink_to(root / "a" / "b" / "file-1")
    (root / "sp ace\n\\x").write_bytes(b"odd")
    os.mkfifo(root / "pipe")
    if os.geteuid() == 0:
        os.mknod(root / "device", 0o600 | stat.S_IFBLK, os.makedev(8, 1))
        os.mknod(root / "a" / "gone", 0o600 | stat.S_IFCHR, 0)
        os.mknod(root / "ab", 0o644 | stat.S_IFCHR, 0)
    return root


OPTIONS = [
    [],
    ["--use-epoch"],
    ["--skip-xattrs"],
    ["--user-xattrs"],
    ["--skip-devices"],
    ["--min-version=0"],
    ["--max-version=0"],
    ["--min-version=1"],
    ["--threads=1"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_directories(
    options: list[str], tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*options, "--print-digest", str(tree)]
    theirs = subprocess.run(
        [c_program("mkcomposefs"), *arguments, tmp_path / "theirs"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert main([*arguments, str(tmp_path / "ours")]) == 0
    assert capsys.readouterr().out == theirs.stdout
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_digest_stores(tree: Path, tmp_path: Path) -> None:
    def content(store: Path) -> dict[str, bytes]:
        return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}

    program = c_program("mkcomposefs")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    subprocess.run([program, f"--digest-store={theirs}", tree, tmp_path / "i"], check=True, timeout=60)
    assert main([f"--digest-store={ours}", str(tree), str(tmp_path / "j")]) == 0
    assert content(ours) == content(theirs)


@pytest.mark.parametrize(
    "tree",
    [tree for tree in random_trees() if tree.algorithm is Algorithm.SHA256][:10],
    ids=lambda tree: tree.name,
)
def test_dumps(tree: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = tmp_path / "dump"
    dump.write_bytes(tree.read())
    theirs = subprocess.run(
        [c_program("mkcomposefs"), "--from-file", "--print-digest-only", dump],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert main(["--from-file", "--print-digest-only", str(dump)]) == 0
    assert capsys.readouterr().out == theirs.stdout


@pytest.mark.parametrize("version", FormatVersion)
def test_fsck_accepts_images(version: FormatVersion, tmp_path: Path) -> None:
    require("fsck.erofs", "erofs-utils")
    checked = 0
    for recorded in random_trees() if version is V2 else random_trees()[::2]:
        if version in recorded.digests:
            filesystem = parse(recorded.read(), Dialect.C, recorded.algorithm)
            if version is V2 and has_defects(filesystem.root):
                continue
            (tmp_path / "image").write_bytes(build_image(filesystem, version, Dialect.C))
            check(tmp_path / "image", recorded.name)
            checked += 1
    for tree in golden():
        filesystem = parse(tree["dump"])
        if version is V2 and has_defects(filesystem.root):
            continue
        (tmp_path / "image").write_bytes(build_image(filesystem, version))
        check(tmp_path / "image", tree["name"])
    assert checked > 10


def has_defects(directory: Directory) -> bool:
    """Tell whether there are files that the original's images of format 2 get wrong."""
    return any(
        has_defects(entry) if isinstance(entry, Directory) else is_unreadable_in_v2(entry)
        for entry in directory.entries.values()
    )


def check(image: Path, name: str) -> None:
    done = subprocess.run(["fsck.erofs", image], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def test_fsck_refuses_what_is_broken(tmp_path: Path) -> None:
    """The checks above can fail: format 2 with a link target across blocks, as the original writes it."""
    require("fsck.erofs", "erofs-utils")
    image = build_image(
        parse("/ 0 40755 2 0 0 0 0.0 - - -\n/l 4000 120777 1 0 0 0 0.0 " + "t" * 4000 + " - -\n"), V2
    )
    nid = image.index(b"t" * 4000) - 64
    (tmp_path / "image").write_bytes(image[:nid] + image[nid + 4 :] + bytes(4))
    done = subprocess.run(["fsck.erofs", tmp_path / "image"], capture_output=True, check=False, timeout=60)
    assert done.returncode != 0
