"""Our readers against GLib's, on values, damaged values and noise."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from random import Random

import pytest

from cfsctl.gvariant import GVariantError, Just, Type, Value, Variant, decode, encode, is_normal, parse_type
from cfsctl.gvariant.types import ArrayType, MaybeType, TupleType
from tests.support.gvariants import damaged, random_type, random_value

_WALK = Path(__file__).with_name("glib_walk.py")
_TYPES = 700
_MAX_SIZE = 2000


@lru_cache
def _interpreter() -> str | None:
    """Return an interpreter that has PyGObject: ours, or the system's."""
    for python in (sys.executable, "/usr/bin/python3"):
        path = shutil.which(python)
        if (
            path
            and subprocess.run([path, "-c", "import gi"], capture_output=True, check=False).returncode == 0
        ):
            return path
    return None


pytestmark = [
    pytest.mark.compat,
    pytest.mark.skipif(_interpreter() is None, reason="PyGObject is not installed (package python3-gi)"),
]


def plain(type_: Type, value: Value) -> object:
    """Return a value as the other side writes it."""
    match value:
        case Variant():
            return {value.type: plain(parse_type(value.type), value.value)}
        case float() | bytes():
            return (struct.pack("<d", value) if isinstance(value, float) else value).hex()
        case list() if isinstance(type_, ArrayType):
            return [plain(type_.element, item) for item in value]
        case tuple() if isinstance(type_, TupleType):
            return [plain(member, item) for member, item in zip(type_.members, value, strict=True)]
        case Just() | None if isinstance(type_, MaybeType):
            return [plain(type_.element, value.value)] if value is not None else []
    return value


def _ask_glib(cases: list[tuple[str, bytes]]) -> list[tuple[bool, object]]:
    requests = "".join(f"{kind}\t{data.hex()}\n" for kind, data in cases)
    done = subprocess.run(
        [_interpreter() or "", str(_WALK)], input=requests, capture_output=True, text=True, check=True
    )
    return [(normal, value) for normal, value in map(json.loads, done.stdout.splitlines())]


def _cases(random: Random) -> list[tuple[str, bytes]]:
    cases: list[tuple[str, bytes]] = []
    for _ in range(_TYPES):
        kind = random_type(random)
        data = encode(kind, random_value(random, parse_type(kind)))
        if len(data) <= _MAX_SIZE:
            cases.append((kind, data))
            cases += [(kind, damaged(random, data)) for _ in range(6)]
        cases.append((kind, random.randbytes(random.randint(0, 20))))
    return cases


@pytest.mark.parametrize("seed", range(4))
def test_same_verdicts_and_values(seed: int) -> None:
    cases = _cases(Random(seed))
    answers = _ask_glib(cases)
    assert len(answers) == len(cases)
    assert 0.2 < sum(normal for normal, _ in answers) / len(answers) < 0.8
    refused = 0
    for (kind, data), (normal, value) in zip(cases, answers, strict=True):
        if is_normal(kind, data):
            assert normal, (kind, data.hex())
            assert plain(parse_type(kind), decode(kind, data)) == value
        elif normal:
            # GLib takes zero bytes for a tuple of empty members, which a writer gives an offset each.
            assert "(" in kind, (kind, data.hex())
            refused += 1
    assert refused < len(cases) / 50


def test_only_empty_tuples_differ() -> None:
    ((normal, value),) = _ask_glib([("(a(say)a(sayay))", b"")])
    assert (normal, value) == (True, [[], []])
    with pytest.raises(GVariantError):
        decode("(a(say)a(sayay))", b"")


def _depth_cases() -> list[tuple[str, bytes]]:
    cases = []
    for levels in range(120, 131):
        nested = b"x\0\0s" + b"\0v" * (levels - 1)
        cases += [("v", nested), ("((v))", nested), ("(mv)", nested + b"\0")]
    for levels in range(120, 128):
        cases += [("v", b"\0" + b"a" * levels + b"y"), ("v", b"x\0" + b"(" * levels + b"y" + b")" * levels)]
    for levels in range(50, 70):
        inner = b"\0" + b"a" * (118 - levels) + b"s"
        cases.append(("v", inner + b"\0v" * (levels - 1)))
    return cases


def test_same_depth() -> None:
    cases = _depth_cases()
    answers = _ask_glib(cases)
    assert {normal for normal, _ in answers} == {True, False}
    for (kind, data), (normal, value) in zip(cases, answers, strict=True):
        assert is_normal(kind, data) == normal, (kind, data.hex())
        if normal:
            assert plain(parse_type(kind), decode(kind, data)) == value
