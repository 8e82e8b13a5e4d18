"""Random GVariant types, values and damage; the source of randomness is handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.gvariant import Just, Value, Variant, parse_type
from cfsctl.gvariant.types import BASIC_SIZES, ArrayType, MaybeType, TupleType, Type

if TYPE_CHECKING:
    from random import Random

_LEAVES = "ybnqiuxtdsogv"
_KEYS = "ybnqiuxtdsog"
_TEXTS = {"s": ("", "a", "é", "x" * 130, "x" * 260), "o": ("/", "/a/b"), "g": ("", "a{sv}", "ii")}


def random_type(random: Random, depth: int = 3) -> str:
    """Return a definite type string of at most `depth` levels of containers."""
    code = random.choice(_LEAVES + "am({" * (3 if depth else 0))
    if code in "am":
        return code + random_type(random, depth - 1)
    if code == "(":
        members = [random_type(random, depth - 1) for _ in range(random.randint(0, 4))]
        return f"({''.join(members)})"
    if code == "{":
        return f"{{{random.choice(_KEYS)}{random_type(random, depth - 1)}}}"
    return code


def random_value(random: Random, type_: Type, depth: int = 2) -> Value:
    """Return a value of the type, with variants in variants up to `depth`."""
    match type_:
        case MaybeType():
            return None if random.random() < 0.3 else Just(random_value(random, type_.element, depth))
        case ArrayType():
            count = random.choice([0, 1, 2, 3, random.randint(0, 90)])
            if type_.element.signature == "y":
                return random.randbytes(count)
            return [random_value(random, type_.element, depth) for _ in range(count)]
        case TupleType():
            return tuple(random_value(random, member, depth) for member in type_.members)
        case _:
            return _random_leaf(random, type_.signature, depth)


def _random_leaf(random: Random, code: str, depth: int) -> Value:
    if code == "v":
        inner = random_type(random, depth - 1) if depth else "u"
        return Variant(inner, random_value(random, parse_type(inner), max(depth - 1, 0)))
    if code in _TEXTS:
        return random.choice(_TEXTS[code])
    if code == "b":
        return random.random() < 0.5
    if code == "d":
        return random.choice([0.0, 1.5, -1e300])
    bits = 8 * BASIC_SIZES[code]
    number = random.choice([0, 1, random.getrandbits(bits)])
    return number - (1 << bits) if code in "nixh" and number >> (bits - 1) else number


def damaged(random: Random, data: bytes) -> bytes:
    """Return the bytes with one to three changes, most of them where framing is."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 3)):
        choice = random.randint(0, 5)
        place = random.randint(0, len(changed))
        if choice == 0:
            changed[place:place] = bytes(random.randint(1, 4))
        elif choice == 1:
            changed[place:place] = random.randbytes(random.randint(1, 4))
        elif choice == 2:
            del changed[place:]
        elif changed:
            place = -1 if choice == 3 else random.randrange(len(changed))
            sizes = [0, 1, 255, len(changed) & 255, (len(changed) - 1) & 255]
            changed[place] = random.choice([*sizes, random.randrange(256)])
    return bytes(changed)
