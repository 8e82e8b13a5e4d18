"""Boot loader entries of type 1: text files that name a kernel, initial ramdisks and arguments.

Format: the Boot Loader Specification, read as the original reads it: a key stands at the start of its line
and is followed by white space. Text is kept as it is but for what is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cfsctl.boot.cmdline import split_cmdline
from cfsctl.errors import FormatError

MAX_ENTRY_BYTES: Final = 1 << 20
FILE_KEYS: Final = ("linux", "initrd", "efi")
"""Keys whose values are paths of files that the entry needs."""

_BLANKS: Final = " \t\n\f\r"


class EntryError(FormatError):
    """A boot loader entry that is malformed."""


@dataclass(slots=True)
class BootLoaderEntry:
    """The text of an entry, line by line.

    Attributes:
        lines: Without the newlines.
    """

    lines: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, content: bytes) -> BootLoaderEntry:
        """Return the entry of a file.

        Raises:
            EntryError: The file is not UTF-8.
        """
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise EntryError(f"not valid UTF-8 at byte {error.start}", offset=error.start) from error
        return cls(text.removesuffix("\n").split("\n") if text else [])

    def format(self) -> str:
        """Return the text of the file."""
        return "".join(f"{line}\n" for line in self.lines)

    def values(self, key: str) -> list[str]:
        """Return the values of every line with a key; white space at the end is not part of a value."""
        return [line[len(key) :].strip(_BLANKS) for line in self.lines if has_key(line, key)]

    def files(self) -> list[str]:
        """Return the paths of all files that the entry names, in order of the lines."""
        return [
            line[len(key) :].strip(_BLANKS) for line in self.lines for key in FILE_KEYS if has_key(line, key)
        ]

    def add_argument(self, argument: str) -> None:
        """Add a kernel argument to the first ``options`` line, in place of one with the same key.

        The key is everything up to the first ``=``, or the whole argument. An argument replaces those with
        exactly its key only; ``composefs=`` and ``composefs.digest=`` replace each other.
        """
        key = argument_key(argument)
        for number, line in enumerate(self.lines):
            if has_key(line, "options"):
                self.lines[number] = _replace_argument(line, key, argument)
                return
        self.lines.append(f"options {argument}")

    def replace_files(self, paths: dict[str, str]) -> None:
        """Replace the given paths; lines of other files are not changed."""
        for number, line in enumerate(self.lines):
            for key in FILE_KEYS:
                if has_key(line, key):
                    value = line[len(key) :].strip(_BLANKS)
                    if value in paths:
                        start = line[: len(line) - len(line[len(key) :].lstrip(_BLANKS))]
                        self.lines[number] = start + paths[value]


def has_key(line: str, key: str) -> bool:
    """Return whether a line begins with a key that white space follows."""
    return line.startswith(key) and line[len(key) : len(key) + 1] in {" ", "\t", "\f", "\r"}


def argument_key(argument: str) -> str:
    """Return what identifies a kernel argument: its text up to and including the first ``=``."""
    name, equals, _ = argument.partition("=")
    return name + equals


_IMAGE_KEYS: Final = frozenset({"composefs=", "composefs.digest="})


def _replace_argument(line: str, key: str, argument: str) -> str:
    """Return an ``options`` line with an argument in it."""
    keys = _IMAGE_KEYS if key in _IMAGE_KEYS else frozenset({key})
    tokens = split_cmdline(line)[1:]
    if not any(argument_key(token) in keys for token in tokens):
        return f"{line} {argument}"
    kept: list[str] = []
    is_placed = False
    for token in tokens:
        if argument_key(token) not in keys:
            kept.append(token)
        elif not is_placed:
            kept.append(argument)
            is_placed = True
    return "options " + " ".join(kept)


def kernel_entry(identifier: str, *, title: str, version: str) -> BootLoaderEntry:
    """Return an entry for a kernel and its initial ramdisk in a directory of their own."""
    return BootLoaderEntry(
        [
            "# File created by composefs",
            f"title {title}",
            f"version {version}",
            f"linux /{identifier}/vmlinuz",
            f"initrd /{identifier}/initramfs.img",
        ]
    )
