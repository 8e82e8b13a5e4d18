"""Text for people: what must be escaped in it, and numbers of bytes."""

from __future__ import annotations


def escape_controls(text: str) -> str:
    """Return `text` with all but newlines escaped that could steer a terminal or is not to be seen."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def printable(text: str) -> str:
    """Return `text` on one line, with everything escaped that could steer a terminal or is not to be seen."""
    return text if text.isprintable() else escape_controls(text).replace("\n", "\\n")


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not text, as Python has it in names
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def format_size(size: int) -> str:
    """Return a number of bytes in the unit that leaves three digits of it: ``8.42 MiB``, ``512 B``."""
    if size < 1024:
        return f"{size} B"
    units = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min((size.bit_length() - 1) // 10, len(units))
    number = size / 1024**power
    if number >= 999.5 and power < len(units):
        power, number = power + 1, number / 1024
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f} {units[power - 1]}"
