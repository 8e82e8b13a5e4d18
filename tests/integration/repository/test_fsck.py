"""A check finds what is wrong, in the words of the original, and changes nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.fsverity.kernel import VerityMissingError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.linux.files import random_name
from cfsctl.repository.check import objects as fsck_objects
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.check.objects import CheckFailedError, ObjectChecker
from cfsctl.repository.metadata.config import Config, format_config
from tests.support.repositories import flip_bit, make_image, make_repository, object_file, view, write_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.repository.check.report import FsckReport

LARGE = b"large " * 20_000


class Store:
    """A repository with one of everything.

    Attributes:
        file: An object that image and stream refer to.
        image: An image with the refs ``a`` and ``b/c``.
        stream: A stream with the ref ``r``, which names the image.
    """

    def __init__(self, path: Path, algorithm: Algorithm = Algorithm.SHA512) -> None:
        self.path = path
        self.repository = make_repository(path, algorithm)
        self.file = self.repository.objects.ensure_bytes(LARGE).object_id
        self.image = self.repository.images.write(make_image([self.file]), "a").object_id
        self.repository.images.link(self.image, "b/c")
        self.stream = write_stream(self.repository, "s", [self.file], {"composefs.image": self.image}, "r")

    def path_of(self, object_id: ObjectID) -> Path:
        return object_file(self.repository, object_id)

    def check(self, *, deep: bool = False, metadata_only: bool = False) -> FsckReport:
        before = view(self.path)
        report = check_repository(self.repository, deep=deep, metadata_only=metadata_only)
        assert view(self.path) == before
        return report


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "r")
    yield store
    store.repository.close()


def named(object_id: ObjectID) -> str:
    digits = object_id.hex()
    return f"objects/{digits[:2]}/{digits[2:]}"


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("deep", [False, True])
def test_sound_repository(tmp_path: Path, algorithm: Algorithm, *, deep: bool) -> None:
    store = Store(tmp_path, algorithm)
    assert store.check(deep=deep).lines() == [
        "meta.json: ok",
        "objects: 3/3 ok",
        "streams: 1/1 ok",
        "images: 1/1 ok",
        "status: ok",
    ]
    assert store.check(deep=deep, metadata_only=True).lines()[1] == "objects: 0/0 ok"
    store.repository.close()


def test_empty_repository(tmp_path: Path) -> None:
    with make_repository(tmp_path) as repository:
        assert check_repository(repository).lines() == [
            "meta.json: ok",
            "objects: 0/0 ok",
            "streams: 0/0 ok",
            "images: 0/0 ok",
            "status: ok",
        ]


def replace_entry(store: Store, path: str, text: str) -> None:
    (store.path / path).unlink()
    (store.path / path).symlink_to(text)


def alter_stream_size(store: Store) -> None:
    """Store a copy of the stream that claims another size, under its right digest."""
    data = bytearray(store.path_of(store.stream).read_bytes())
    data[104] ^= 1
    replace_by(store, "streams/s", bytes(data))


def break_stream_section(store: Store) -> None:
    """Store a copy of the stream whose last section is cut short, under its right digest."""
    data = bytearray(store.path_of(store.stream).read_bytes())
    data[-3] ^= 0x55
    replace_by(store, "streams/s", bytes(data))


def replace_by(store: Store, path: str, data: bytes) -> None:
    digits = store.repository.objects.ensure_bytes(data).object_id.hex()
    replace_entry(store, path, f"../objects/{digits[:2]}/{digits[2:]}")


def put_files(*paths: Path) -> None:
    for path in paths:
        put_file(path)


def link_to_fifo(store: Store) -> None:
    os.mkfifo(store.path / "fifo")
    (store.path / "images/fifo").symlink_to("../fifo")


def leave_temporaries(store: Store) -> None:
    (store.path / random_name(".symlink-")).symlink_to("x")
    (store.path / "objects" / random_name(".tmp-object-")).touch()


def put_file(path: Path, make: Callable[[Path], object] = Path.touch) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)


NAME = "0" * 126
EMPTY = compute_digest(b"", Algorithm.SHA512).hex()

# What is done, what is found (a pattern each), and the counts that are not zero afterwards.
FINDINGS: dict[str, tuple[Callable[[Store], object], list[str], dict[str, int]]] = {
    "flipped bit": (
        lambda s: flip_bit(s.path_of(s.file), 70_000),
        [r"object-digest-mismatch: objects/../[0-9a-f]{126}: measured [0-9a-f]{128}"],
        {"objects_corrupted": 1},
    ),
    "truncated": (
        lambda s: os.truncate(s.path_of(s.file), 4096),
        ["object-digest-mismatch: .*"],
        {"objects_corrupted": 1},
    ),
    "zero length": (
        lambda s: os.truncate(s.path_of(s.file), 0),
        [f"object-digest-mismatch: .*: measured {EMPTY}"],
        {"objects_corrupted": 1},
    ),
    "missing": (
        lambda s: s.path_of(s.file).unlink(),
        ["missing-object-ref: streams/s: [0-9a-f]{128}", "image-missing-object: images/[0-9a-f]{128}: .*"],
        {"missing_objects": 2},
    ),
    "missing image": (
        lambda s: s.path_of(s.image).unlink(),
        [
            "missing-named-ref: streams/s: ref composefs.image: [0-9a-f]{128}",
            "broken-symlink: images/[0-9a-f]{128}",
            "broken-symlink: images/refs/a",
            "broken-symlink: images/refs/b/c",
        ],
        {"missing_objects": 1, "broken_links": 3, "images_corrupted": 1},
    ),
    "missing stream": (
        lambda s: s.path_of(s.stream).unlink(),
        ["broken-symlink: streams/s", "broken-symlink: streams/refs/r"],
        {"broken_links": 2, "streams_corrupted": 1},
    ),
    "missing entry": (
        lambda s: (s.path / "images" / s.image.hex()).unlink(),
        ["broken-symlink: images/refs/a", "broken-symlink: images/refs/b/c"],
        {"broken_links": 2},
    ),
    "name too short": (
        lambda s: put_file(s.path / "objects/00/short"),
        ["object-invalid-name: objects/00/short: Invalid string length"],
        {"objects_corrupted": 1},
    ),
    "name in upper case": (
        lambda s: put_file(s.path / "objects/00" / ("0" * 125 + "A")),
        ["object-invalid-name: objects/00/0*A: Invalid character 'A' at position 125"],
        {"objects_corrupted": 1},
    ),
    "directory for an object": (
        lambda s: put_file(s.path / "objects/00" / NAME, Path.mkdir),
        ["object-verity-failed: objects/00/0*: Computing verity digest in userspace"],
        {"objects_corrupted": 1},
    ),
    "dangling link for an object": (
        lambda s: put_file(s.path / "objects/00" / NAME, lambda path: path.symlink_to("nope")),
        [r"object-open-failed: objects/00/0*: No such file or directory \(os error 2\)"],
        {"objects_corrupted": 1},
    ),
    "link for an object": (
        lambda s: put_file(s.path / "objects/00" / NAME, lambda path: path.symlink_to("/etc/hostname")),
        ["object-open-failed: objects/00/0*: expected a regular file, found a symbolic link"],
        {"objects_corrupted": 1},
    ),
    "fifo for an object": (
        lambda s: put_file(s.path / "objects/00" / NAME, os.mkfifo),
        ["object-open-failed: objects/00/0*: expected a regular file, found a fifo"],
        {"objects_corrupted": 1},
    ),
    "what is no directory of objects": (lambda s: put_file(s.path / "objects/zz/q"), [], {}),
    "file for an entry": (
        lambda s: put_files(s.path / "images/file", s.path / "streams/file"),
        ["entry-not-symlink: streams/file", "entry-not-symlink: images/file"],
        {"images_corrupted": 1, "streams_corrupted": 1},
    ),
    "directory for an entry": (
        lambda s: put_file(s.path / "images/dir", Path.mkdir),
        ["entry-not-symlink: images/dir"],
        {"images_corrupted": 1},
    ),
    "file for a ref": (
        lambda s: put_file(s.path / "images/refs/b/reg"),
        ["unexpected-file-type: images/refs/b/reg: RegularFile"],
        {},
    ),
    "fifo for a ref": (
        lambda s: put_file(s.path / "streams/refs/x/fifo", os.mkfifo),
        ["unexpected-file-type: streams/refs/x/fifo: Fifo"],
        {},
    ),
    "loop": (
        lambda s: (s.path / "images/refs/loop").symlink_to("loop"),
        [r"stat-failed: images/refs/loop: Too many levels of symbolic links \(os error 40\)"],
        {},
    ),
    "entry in a loop": (
        lambda s: (s.path / "images/loop").symlink_to("loop"),
        [r"stat-failed: images/loop: Too many levels of symbolic links \(os error 40\)"],
        {},
    ),
    "entry that leads to a fifo": (
        link_to_fifo,
        ["image-open-failed: images/fifo: expected a regular file, found a fifo"],
        {"images_corrupted": 1},
    ),
    "stream that is none": (
        lambda s: replace_by(s, "streams/s", b"no stream"),
        ["stream-open-failed: streams/s: Opening stream 's': .*"],
        {"streams_corrupted": 1},
    ),
    "image that is none": (
        lambda s: replace_by(s, f"images/{s.image.hex()}", b"no image"),
        ["image-invalid: images/[0-9a-f]{128}: Invalid image: cannot parse header.*"],
        {"images_corrupted": 1},
    ),
    "name that is not valid in UTF-8": (
        lambda s: os.symlink("nope", os.fsencode(s.path) + b"/images/refs/\xff"),
        ["broken-symlink: images/refs/\ufffd"],
        {"broken_links": 1},
    ),
}


@pytest.mark.parametrize("case", FINDINGS, ids=FINDINGS.keys())
def test_finding(store: Store, case: str) -> None:
    spoil, patterns, counts = FINDINGS[case]
    spoil(store)
    report = store.check()
    assert_findings(report, patterns)
    document = report.as_dict()
    keys = [key for key in document if key.endswith("_corrupted")] + ["broken_links", "missing_objects"]
    assert {key: document[key] for key in keys if document[key]} == counts
    assert report.is_ok == (not patterns)


def assert_findings(report: FsckReport, patterns: list[str]) -> None:
    assert len(report.findings) == len(patterns), report.findings
    for finding, pattern in zip(report.findings, patterns, strict=True):
        assert re.fullmatch(f"fsck: {pattern}", finding)


DEEP_FINDINGS: dict[str, tuple[Callable[[Store], object], list[str]]] = {
    "image under another name": (
        lambda s: replace_entry(s, f"images/{s.image.hex()}", f"../{named(other_image(s))}"),
        ["link-text-wrong: images/[0-9a-f]*: links to another object, [0-9a-f]{128}"],
    ),
    "entry by an absolute path": (
        lambda s: replace_entry(s, "streams/s", str(s.path_of(s.stream))),
        ["link-text-wrong: streams/s: expected a link to an object, found /.*"],
    ),
    "ref by a detour": (
        lambda s: replace_entry(s, "images/refs/a", f"../../images/{s.image.hex()}"),
        ["link-text-wrong: images/refs/a: expected a link to an entry of images, found .*"],
    ),
    "ref that leads up": (
        lambda s: (s.path / "images/refs/up").symlink_to(".."),
        ["link-text-wrong: images/refs/up: expected a link to an entry of images, found .."],
    ),
    "wrong stream size": (alter_stream_size, ["stream-read-failed: streams/s: .*"]),
    "broken stream section": (break_stream_section, ["stream-read-failed: streams/s: .*"]),
    "leftovers": (
        leave_temporaries,
        [r"leftover-temporary: \.symlink-.{12}", r"leftover-temporary: objects/\.tmp-object-.{12}"],
    ),
}


def other_image(store: Store) -> ObjectID:
    return store.repository.objects.ensure_bytes(make_image([store.file], b"other")).object_id


@pytest.mark.parametrize("case", DEEP_FINDINGS, ids=DEEP_FINDINGS.keys())
def test_deep_finding(store: Store, case: str) -> None:
    spoil, patterns = DEEP_FINDINGS[case]
    spoil(store)
    assert store.check().is_ok
    assert_findings(store.check(deep=True), patterns)


def test_cut_image_is_found(store: Store) -> None:
    data = store.path_of(store.image).read_bytes()
    replace_by(store, f"images/{store.image.hex()}", data[:-1])
    assert_findings(store.check(), ["image-invalid: images/.*"])


@pytest.mark.parametrize("kind", ["file", "link"])
def test_directory_of_objects_that_is_none(store: Store, kind: str) -> None:
    place = store.path / "objects" / "ff"
    if place.exists():
        place.rename(store.path / "moved")
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(store.path)
    with pytest.raises(CheckFailedError, match="opening objects/ff directory: Not a directory"):
        store.check()


@pytest.mark.parametrize("place", ["images", "streams", "images/refs"])
def test_link_in_the_place_of_a_directory(store: Store, place: str) -> None:
    (store.path / place).rename(store.path / "moved")
    (store.path / place).symlink_to(store.path / "moved")
    with pytest.raises(CheckFailedError, match=f"{place}: expected a directory"):
        store.check()


METADATA = {
    "gone": (None, "metadata-parse-failed: meta.json: .*", "meta.json: error"),
    "broken": (b"junk", "metadata-parse-failed: meta.json: .*", "meta.json: error"),
    "other hash": (
        format_config(Config.new(Algorithm.SHA256)),
        "metadata-algorithm-mismatch: meta.json: expected fsverity-sha256-12, repository opened as sha512",
        "meta.json: error",
    ),
    "newer": (
        format_config(Config(Algorithm.SHA512, incompatible=("x",))),
        "metadata-unsupported: meta.json: .*",
        "meta.json: error",
    ),
}


@pytest.mark.parametrize(("data", "finding", "line"), METADATA.values(), ids=METADATA.keys())
def test_metadata_that_changed_since_opening(
    store: Store, data: bytes | None, finding: str, line: str
) -> None:
    (store.path / "meta.json").unlink()
    if data is not None:
        (store.path / "meta.json").write_bytes(data)
    report = store.check()
    assert_findings(report, [finding])
    assert report.lines()[0] == line
    assert report.has_metadata == (data is not None and data != b"junk")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_many_objects_in_workers(tmp_path: Path, workers: int) -> None:
    with make_repository(tmp_path) as repository:
        objects = [repository.objects.ensure_bytes(b"%d" % number * 30).object_id for number in range(300)]
        repository.images.write(make_image(objects), "im")
        damaged = sorted(objects[::37])
        for object_id in damaged:
            flip_bit(object_file(repository, object_id), 5)
        report = check_repository(repository, workers=workers)
        assert report.lines()[1] == f"objects: {301 - len(damaged)}/301 ok"
        found = [finding.split(":")[2] for finding in report.findings]
        assert found == [f" {named(object_id)}" for object_id in damaged]


class Kernel:
    """A file system with fs-verity, as far as a check can see."""

    def __init__(self) -> None:
        self.digests: dict[int, ObjectID] = {}

    def measure(self, fd: int, _algorithm: Algorithm) -> ObjectID:
        try:
            return self.digests[os.fstat(fd).st_ino]
        except KeyError:
            raise VerityMissingError(61, "fs-verity is not enabled on file") from None


@pytest.mark.parametrize("is_secure", [False, True])
def test_objects_with_verity(store: Store, monkeypatch: pytest.MonkeyPatch, *, is_secure: bool) -> None:
    kernel = Kernel()
    monkeypatch.setattr(fsck_objects, "measure", kernel.measure)
    inode = store.path_of(store.file).stat().st_ino
    fan_out = store.file.hex()[:2]

    def check(*, is_deep: bool = False) -> list[str]:
        checker = ObjectChecker(
            store.repository.dirfd, Algorithm.SHA512, is_secure=is_secure, is_deep=is_deep
        )
        return [finding.split(":")[0] for finding in checker.check(fan_out).findings]

    assert check() == (["object-verity-missing"] if is_secure else [])
    kernel.digests[inode] = store.image
    assert check() == check(is_deep=True) == ["object-digest-mismatch"]
    kernel.digests[inode] = store.file
    flip_bit(store.path_of(store.file), 100)
    assert check() == []
    assert check(is_deep=True) == ["object-digest-mismatch"]


def test_secure_repository_without_verity(store: Store) -> None:
    checker = ObjectChecker(store.repository.dirfd, Algorithm.SHA512, is_secure=True, is_deep=False)
    tally = checker.check(store.file.hex()[:2])
    assert [finding.split(":")[0] for finding in tally.findings] == ["object-verity-missing"]


def test_nothing_is_left_open(store: Store) -> None:
    store.check(deep=True)
    before = sorted(os.listdir("/proc/self/fd"))
    store.check(deep=True)
    assert sorted(os.listdir("/proc/self/fd")) == before
