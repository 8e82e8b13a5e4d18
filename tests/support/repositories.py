"""Repositories in temporary directories, and views of them that compare."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.repository import Repository, init_repository
from cfsctl.splitstream import SplitstreamWriter
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, InlineFile

if TYPE_CHECKING:
    from collections.abc import Iterable


def make_repository(
    path: Path, algorithm: Algorithm = Algorithm.SHA512, version: FormatVersion = FormatVersion.V1
) -> Repository:
    """Make an insecure repository and open it."""
    init_repository(str(path), algorithm=algorithm, erofs_version=version, insecure=True)
    return Repository.open(str(path))


def view(path: Path) -> dict[str, str]:
    """Return every entry below a directory: text of links, size of files, empty for directories."""
    found: dict[str, str] = {}
    for base, directories, files in os.walk(path):
        for name in [*directories, *files]:
            entry = Path(base) / name
            mode = entry.lstat().st_mode
            if stat.S_ISLNK(mode):
                shown = f"-> {entry.readlink()}"
            elif stat.S_ISREG(mode):
                shown = str(entry.stat().st_size)
            else:
                shown = "" if stat.S_ISDIR(mode) else oct(mode)
            found[str(entry.relative_to(path))] = shown
    return found


def object_file(repository: Repository, object_id: ObjectID) -> Path:
    """Return the path of an object."""
    digits = object_id.hex()
    return Path(repository.path) / "objects" / digits[:2] / digits[2:]


def write_stream(
    repository: Repository,
    name: str,
    objects: list[ObjectID],
    named: dict[str, ObjectID] | None = None,
    ref: str | None = None,
) -> ObjectID:
    """Store a stream that refers to objects and, by name, to others, and link it."""
    with SplitstreamWriter(repository.objects, repository.algorithm, 1) as writer:
        writer.write_inline(name.encode())
        for object_id in objects:
            status = repository.objects.stat(object_id)
            writer.write_external(object_id, 0 if status is None else status.st_size)
        for label, object_id in (named or {}).items():
            writer.add_named_ref(label, object_id)
        stream_id = writer.finish()
    repository.streams.link(name, stream_id, ref)
    return stream_id


def make_image(
    objects: Iterable[ObjectID], label: bytes = b"", version: FormatVersion = FormatVersion.V1
) -> bytes:
    """Return an image whose files are these objects; `label` makes images of the same objects differ."""
    root = Directory(0o755)
    root.entries[b"label"] = InlineFile(label, 0o644)
    for object_id in objects:
        root.entries[object_id.hex()[:40].encode()] = ExternalFile(object_id, 100, 0o644)
    return bytes(build_image(FileSystem(root), version))


def flip_bit(path: Path, offset: int) -> None:
    """Damage one bit of a file."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))
