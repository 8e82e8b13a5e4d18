"""What other programs read otherwise in an archive is accepted as ever, and remarked on."""

from __future__ import annotations

import io
import tarfile

import pytest

from cfsctl.oci.tar import Entry, TarParser
from tests.support.oci import directory, file, make_tar

ZEROS = bytes(512)
USR = make_tar([directory("usr")])[:512]


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, uid: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.uid = kind, size, uid
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(*records: tuple[str, str]) -> bytes:
    info = tarfile.TarInfo("x")
    info.pax_headers = dict(records)
    return info.tobuf(tarfile.PAX_FORMAT)


def global_header() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "c"}):
        pass
    return buffer.getvalue()[:1024]


def parse(data: bytes) -> TarParser:
    parser = TarParser()
    parser.feed(data)
    parser.finish()
    return parser


CASES = {
    "a single block of zeros": (USR + ZEROS + header("a"), "single block of zeros"),
    "a body of a directory": (header("d", tarfile.DIRTYPE, 5) + ZEROS, "type that has none"),
    "a body of a symbolic link": (header("s", tarfile.SYMTYPE, 600) + ZEROS + ZEROS, "type that has none"),
    "a large owner": (header("a", uid=1 << 32), "more than 32 bits"),
    "a large owner in pax": (pax(("uid", str(1 << 32))), "more than 32 bits"),
    "a large group in pax": (pax(("gid", str(1 << 40))), "more than 32 bits"),
    "a global header that loses a name": (
        pax(("path", "long"))[:1024] + global_header() + header("a"),
        "global header",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_is_remarked_on(case: str) -> None:
    data, text = CASES[case]
    (remark,) = parse(data + 2 * ZEROS).remarks
    assert text in remark[1]


def test_what_all_programs_read_alike_is_not() -> None:
    tar = make_tar([directory("usr"), file("usr/" + "n" * 200, b"x" * 600), file("usr/é", b"y")])
    assert parse(tar).remarks == []
    assert parse(global_header() + USR + header("a", uid=(1 << 32) - 1) + 2 * ZEROS).remarks == []


def test_the_lower_bits_count() -> None:
    events = TarParser().feed(header("a", uid=(1 << 32) + 7))
    assert [event.uid for event in events if isinstance(event, Entry)] == [7]


def test_there_are_few_of_a_kind() -> None:
    assert len(parse(b"".join(header(f"d{n}", tarfile.DIRTYPE, 1) + ZEROS for n in range(50))).remarks) == 3
