"""Boot loader entries of type 1: text files that name a kernel, initial ramdisks and arguments.

Format: the Boot Loader Specification, read as the original reads it: a key stands at the start of its line
and is followed by white space. Text is kept as it is but for what is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cfsctl.boot.cmdline import iter_tokens, split_cmdline
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

    def add_argument(self, argument: str) -> str | None:
        """Add a kernel argument to the first ``options`` line by the original's rule.

        It takes the place of the first argument that begins with its key; so ``ro`` takes the place of
        ``root=/dev/vda2``.

        Returns:
            The argument whose place was taken, or None.
        """
        key = argument_key(argument)
        for number, line in enumerate(self.lines):
            if has_key(line, "options"):
                start = len("options")
                for found in iter_tokens(line[start:]):
                    if found[0].startswith(key):
                        before, after = line[: start + found.start()], line[start + found.end() :]
                        self.lines[number] = before + argument + after
                        return found[0]
                self.lines[number] = f"{line} {argument}"
                return None
        self.lines.append(f"options {argument}")
        return None

    def set_argument(self, argument: str) -> None:
        """Add a kernel argument to the first ``options`` line, in place of one with the same key.

        The key is everything up to the first ``=``, or the whole argument. An argument replaces those with
        exactly its key only; ``composefs=`` and ``composefs.digest=`` replace each other on every line.
        """
        key = argument_key(argument)
        if key in _IMAGE_KEYS:
            self._remove_image_arguments()
        for number, line in enumerate(self.lines):
            if has_key(line, "options"):
                self.lines[number] = _replace_argument(line, key, argument)
                return
        self.lines.append(f"options {argument}")

    def _remove_image_arguments(self) -> None:
        for number, line in enumerate(self.lines):
            if has_key(line, "options"):
                tokens = split_cmdline(line)[1:]
                kept = [token for token in tokens if argument_key(token) not in _IMAGE_KEYS]
                if len(kept) != len(tokens):
                    self.lines[number] = " ".join(["options", *kept])
        self.lines = [line for line in self.lines if line != "options"]

    def image_arguments(self) -> list[str]:
        """Return the arguments of all ``options`` lines that name an image."""
        return [
            token
            for value in self.values("options")
            for token in split_cmdline(value)
            if argument_key(token) in _IMAGE_KEYS
        ]

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

_REPEATED_KEYS: Final = frozenset(
    {"console=", "earlycon=", "rd.luks.uuid=", "rd.luks.name=", "rd.lvm.lv=", "systemd.setenv="}
)
"""Arguments of which a command line may have several, each with its own meaning."""


def _replace_argument(line: str, key: str, argument: str) -> str:
    """Return an ``options`` line with an argument in it."""
    tokens = split_cmdline(line)[1:]
    places = [number for number, token in enumerate(tokens) if argument_key(token) == key]
    if not places or key in _REPEATED_KEYS:
        return line if argument in tokens else f"{line} {argument}"
    kept = [token for number, token in enumerate(tokens) if number not in places[1:]]
    kept[places[0]] = argument
    return " ".join(["options", *kept])


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
