"""Entries in text form, os-release and unified kernel images."""

from __future__ import annotations

import struct

import pytest

from cfsctl.boot.bls import BootLoaderEntry, EntryError
from cfsctl.boot.os_release import boot_label, parse_os_release
from cfsctl.boot.uki import MissingSectionError, UkiError, find_section, read_cmdline, read_label


def entry(text: str) -> BootLoaderEntry:
    return BootLoaderEntry.parse(text.encode())


@pytest.mark.parametrize("text", ["", "title x\n", "title x\n\n# comment\nlinux\t/a\n", "title  x \r\n"])
def test_text_is_kept(text: str) -> None:
    assert entry(text).format() == text


def test_final_newline_is_added() -> None:
    assert entry("title x").format() == "title x\n"


@pytest.mark.parametrize(
    ("text", "argument", "expected"),
    [
        ("title x\n", "quiet", "title x\noptions quiet\n"),
        ("options a=1 b\n", "a=2", "options a=2 b\n"),
        ("options a=1 b\n", "b", "options a=1 b\n"),
        ("options root=/dev/vda ro\n", "r", "options root=/dev/vda ro r\n"),
        ("options ro root=1\n", "root=2", "options ro root=2\n"),
        ("options root=1\n", "ro", "options root=1 ro\n"),
        ("options composefs=old x\n", "composefs.digest=v1-new", "options x composefs.digest=v1-new\n"),
        ("options composefs.digest=a composefs=b\n", "composefs=c", "options composefs=c\n"),
        ("options a\noptions composefs=b c\n", "composefs=d", "options a composefs=d\noptions c\n"),
        ("options a=1 b a=2\n", "a=3", "options a=3 b\n"),
        ("options console=tty0\n", "console=ttyS0", "options console=tty0 console=ttyS0\n"),
        ("options console=tty0\n", "console=tty0", "options console=tty0\n"),
        ("options a\noptions b\n", "c", "options a c\noptions b\n"),
        ("options\n", "c", "options\noptions c\n"),
        ('options x="a b=1" c\n', "b=2", 'options x="a b=1" c b=2\n'),
    ],
)
def test_arguments_are_set_by_key(text: str, argument: str, expected: str) -> None:
    found = entry(text)
    found.set_argument(argument)
    assert found.format() == expected


@pytest.mark.parametrize(
    ("text", "argument", "expected", "replaced"),
    [
        ("title x\n", "quiet", "title x\noptions quiet\n", None),
        ("options a=1 b\n", "a=2", "options a=2 b\n", "a=1"),
        ("options root=1  quiet\n", "ro", "options ro  quiet\n", "root=1"),
        ("options composefs=old\n", "composefs.digest=x", "options composefs=old composefs.digest=x\n", None),
        ("options\ta\noptions b=1\n", "b=2", "options\ta b=2\noptions b=1\n", None),
        ("options\n", "c", "options\noptions c\n", None),
        ("options \n", "c", "options  c\n", None),
        ('options "a b" c\n', "a", 'options "a b" c a\n', None),
    ],
)
def test_arguments_are_added_as_by_the_original(
    text: str, argument: str, expected: str, replaced: str | None
) -> None:
    found = entry(text)
    assert found.add_argument(argument) == replaced
    assert found.format() == expected


def test_files_are_found_and_replaced() -> None:
    found = entry("linux\t/k \ninitrd /a\r\ninitrd /b\nlinuxx /no\nlinux\nefi /e\n")
    assert found.files() == ["/k", "/a", "/b", "/e"]
    found.replace_files({"/k": "/id/k", "/b": "/id/b"})
    assert found.format() == "linux\t/id/k\ninitrd /a\r\ninitrd /id/b\nlinuxx /no\nlinux\nefi /e\n"


def test_entry_must_be_utf8() -> None:
    with pytest.raises(EntryError, match="byte 2"):
        BootLoaderEntry.parse(b"a \xff")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("NAME=X\nVERSION_ID=1\n", "X 1"),
        ('PRETTY_NAME="A \\"b\\" c"\nNAME=X\n', 'A "b" c'),
        ("PRETTY_NAME='a'b\"c\"\n", "abc"),
        ('PRETTY_NAME="open\nID=x\nVERSION=2\n', "x 2"),
        ("# NAME=X\n  # NAME=Y\nID=z\n", "z"),
        ("NAME=a\nNAME=b\n", "b"),
        ("VERSION=1\n", None),
        ("", None),
    ],
)
def test_labels(text: str, label: str | None) -> None:
    assert boot_label(parse_os_release(text)) == label


def executable(**sections: bytes) -> bytes:
    """Return a PE file with these sections."""
    table, data = b"", b""
    start = 0x40 + 24 + 40 * len(sections)
    for name, content in sections.items():
        at = start + len(data)
        table += struct.pack("<8sI4xII16x", f".{name}".encode(), len(content), len(content), at)
        data += content
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    return header + b"PE\0\0" + struct.pack("<2xH12xH2x", len(sections), 0) + table + data


def test_sections() -> None:
    image = executable(cmdline=b"quiet \0\n\0", osrel=b"NAME=X\n", linux=b"")
    assert find_section(image, b".linux") == b""
    assert read_cmdline(image) == "quiet"
    assert read_label(image) == "X"
    with pytest.raises(MissingSectionError, match=r"'\.initrd'"):
        find_section(image, b".initrd")


def test_every_cut_of_an_executable_is_refused() -> None:
    image = executable(linux=b"kernel", cmdline=b"quiet")
    for size in range(len(image)):
        with pytest.raises(UkiError):
            find_section(image[:size], b".cmdline")


def test_command_line_must_be_utf8() -> None:
    with pytest.raises(UkiError, match="not UTF-8"):
        read_cmdline(executable(cmdline=b"\xff"))
