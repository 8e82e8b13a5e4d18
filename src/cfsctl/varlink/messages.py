"""Varlink messages: JSON objects, each with a NUL at its end; bytes in, calls out, and replies back to bytes.

A peer can make no message cost more than the limits here: neither in bytes, nor in values, which take twenty
times as much memory as their text, nor in depth.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MESSAGE_BYTES: Final = 16 << 20
"""Most bytes of one message: a manifest and a config of 4 MiB each, with all their quotes escaped."""

MAX_VALUES: Final = 1 << 18
"""Most values in one message; the largest real one lists the layers of an image."""

MAX_DEPTH: Final = 32
"""Most objects and lists within each other; the interfaces need five."""


class MessageError(FormatError):
    """Bytes that are not a varlink message."""


class InvalidCallError(MessageError):
    """A JSON object that is not a call; `field` is the member at fault."""


class Call(NamedTuple):
    """A call.

    Attributes:
        method: Full name, with the interface.
        parameters: Values by name.
        wants_more: The client takes more than one reply.
        is_oneway: The client takes no reply.
        is_upgrade: The client wants to speak something else on this connection afterwards.
    """

    method: str
    parameters: Mapping[str, object]
    wants_more: bool = False
    is_oneway: bool = False
    is_upgrade: bool = False


class MessageBuffer:
    """Cuts what is received into messages, however it comes."""

    def __init__(self) -> None:
        """Start empty."""
        self._data = bytearray()
        self._searched = 0  # so that each byte is looked at once, even if they come one by one

    def __len__(self) -> int:
        """Return the bytes that wait."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._data += data

    def take(self) -> bytes | None:
        """Return the next message without its NUL, or None if it is not complete.

        Raises:
            MessageError: It is too long.
        """
        end = self._data.find(b"\0", self._searched)
        if end > MAX_MESSAGE_BYTES or (end < 0 and len(self._data) > MAX_MESSAGE_BYTES):
            raise MessageError(f"message: expected at most {MAX_MESSAGE_BYTES} bytes, found more")
        if end < 0:
            self._searched = len(self._data)
            return None
        message = bytes(self._data[:end])
        del self._data[: end + 1]
        self._searched = 0
        return message


def decode_call(data: bytes) -> Call:
    """Return the call in a message.

    Raises:
        InvalidCallError: It is a JSON object, but not a call.
        MessageError: It is not JSON, or too much of it.
    """
    members = decode_object(data)
    method = members.get("method")
    if not isinstance(method, str):
        raise InvalidCallError("call: expected the name of a method", field="method")
    parameters = members.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise InvalidCallError("call: expected an object of parameters", field="parameters")
    return Call(
        method,
        parameters,
        wants_more=_find_flag(members, "more"),
        is_oneway=_find_flag(members, "oneway"),
        is_upgrade=_find_flag(members, "upgrade"),
    )


def _find_flag(members: Mapping[str, object], name: str) -> bool:
    value = members.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidCallError(f"call: {name}: expected true or false", field=name)
    return bool(value)


def decode_object(data: bytes) -> dict[str, object]:
    """Return the JSON object in a message.

    Raises:
        MessageError: There is none, or it has too many values or too much depth.
    """
    # Each value but the first stands behind one of these; within strings they are counted in vain.
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_VALUES:
        raise MessageError(f"message: expected at most {MAX_VALUES} values, found more")
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise MessageError("message: JSON nested too deeply") from error
    except ValueError as error:  # also for invalid UTF-8, and for numbers with thousands of digits
        raise MessageError(f"message: expected JSON: {error}") from error
    if not isinstance(value, dict):
        raise MessageError("message: expected a JSON object")
    _check_depth(value)
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _iter_containers(outer)]
        if not level:
            return
    raise MessageError(f"message: expected at most {MAX_DEPTH} levels, found more")


def _iter_containers(value: object) -> list[object]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in inner if isinstance(each, (dict, list))]


def encode_reply(parameters: Mapping[str, object] | None, *, continues: bool = False) -> bytes:
    """Return a reply as it is sent.

    Args:
        parameters: Values by name, or None for a method that returns nothing.
        continues: Whether more replies follow.
    """
    reply: dict[str, object] = {} if parameters is None else {"parameters": parameters}
    return encode_object(reply | {"continues": continues})


def encode_error(name: str, parameters: Mapping[str, object]) -> bytes:
    """Return an error as it is sent; it ends the call."""
    return encode_object({"error": name, "parameters": parameters})


def encode_object(value: Mapping[str, object]) -> bytes:
    """Return an object as a message.

    Names of files need not be text: a byte that is not becomes a question mark, since no JSON can hold it.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\0"
