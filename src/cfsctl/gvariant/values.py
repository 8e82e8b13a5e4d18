"""Values without an equivalent Python type, and the union of all decoded types.

    y n q i u x t h   int            b   bool          d   float
    s o g             str            ay  bytes         aT  list
    (...)  {kv}       tuple          mT  Just(value) or None
    v                 Variant(type string, value)

A dictionary is a list of pairs: its order is kept and so is a key that occurs twice, since either is
legal and changes the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = (
    "bool | int | float | str | bytes | list[Value] | tuple[Value, ...] | Variant | Just | None"
)
"""What `decode` returns, by type as the table above says."""


@dataclass(slots=True)
class Variant:
    """A value that carries its type; ``encode(variant.type, variant.value)`` gives its bytes back.

    Attributes:
        type: Type string of the value.
        value: The value.
    """

    type: str
    value: Value


@dataclass(slots=True)
class Just:
    """A maybe that has a value; one without is None.

    Attributes:
        value: The value, which may be None or another `Just` where the type nests.
    """

    value: Value
