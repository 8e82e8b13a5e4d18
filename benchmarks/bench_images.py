"""composefs-info on an image of 100,000 inodes, as ratios to other programs of that name in one run.

    python benchmarks/bench_images.py [PROGRAM...]

Each PROGRAM is another composefs-info, for example the C one. Every command is run alternately with ours;
what is quoted is the ratio of medians, ours to theirs, of processor time and of wall time.
"""

from __future__ import annotations

import hashlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from cfsctl.digest import ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, InlineFile, Symlink

INODES = 100_000
ROUNDS = 7
COMMANDS = ("dump", "objects", "ls")
OWN = Path(sys.executable).parent / "composefs-info"


def make_tree() -> FileSystem:
    """Return a tree like that of an operating system: labels, own times, one file in ten twice."""
    random = Random(5)
    labels = [
        {b"security.selinux": b"system_u:object_r:%s_t:s0\0" % kind}
        for kind in (b"bin", b"lib", b"usr", b"etc", b"man", b"locale", b"fonts", b"modules")
    ]
    root = Directory(0o755, xattrs=labels[2])
    count = 0
    while count < INODES:
        top = root.entries.setdefault(b"usr%03d" % (count // 1500), Directory(0o755, xattrs=labels[2]))
        assert isinstance(top, Directory)
        directory = top.entries[b"dir-%06d" % count] = Directory(0o755, xattrs=random.choice(labels))
        for _ in range(random.choice((1, 3, 5, 8, 12, 20, 40))):
            count += 1
            stat = (0o644, 0, 0, 1_600_000_000 + random.randrange(10**8), 0, random.choice(labels))
            kind = random.random()
            name = b"lib%08x.so.1" % random.randrange(1 << 32)
            if kind < 0.10:
                directory.entries[name] = Symlink(b"../target", *stat)
            elif kind < 0.13:
                directory.entries[name] = InlineFile(b"hello", *stat)
            else:
                content = b"%d" % random.randrange(INODES) if kind < 0.2 else b"unique %d" % count
                digest = ObjectID(hashlib.sha256(content).digest())
                directory.entries[name] = ExternalFile(digest, random.randrange(65, 10**6), *stat)
    return FileSystem(root)


def measure(program: str | Path, command: str, image: Path) -> tuple[float, float]:
    """Return seconds of processor and of wall time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([program, command, image], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - start


def compare(other: str, command: str, image: Path) -> None:
    pairs = [(measure(OWN, command, image), measure(other, command, image)) for _ in range(ROUNDS)]
    for index, what in enumerate(("cpu", "wall")):
        ours = statistics.median(pair[0][index] for pair in pairs)
        theirs = statistics.median(pair[1][index] for pair in pairs)
        print(f"{command:8} {what:4} ours {ours:.2f} s, {other} {theirs:.2f} s, ratio {ours / theirs:.2f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory) / "image"
        image.write_bytes(build_image(make_tree(), FormatVersion.V1))
        for command in COMMANDS:
            for other in sys.argv[1:]:
                compare(other, command, image)
            if not sys.argv[1:]:
                cpu, wall = measure(OWN, command, image)
                print(f"{command:8} cpu {cpu:.2f} s, wall {wall:.2f} s")


if __name__ == "__main__":
    main()
