"""Fuzz the image reader: whatever comes in is read or refused with ErofsError.

What is read must also keep its promises: objects found without a tree are at least those of the tree,
and the tree written again is an image that reading and writing leave as it is. A FUSE server has an answer
to every request about it.

    python fuzz/fuzz_erofs_reader.py CORPUS [libFuzzer options]

New corpora are seeded with the stored images. Needs atheris.
"""

from __future__ import annotations

import lzma
import struct
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cfsctl"]):
    from cfsctl.digest import Algorithm
    from cfsctl.erofs.format import ErofsError
    from cfsctl.erofs.inspect import iter_listing, tree_objects
    from cfsctl.erofs.read.tree import check_image, collect_objects, find_algorithm, read_image
    from cfsctl.erofs.superblock import read_superblock
    from cfsctl.erofs.write.image import build_image
    from cfsctl.fuse.files import ImageFiles
    from cfsctl.fuse.names import View
    from cfsctl.fuse.operations import Operations
    from cfsctl.fuse.protocol import READ_IN, Opcode

IMAGES = Path(__file__).parents[1] / "tests" / "vectors" / "erofs" / "images"


def one_input(data: bytes) -> None:
    image = repaired(data)
    algorithm = Algorithm.SHA512 if data[:1] == b"\x55" else Algorithm.SHA256
    for view in View:
        ask(image, algorithm, view)
    for read in (find_algorithm, lambda image: check_image(image, algorithm)):
        try:
            read(image)
        except ErofsError:
            continue
    try:
        tree = read_image(image, algorithm)
        objects = collect_objects(image, algorithm)
    except ErofsError:
        return
    assert tree_objects(tree) <= objects
    b"".join(iter_listing(tree))
    version = read_superblock(image).version
    try:
        again = build_image(tree, version)
    except ErofsError:
        return
    # Not always the same tree: an empty file with the marks of a whiteout is one beside a whiteout.
    assert build_image(read_image(again, algorithm), version) == again


class NoContent:
    checks = False

    def open(self, _stored: object) -> int:
        raise FileNotFoundError


REQUESTS = (
    (Opcode.READDIRPLUS, READ_IN.pack(0, 0, 1 << 16)),
    (Opcode.READDIR, READ_IN.pack(0, 0, 1 << 16)),
    (Opcode.READ, READ_IN.pack(0, 0, 1 << 16)),
    (Opcode.GETATTR, bytes(16)),
    (Opcode.READLINK, b""),
    (Opcode.LISTXATTR, bytes(8)),
    (Opcode.GETXATTR, bytes(8) + b"user.overlay.metacopy\0"),
)


def ask(image: bytes, algorithm: Algorithm, view: View) -> None:
    """Ask a server for all it has of some inodes; each answer is a result or a number of an error."""
    try:
        files = ImageFiles(image, algorithm, view)
    except ErofsError:
        return
    operations = Operations(files, NoContent(), is_initial_user_namespace=True)
    count = len(image) // 32
    for node in {1, *range(0, count + 3, max(count // 64, 1))}:
        for opcode, body in REQUESTS:
            answer = operations.answer(opcode, node, body, 0)
            assert isinstance(answer, (bytes, memoryview)) or -134 < answer < 0
        answer = operations.answer(Opcode.LISTXATTR, node, bytes(8), 0)
        assert isinstance(answer, bytes) == (operations.find_xattrs(node) is not None)


def repaired(data: bytes) -> bytes:
    """Return the input with headers that let it pass the first checks, mostly."""
    image = bytearray(data.ljust(4096, b"\0"))
    image += bytes(-len(image) % 4096)
    if data[:1] != b"\xff":
        struct.pack_into("<III", image, 0, 0xD078629A, 1, image[8] & 1)
        image[12] %= 3
        image[13:16] = bytes(3)
        struct.pack_into("<I", image, 1024, 0xE0F5E1E2)
        image[1036] = 12
        struct.pack_into("<I", image, 1060, len(image) // 4096)
    return bytes(image)


def seed(corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for path in IMAGES.glob("*.img.xz"):
        (corpus / path.stem).write_bytes(lzma.decompress(path.read_bytes()))


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        seed(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
