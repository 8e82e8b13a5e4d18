"""Interface definitions, and values that are checked with them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.varlink.idl import InterfaceError, parse_interface
from cfsctl.varlink.interfaces import NAMES, load_interface
from cfsctl.varlink.methods import find_methods
from cfsctl.varlink.types import ParameterError

VECTORS = Path(__file__).parents[2] / "vectors" / "varlink"

EXAMPLE = """# An example
interface org.example.more-2

type State (start, end)
type Pair (left: ?State, right: [](name: string, sizes: [string]int))
method Do(pair: Pair, deep: ?[]object, ratio: float) -> (done: bool)  # end
method Nothing() -> ()
error Failed (reason: string)
"""


@pytest.mark.parametrize("name", NAMES)
def test_the_service_has_what_its_interfaces_say(name: str) -> None:
    interface = load_interface(name)
    assert interface.name == name
    assert set(find_methods(name)) == set(interface.methods)


@pytest.mark.parametrize("name", NAMES[:2])
def test_descriptions_are_those_that_were_recorded(name: str) -> None:
    assert load_interface(name).description == (VECTORS / f"{name}.varlink").read_text()


def test_an_interface_with_everything() -> None:
    interface = parse_interface(EXAMPLE)
    assert interface.name == "org.example.more-2"
    assert set(interface.types) == {"State", "Pair"}
    assert set(interface.errors) == {"Failed"}
    good = {"pair": {"right": [{"name": "a", "sizes": {"x": 1}}]}, "ratio": 1, "unknown": []}
    interface.check_call("Do", good)
    interface.check_reply("Do", {"done": True})
    interface.check_reply("Nothing", None)
    interface.check_error("Failed", {"reason": "x"})


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"pair": None}, "pair"),
        ({"pair": []}, "pair"),
        ({"pair": {}}, "pair.right"),
        ({"pair": {"left": "middle", "right": []}}, "pair.left"),
        ({"pair": {"left": [], "right": []}}, "pair.left"),
        ({"pair": {"right": {}}}, "pair.right"),
        ({"pair": {"right": [{"name": 1, "sizes": {}}]}}, "pair.right[0].name"),
        ({"pair": {"right": [{"name": "a", "sizes": []}]}}, "pair.right[0].sizes"),
        ({"pair": {"right": [{"name": "a", "sizes": {"x": True}}]}}, "pair.right[0].sizes[x]"),
        ({"pair": {"right": [{"name": "a", "sizes": {"x": 1.0}}]}}, "pair.right[0].sizes[x]"),
        ({"pair": {"right": [{"name": "a", "sizes": {"x": 1 << 64}}]}}, "pair.right[0].sizes[x]"),
        ({"ratio": True}, "ratio"),
        ({"ratio": "1"}, "ratio"),
        ({"deep": {}}, "deep"),
        ({"deep": [None]}, "deep[0]"),
    ],
)
def test_values_that_are_not_of_their_type(changed: dict[str, object], path: str) -> None:
    good: dict[str, object] = {"pair": {"right": []}, "ratio": 0.5}
    interface = parse_interface(EXAMPLE)
    interface.check_call("Do", good)
    with pytest.raises(ParameterError) as caught:
        interface.check_call("Do", good | changed)
    assert caught.value.field == path


def test_our_own_replies_may_have_nothing_else() -> None:
    interface = parse_interface(EXAMPLE)
    with pytest.raises(ParameterError, match="no member more"):
        interface.check_reply("Do", {"done": True, "more": 1})
    with pytest.raises(ParameterError, match="no error Other"):
        interface.check_error("Other", {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "interface",
        "interface org",
        "interface Org.x method",
        "interface org.x method a() -> ()",
        "interface org.x method A()",
        "interface org.x method A() -> (a)",
        "interface org.x method A(a, b: int) -> ()",
        "interface org.x method A(a: int, a: int) -> ()",
        "interface org.x method A(a: ??int) -> ()",
        "interface org.x method A(a: []) -> ()",
        "interface org.x method A(a: [int]int) -> ()",
        "interface org.x method A(a: Missing) -> ()",
        "interface org.x type A A",
        "interface org.x type A B type B A",
        "interface org.x type A ?A",
        "interface org.x type A (a: int) type A (b: int)",
        "interface org.x method A() -> () method A() -> ()",
        "interface org.x type A " + "[]" * 1000 + "int",
        "interface org.x \N{SNOWMAN}",
        "interface org.x type A (a: int",
        "interface org.x thing A ()",
    ],
)
def test_definitions_that_are_not_valid(text: str) -> None:
    with pytest.raises(InterfaceError):
        parse_interface(text)


@given(st.text(alphabet="interface og.x()[]?:,->method AB\n#", max_size=200))
def test_whatever_comes_there_is_one_error(text: str) -> None:
    with contextlib.suppress(InterfaceError):
        parse_interface("interface org.x " + text)
