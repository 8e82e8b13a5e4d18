"""What a scan finds, however the work is shared, and in trees that are hard to walk."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.progress import Advanced, Done, Started
from cfsctl.scan import scan_directory
from cfsctl.scan.files import ContentReader
from cfsctl.tree.model import NO_XATTRS, Directory, ExternalFile, InlineFile, Leaf, Socket, Symlink
from cfsctl.tree.transform import XattrFilter
from cfsctl.tree.walk import iter_nodes
from tests.support.repositories import make_repository
from tests.support.scans import describe_directory, describe_tree, make_random_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cfsctl.progress import Event
    from cfsctl.tree.model import FileSystem


def _scan(path: Path, **options: object) -> FileSystem:
    options.setdefault("workers", 0)
    return scan_directory(os.fspath(path), algorithm=Algorithm.SHA256, **options)  # type: ignore[arg-type] # passed through


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("hard_links", [True, False])
def test_tree_is_what_is_there(tmp_path: Path, seed: int, *, hard_links: bool) -> None:
    make_random_tree(tmp_path, seed)
    found = describe_tree(_scan(tmp_path, hard_links=hard_links, workers=seed % 3))
    assert found == describe_directory(tmp_path, Algorithm.SHA256, hard_links=hard_links)


@pytest.fixture
def large_tree(tmp_path: Path) -> Path:
    """Enough directories, files and bytes that the work is divided in every way there is."""
    data = os.urandom(1 << 20)
    for number in range(20):
        directory = tmp_path / str(number % 7) / str(number)
        directory.mkdir(parents=True)
        for index in range(25):
            (directory / f"f{index}").write_bytes(data[index : index + 67 * index])
    (tmp_path / "large").write_bytes(data * 3)
    (tmp_path / "larger").write_bytes(data * 5)
    os.link(tmp_path / "large", tmp_path / "0" / "large-again")
    os.link(tmp_path / "0" / "0" / "f20", tmp_path / "1" / "linked")
    for index in range(20):
        (tmp_path / "2" / f"piece{index}").write_bytes(data[: (1 << 19) + index])
    return tmp_path


@pytest.mark.parametrize("workers", [0, 1, 3, None])
@pytest.mark.parametrize("hard_links", [True, False])
def test_sharing_the_work_changes_nothing(large_tree: Path, workers: int | None, *, hard_links: bool) -> None:
    expected = describe_directory(large_tree, Algorithm.SHA256, hard_links=hard_links)
    assert describe_tree(_scan(large_tree, workers=workers, hard_links=hard_links)) == expected


@pytest.mark.parametrize("hard_links", [True, False])
def test_file_with_several_names_is_read_once(
    large_tree: Path, monkeypatch: pytest.MonkeyPatch, *, hard_links: bool
) -> None:
    read: list[bytes] = []

    def count(real: Callable[..., object]) -> Callable[..., object]:
        def counted(self: ContentReader, fd: int, state: tuple[int, ...], path: bytes) -> object:
            read.append(path)
            return real(self, fd, state, path)

        return counted

    for name in ("read", "take"):
        monkeypatch.setattr(ContentReader, name, count(getattr(ContentReader, name)))
    _scan(large_tree, hard_links=hard_links)
    assert len({b"large", b"0/large-again"}.intersection(read)) == 1
    assert len({b"0/0/f20", b"1/linked"}.intersection(read)) == 1
    assert len(read) == len(set(read))


@pytest.mark.parametrize("stored", [False, True])
def test_small_files_that_are_hashed_together_keep_their_order(tmp_path: Path, *, stored: bool) -> None:
    """More of them than one batch takes, among files that are read otherwise."""
    (tmp_path / "tree").mkdir()
    contents = {b"%d" % number: os.urandom(number * 331 % 70_000) for number in range(300)}
    for name, content in contents.items():
        (tmp_path / "tree" / name.decode()).write_bytes(content)
    os.link(tmp_path / "tree" / "7", tmp_path / "tree" / "again")
    contents[b"again"] = contents[b"7"]
    with make_repository(tmp_path / "repo") as repository:
        algorithm = repository.algorithm
        store = repository.objects if stored else None
        tree = scan_directory(os.fspath(tmp_path / "tree"), algorithm=algorithm, store=store, workers=0)
        for name, node in tree.root.entries.items():
            if isinstance(node, ExternalFile):
                assert node.object_id == compute_digest(contents[name], algorithm)
                assert not stored or repository.objects.read(node.object_id) == contents[name]
    assert tree.root.entries[b"again"] is tree.root.entries[b"7"]


def test_small_tree_needs_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))
    monkeypatch.setattr(os, "fork", None)
    assert isinstance(_scan(tmp_path, workers=4).root.entries[b"file"], ExternalFile)


@pytest.mark.parametrize(("size", "kind"), [(0, InlineFile), (64, InlineFile), (65, ExternalFile)])
def test_where_inline_ends(tmp_path: Path, size: int, kind: type[Leaf]) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    file = _scan(tmp_path).root.entries[b"file"]
    assert type(file) is kind
    if isinstance(file, InlineFile):
        assert file.data == data
    else:
        assert isinstance(file, ExternalFile)
        assert (file.object_id, file.size) == (compute_digest(data, Algorithm.SHA256), size)


def test_socket_is_a_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tmp_path / "s"))
        assert isinstance(_scan(tmp_path).root.entries[b"s"], Socket)


def test_names_of_one_link_stay_together(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("target")
    (tmp_path / "d").mkdir()
    os.link(tmp_path / "a", tmp_path / "d" / "b", follow_symlinks=False)
    root = _scan(tmp_path).root
    directory = root.entries[b"d"]
    assert isinstance(directory, Directory)
    assert isinstance(root.entries[b"a"], Symlink)
    assert directory.entries[b"b"] is root.entries[b"a"]


def test_root_must_not_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(NotADirectoryError) as caught:
        _scan(tmp_path / "link")
    assert caught.value.filename == os.fspath(tmp_path / "link")
    assert scan_directory(f"{tmp_path}/link/", algorithm=Algorithm.SHA256).root.entries == {}
    with pytest.raises(FileNotFoundError):
        _scan(tmp_path / "missing")


@pytest.fixture
def deep_tree(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """Directories far deeper than descriptors go or paths are long, with files on every level."""
    depth = 1100
    fd = os.open(tmp_path, os.O_RDONLY)
    for level in range(depth):
        file = os.open(b"file%d" % level, os.O_WRONLY | os.O_CREAT, dir_fd=fd)
        os.write(file, b"%d" % level * 100)
        os.close(file)
        os.mkdir("side", dir_fd=fd)
        os.mkdir("deeper", dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    yield tmp_path, depth
    # Python's own removal is recursive.
    subprocess.run(["rm", "-rf", tmp_path / "deeper"], check=True)


def test_deep_tree_with_few_descriptors(deep_tree: tuple[Path, int]) -> None:
    path, depth = deep_tree
    for workers in (0, 2):
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = sorted(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(descriptors) + 100, before[1]))
        try:
            root = _scan(path, workers=workers).root
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert sorted(os.listdir("/proc/self/fd")) == descriptors
        _check_deep(root, depth)


def _check_deep(directory: Directory, depth: int) -> None:
    for level in range(depth):
        assert set(directory.entries) == {b"file%d" % level, b"side", b"deeper"}
        below = directory.entries[b"deeper"]
        assert isinstance(below, Directory)
        directory = below
    assert directory.entries == {}


def _set_xattr(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("the temporary directory's file system has no user attributes")


def test_only_attributes_that_are_kept_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    (tmp_path / "small").touch()
    for name in ("file", "small"):
        _set_xattr(tmp_path / name, "user.kept", b"value")
        _set_xattr(tmp_path / name, "user.dropped", b"other")
    read: list[str] = []
    real = os.getxattr

    def watch(path: int | bytes, name: str, *, follow_symlinks: bool = True) -> bytes:
        read.append(name)
        return real(path, name, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "getxattr", watch)
    root = _scan(tmp_path, keep_xattr=lambda name: name == b"user.kept").root
    assert read == ["user.kept", "user.kept"]
    assert root.entries[b"file"].xattrs == {b"user.kept": b"value"}
    # Equal sets are one object, since a labelled system has few of them.
    assert root.entries[b"file"].xattrs is root.entries[b"small"].xattrs
    assert root.xattrs is NO_XATTRS


def test_file_system_without_attributes_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> list[str]:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    (tmp_path / "file").write_bytes(bytes(100))
    monkeypatch.setattr(os, "listxattr", refuse)
    assert _scan(tmp_path).root.entries[b"file"].xattrs is NO_XATTRS


def test_attribute_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "file").write_bytes(bytes(100))
    _set_xattr(tmp_path / "file", "user.secret", b"value")
    monkeypatch.setattr(os, "getxattr", refuse)
    with pytest.raises(PermissionError) as caught:
        _scan(tmp_path)
    assert caught.value.filename == os.fspath(tmp_path / "file")


@pytest.mark.parametrize("unreadable", ["sub/file", "sub"])
def test_what_cannot_be_read_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unreadable: str
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(bytes(100))
    real = os.open

    def refuse(path: bytes | str, flags: int, *args: int, **options: int) -> int:
        if os.fsencode(path) == os.path.basename(unreadable).encode():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as caught:
        _scan(tmp_path)
    assert caught.value.filename == os.fspath(tmp_path / unreadable)


def test_error_of_a_worker_names_the_path(large_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def fail(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        _scan(large_tree, workers=2)
    assert os.path.exists(caught.value.filename)


def test_progress_ends_with_the_number_of_entries(large_tree: Path) -> None:
    events: list[Event] = []
    _scan(large_tree, reporter=events.append)
    count = len(describe_directory(large_tree, Algorithm.SHA256))
    assert isinstance(events[0], Started)
    assert [type(event) for event in events[1:-1]].count(Advanced) == len(events) - 2
    assert events[-1] == Done("scan", count)


def test_filters_of_the_command_line() -> None:
    names = [b"security.capability", b"user.x", b"security.selinux", b"trusted.overlay.opaque"]
    assert [XattrFilter.ALLOWLIST_ONLY.keeps(name) for name in names] == [True, False, False, False]
    assert [XattrFilter.KEEP_USER.keeps(name) for name in names] == [True, True, False, False]


def test_every_node_is_iterated_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "a").touch()
    os.link(tmp_path / "a", tmp_path / "d" / "b")
    assert len(list(iter_nodes(_scan(tmp_path)))) == 3
