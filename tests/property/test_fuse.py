"""Trees seen through the answers of a FUSE server, and requests and images that nobody makes."""

from __future__ import annotations

import functools
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.read.tree import read_image
from cfsctl.erofs.write.image import build_image
from cfsctl.fuse.files import ImageFiles
from cfsctl.fuse.names import View
from cfsctl.fuse.operations import Operations
from cfsctl.fuse.protocol import Opcode
from cfsctl.tree.model import CharDevice, Directory, ExternalFile, FileSystem, InlineFile, Leaf, Symlink
from tests.property.trees import filesystems

_ATTR = struct.Struct("=QQQqqqIIIIIIIIII")


class _NoContent:
    checks = False

    def open(self, _stored: object) -> int:
        raise FileNotFoundError


def serve(data: bytes, view: View = View.OVERLAY, algorithm: Algorithm = Algorithm.SHA512) -> Operations:
    files = ImageFiles(data, algorithm, view)
    return Operations(files, _NoContent(), is_initial_user_namespace=True)


def check_node(operations: Operations, node: Directory | Leaf, answer: bytes) -> None:
    (number,) = struct.unpack_from("=Q", answer)
    fields = _ATTR.unpack_from(answer, 40)
    assert (fields[3], fields[7]) == (node.mtime_s, node.mtime_ns)
    assert (fields[9], fields[11], fields[12]) == (node.file_type | node.mode, node.uid, node.gid)
    if isinstance(node, InlineFile):
        body = struct.pack("=QQI20x", 0, 0, 1 << 20)
        assert operations.answer(Opcode.READ, number, body, 0) == node.data
    elif isinstance(node, Symlink):
        assert operations.answer(Opcode.READLINK, number, b"", 0) == node.target
    elif isinstance(node, ExternalFile):
        assert fields[1] == node.size


def check_tree(operations: Operations, directory: Directory, number: int) -> None:
    for name, node in directory.entries.items():
        answer = operations.answer(Opcode.LOOKUP, number, name + b"\0", 0)
        assert isinstance(answer, bytes)
        if not (isinstance(node, CharDevice) and node.rdev == 0):  # whiteouts are stored as something else
            check_node(operations, node, answer)
        if isinstance(node, Directory):
            check_tree(operations, node, struct.unpack_from("=Q", answer)[0])


@given(filesystems(), st.sampled_from([FormatVersion.V1, FormatVersion.V2]))
def test_trees_are_seen_as_they_are(made: tuple[FileSystem, Algorithm], version: FormatVersion) -> None:
    tree, algorithm = made
    try:
        data = bytes(build_image(tree, version))
    except ErofsError:
        return
    # Some formats keep less of times than trees have.
    check_tree(serve(data, algorithm=algorithm), read_image(data, algorithm).root, 1)


@functools.cache
def make_image() -> bytes:
    root = Directory(0o755)
    below = root.entries[b"d"] = Directory(0o755, xattrs={b"user.x": b"y" * 100})
    for number in range(40):
        below.entries[b"%d" % number] = InlineFile(b"x" * number, 0o644)
    below.entries[b"link"] = Symlink(b"t", 0o777)
    return bytes(build_image(FileSystem(root), FormatVersion.V1))


REQUESTS = st.tuples(
    st.sampled_from([*Opcode, 0, 4, 6, 99]),
    st.one_of(st.integers(0, 400), st.integers(0, (1 << 64) - 1)),
    st.one_of(
        st.binary(max_size=64),
        st.tuples(st.integers(0, 100), st.integers(0, 1 << 17)).map(
            lambda pair: struct.pack("=QQI20x", 0, *pair)
        ),
        st.sampled_from([b"d\0", b"0\0", b"link\0", struct.pack("=II", 100, 0) + b"user.x\0"]),
    ),
)


@given(st.lists(REQUESTS, max_size=20))
def test_any_request_gets_an_answer(requests: list[tuple[int, int, bytes]]) -> None:
    operations = serve(make_image())
    for opcode, node, body in requests:
        answer = operations.answer(opcode, node, body, 0)
        assert isinstance(answer, (bytes, memoryview)) or -134 < answer < 0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=20))
def test_any_image_gets_answers(changes: list[tuple[int, int]]) -> None:
    data = bytearray(make_image())
    for position, value in changes:
        data[1152 + position % (len(data) - 1152)] = value
    for view in View:
        try:
            operations = serve(bytes(data), view)
        except ErofsError:
            continue
        listing = struct.pack("=QQI20x", 0, 0, 1 << 16)
        operations.answer(Opcode.READDIRPLUS, 1, listing, 0)
        for node in range(1, 400, 3):
            for opcode in (Opcode.READDIRPLUS, Opcode.READ, Opcode.GETATTR, Opcode.READLINK):
                answer = operations.answer(opcode, node, listing, 0)
                assert isinstance(answer, (bytes, memoryview)) or -134 < answer < 0
            operations.answer(Opcode.LISTXATTR, node, bytes(8), 0)
            operations.answer(Opcode.LOOKUP, node, b"d\0", 0)
