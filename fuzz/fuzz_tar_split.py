"""Fuzz the parser of tar-split, the record that containers-storage keeps of a layer's archive.

Whatever comes in is parsed or refused with TarSplitError; the cuts make no difference; and what is written
again from what was parsed is parsed as the same.

    python fuzz/fuzz_tar_split.py CORPUS [libFuzzer options]

Needs atheris."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["cfsctl"]):
    from cfsctl.oci.containers_storage.tar_split import SplitFile, TarSplitError, iter_tar_split


def one_input(data: bytes) -> None:
    whole = outcome([data])
    step = 1 + len(data) % 61
    assert outcome([data[start : start + step] for start in range(0, len(data), step)]) == whole
    if not isinstance(whole, str):
        assert outcome([write(whole)]) == whole


def outcome(pieces: list[bytes]) -> list[bytes | SplitFile] | str:
    """Return what the lines hold, or why they were refused."""
    try:
        return list(iter_tar_split(pieces))
    except TarSplitError as error:
        return str(error)


def write(parts: list[bytes | SplitFile]) -> bytes:
    """Return lines that hold the same."""
    return b"".join(
        json.dumps({"position": number, **describe(part)}).encode() + b"\n"
        for number, part in enumerate(parts)
    )


def describe(part: bytes | SplitFile) -> dict[str, object]:
    if isinstance(part, bytes):
        return {"type": 2, "payload": base64.b64encode(part).decode()}
    return {"type": 1, "name_raw": base64.b64encode(part.name).decode(), "size": part.size}


def seed(corpus: Path) -> None:
    """Put some records into a new corpus."""
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    for name, parts in {
        "empty": [],
        "segments": [b"x" * 512, b"", b"\0" * 1024],
        "files": [b"h" * 512, SplitFile(b"usr/file", 100), b"\0" * 412, SplitFile(b"\xff", 1), b"\0" * 1535],
    }.items():
        (corpus / name).write_bytes(write(parts))
    (corpus / "named").write_bytes(
        b'{"type":1,"name":"caf\xc3\xa9","size":7,"payload":"AAAA","position":0}\n'
    )


if __name__ == "__main__":
    for argument in sys.argv[1:2]:
        seed(Path(argument))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
