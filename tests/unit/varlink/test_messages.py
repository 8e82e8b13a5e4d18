"""Messages: cut however they come, bounded in every way, and only one error."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.varlink.messages import (
    MAX_DEPTH,
    MAX_MESSAGE_BYTES,
    MAX_VALUES,
    Call,
    InvalidCallError,
    MessageBuffer,
    MessageError,
    decode_call,
    encode_error,
    encode_reply,
)


def split(pieces: list[bytes]) -> list[bytes]:
    buffer = MessageBuffer()
    found = []
    for piece in pieces:
        buffer.feed(piece)
        while (message := buffer.take()) is not None:
            found.append(message)
    return found


@given(st.lists(st.binary().filter(lambda data: b"\0" not in data)), st.integers(1, 9))
def test_messages_are_the_same_however_they_come(messages: list[bytes], step: int) -> None:
    data = b"".join(message + b"\0" for message in messages)
    assert split([data]) == messages
    assert split([data[start : start + step] for start in range(0, len(data), step)]) == messages


def test_each_byte_is_searched_once() -> None:
    buffer = MessageBuffer()
    for _ in range(1 << 16):
        buffer.feed(b"x")
        assert buffer.take() is None
    assert len(buffer) == 1 << 16


def test_a_message_may_not_grow_without_end() -> None:
    buffer = MessageBuffer()
    buffer.feed(b"x" * MAX_MESSAGE_BYTES)
    assert buffer.take() is None
    buffer.feed(b"x")
    with pytest.raises(MessageError, match="expected at most"):
        buffer.take()


def test_calls() -> None:
    assert decode_call(b'{"method":"a.b.C"}') == Call("a.b.C", {})
    assert decode_call(b'{"method":"a.b.C","parameters":null,"more":null}') == Call("a.b.C", {})
    call = decode_call(
        b'{"method":"a.b.C","parameters":{"x":1},"more":true,"oneway":false,"upgrade":true,"y":2}'
    )
    assert call == Call("a.b.C", {"x": 1}, wants_more=True, is_upgrade=True)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"{}", "method"),
        (b'{"method":1}', "method"),
        (b'{"method":"a.b.C","parameters":[]}', "parameters"),
        (b'{"method":"a.b.C","parameters":"x"}', "parameters"),
        (b'{"method":"a.b.C","more":1}', "more"),
        (b'{"method":"a.b.C","oneway":"yes"}', "oneway"),
        (b'{"method":"a.b.C","upgrade":[]}', "upgrade"),
    ],
)
def test_objects_that_are_no_calls(data: bytes, field: str) -> None:
    with pytest.raises(InvalidCallError) as caught:
        decode_call(data)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"[]",
        b"null",
        b"\xff",
        b'{"a":1',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b'{"a":[' + b"[]," * MAX_VALUES + b"0]}",
    ],
    ids=range(12),
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        decode_call(data)
    assert not isinstance(caught.value, InvalidCallError)


def test_as_deep_as_allowed() -> None:
    inner = MAX_DEPTH - 1
    call = decode_call(b'{"method":"a.b.C","parameters":' + b'{"a":' * (inner - 1) + b"{}" + b"}" * inner)
    assert call.method == "a.b.C"


@given(st.binary())
def test_whatever_comes_there_is_one_error(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        decode_call(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_replies_are_json_with_a_nul(parameters: dict[str, object]) -> None:
    data = encode_reply(parameters)
    assert data.count(b"\0") == 1
    assert data.endswith(b"\0")
    json.loads(data[:-1])


def test_replies() -> None:
    assert encode_reply(None) == b'{"continues":false}\0'
    assert encode_reply({"a": None}, continues=True) == b'{"parameters":{"a":null},"continues":true}\0'
    assert encode_error("a.b.E", {"x": 1}) == b'{"error":"a.b.E","parameters":{"x":1}}\0'
    assert encode_reply({"name": "caf\udce9"}) == b'{"parameters":{"name":"caf?"},"continues":false}\0'
