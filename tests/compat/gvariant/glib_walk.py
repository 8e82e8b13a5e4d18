"""Say how GLib reads GVariants: run by an interpreter that has PyGObject, one request a line.

Request: type string, tab, hex. Answer: a JSON list of ``is_normal`` and the value, in the same plain
form as `plain` in the test makes of ours.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

import gi

gi.require_version("GLib", "2.0")
from gi.repository import GLib  # noqa: E402 - the version has to be asked for first

NUMBERS = {
    "y": GLib.Variant.get_byte,
    "b": GLib.Variant.get_boolean,
    "n": GLib.Variant.get_int16,
    "q": GLib.Variant.get_uint16,
    "i": GLib.Variant.get_int32,
    "u": GLib.Variant.get_uint32,
    "h": GLib.Variant.get_handle,
    "x": GLib.Variant.get_int64,
    "t": GLib.Variant.get_uint64,
}


def plain(value: Any) -> object:  # noqa: ANN401 - PyGObject has no types
    """Return a value as JSON can hold it."""
    kind = value.get_type_string()
    if kind in NUMBERS:
        return NUMBERS[kind](value)
    if kind == "d":
        return struct.pack("<d", value.get_double()).hex()
    if kind in "sog":
        return value.get_string()
    children = [value.get_child_value(index) for index in range(value.n_children())]
    if kind == "v":
        return {children[0].get_type_string(): plain(children[0])}
    if kind == "ay":
        return bytes(child.get_byte() for child in children).hex()
    return [plain(child) for child in children]


def main() -> None:
    """Answer every line of standard input."""
    for line in sys.stdin:
        kind, text = line.rstrip("\n").split("\t")
        data = GLib.Bytes.new(bytes.fromhex(text))
        value = GLib.Variant.new_from_bytes(GLib.VariantType.new(kind), data, False)  # noqa: FBT003 - C API
        sys.stdout.write(json.dumps([value.is_normal_form(), plain(value)]) + "\n")


main()
