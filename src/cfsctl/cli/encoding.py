"""Treat file names and arguments as bytes in every locale.

Python decodes both with the locale's encoding. Most encodings of that kind that are not UTF-8 cannot be
undone: in Big5 two sequences of bytes are one character, so that one of two files would be taken for the
other. In Python's UTF-8 mode every sequence of bytes comes back as it was, so a program that was not started
in it starts itself again. That costs some milliseconds in such locales and nothing in others.
"""

from __future__ import annotations

import os
import sys

from cfsctl.cli.streams import LOCALE_MARK


def restart_in_utf8_mode() -> None:
    """Restart in UTF-8 mode if the encoding of names is not UTF-8; then this never returns."""
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode or not sys.executable:
        return
    first, *rest = _command_line()
    options = [b"-X", b"utf8", b"-X", os.fsencode(LOCALE_MARK)]
    try:
        os.execv(sys.executable, [first, *options, *rest])  # noqa: S606 - this program
    except OSError:
        return  # no second interpreter here: most names can be told apart in this one too


def _command_line() -> list[bytes]:
    """Return the words that the interpreter was started with, byte for byte if the kernel tells."""
    try:
        with open("/proc/self/cmdline", "rb") as stream:
            words = stream.read().split(b"\0")[:-1]
    except OSError:
        words = []
    return words if len(words) == len(sys.orig_argv) else [os.fsencode(word) for word in sys.orig_argv]
