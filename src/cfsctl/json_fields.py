"""Typed access to JSON and TOML documents that may be hostile; every error says which key is at fault.

Documents are bounded in size, and in depth by the interpreter. Keys that nobody asks for are ignored. A key
that occurs twice in one object is refused where the caller knows it: programs do not agree about which one
counts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import NoReturn

MAX_DOCUMENT_BYTES: Final = 4 << 20
"""Most bytes of one document: what registries and other programs accept of a manifest."""

MAX_CONTAINERS: Final = 200_000
"""Most objects and lists in a document of that size; a manifest has one for each layer, and some more."""

_MAX_DIGITS: Final = 1000
"""Most digits of a whole number; those of 64 bits have twenty."""

_MAX_TOML_BYTES: Final = 1 << 20
_MAX_DOTS: Final = 200
"""Most dots in one line of TOML; a list of servers may have a few dozen."""

_Pairs = list[tuple[str, object]]


class JsonError(FormatError):
    """A document that is not JSON, or does not have what it should have; `field` is the path of the key."""


def parse_object(data: bytes, what: str, known_keys: Collection[str] = ()) -> JsonFields:
    """Return the object that a document is.

    Args:
        data: The document, UTF-8.
        what: What it is called in messages.
        known_keys: Keys that may occur only once in any object.

    Raises:
        JsonError: It is not a JSON document of this kind, or too large.
    """
    value = parse_value(data, what, known_keys)
    if not isinstance(value, dict):
        raise JsonError(f"{what}: expected a JSON object, found {_name_type(value)}")
    return JsonFields(value, what)


def parse_value(
    data: bytes, what: str, known_keys: Collection[str] = (), limit_bytes: int = MAX_DOCUMENT_BYTES
) -> object:
    """Return the value that a document is; see `parse_object`."""
    if len(data) > limit_bytes:
        raise JsonError(f"{what}: expected at most {limit_bytes} bytes, found {len(data)}")
    # An empty object takes thirty times as much memory as text.
    limit = max(MAX_CONTAINERS, limit_bytes >> 7)
    if len(data) > limit and data.count(b"{") + data.count(b"[") > limit:
        raise JsonError(f"{what}: expected at most {limit} objects and lists, found more")

    def take_pairs(pairs: _Pairs) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            _check_once(pairs, what, known_keys)
        return found

    try:
        return json.loads(
            data.decode(), object_pairs_hook=take_pairs, parse_int=_parse_int, parse_constant=_refuse_constant
        )
    except JsonError:
        raise
    except RecursionError as error:
        raise JsonError(f"{what}: JSON nested too deeply") from error
    except UnicodeDecodeError as error:
        raise JsonError(f"{what}: expected UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise JsonError(f"{what}: expected JSON: {error}") from error


def parse_toml(data: bytes, what: str) -> JsonFields:
    """Return the keys of a TOML document, as of a JSON object.

    Raises:
        JsonError: It is not such a document, or too large.
    """
    import tomllib  # most machines have no such file

    if len(data) > _MAX_TOML_BYTES:
        raise JsonError(f"{what}: expected at most {_MAX_TOML_BYTES} bytes, found {len(data)}")
    # The library takes memory by the square of the parts that a key has.
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.count(b".") > _MAX_DOTS:
            raise JsonError(f"{what}: line {number}: expected TOML with at most {_MAX_DOTS} dots in a line")
    try:
        return JsonFields(tomllib.loads(data.decode()), what)
    except RecursionError as error:
        raise JsonError(f"{what}: expected TOML: nested too deeply") from error
    except ValueError as error:
        raise JsonError(f"{what}: expected TOML: {error}") from error


def _check_once(pairs: _Pairs, what: str, known_keys: Collection[str]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen and key in known_keys:
            raise JsonError(f"{what}: {key} occurs twice in one object", field=key)
        seen.add(key)


def _parse_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _name_type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


class JsonFields:
    """The keys of one object.

    ``get`` methods want the key to be there; ``find`` methods return None, or nothing at all, if it is
    missing or null.
    """

    __slots__ = ("_path", "_value", "_what")

    def __init__(self, value: Mapping[str, object], what: str, path: str = "") -> None:
        """Check an object of a parsed document.

        Args:
            value: The object.
            what: What the document is called in messages.
            path: Where the object is in it, with a dot at the end.
        """
        self._value = value
        self._what = what
        self._path = path

    def to_dict(self) -> dict[str, object]:
        """Return the object itself, with all its keys."""
        return dict(self._value)

    def list_keys(self) -> list[str]:
        """Return the keys, in the order in which they stand."""
        return list(self._value)

    def has(self, key: str) -> bool:
        """Return whether a key is there, even if it is null."""
        return key in self._value

    def fail(self, key: str, expected: str, found: object) -> NoReturn:
        """Raise the error for a key of this object."""
        path = self._path + key
        raise JsonError(f"{self._what}: {path}: expected {expected}, found {found}", field=path)

    def _get(self, key: str, expected: str) -> object:
        value = self._value.get(key)
        if value is None:
            self.fail(key, expected, "nothing")
        return value

    def get_string(self, key: str) -> str:
        """Return text that can be encoded."""
        value = self._get(key, "a string")
        return self._check_string(key, value)

    def _check_string(self, key: str, value: object) -> str:
        if not isinstance(value, str):
            self.fail(key, "a string", _name_type(value))
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            self.fail(key, "text", "a lone surrogate")
        return value

    def find_string(self, key: str) -> str | None:
        """Return text, or None."""
        return None if self._value.get(key) is None else self.get_string(key)

    def get_size(self, key: str) -> int:
        """Return a number of bytes, or of anything else that is counted."""
        return self._check_size(key, self._get(key, "a number"))

    def _check_size(self, key: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            self.fail(key, "a number from 0 to 2^63 - 1", value if is_number else _name_type(value))
        return value

    def find_size(self, key: str) -> int | None:
        """Return a number, or None."""
        return None if self._value.get(key) is None else self.get_size(key)

    def find_bool(self, key: str) -> bool | None:
        """Return a truth value, or None."""
        value = self._value.get(key)
        if value is not None and not isinstance(value, bool):
            self.fail(key, "a truth value", _name_type(value))
        return value

    def find_list_of_fields(self, key: str) -> list[JsonFields]:
        """Return the objects that a list has; none if the key is missing."""
        return [] if self._value.get(key) is None else self.get_list_of_fields(key)

    def get_fields(self, key: str) -> JsonFields:
        """Return the object that a key has."""
        value = self._get(key, "an object")
        if not isinstance(value, dict):
            self.fail(key, "an object", _name_type(value))
        return type(self)(value, self._what, f"{self._path}{key}.")

    def find_fields(self, key: str) -> JsonFields | None:
        """Return the object that a key has, or None."""
        return None if self._value.get(key) is None else self.get_fields(key)

    def _get_list(self, key: str) -> list[object]:
        value = self._get(key, "a list")
        if not isinstance(value, list):
            self.fail(key, "a list", _name_type(value))
        return value

    def find_list(self, key: str) -> list[object] | None:
        """Return a list of anything, or None."""
        return None if self._value.get(key) is None else self._get_list(key)

    def get_list_of_fields(self, key: str) -> list[JsonFields]:
        """Return the objects that a list has."""
        found = []
        for index, value in enumerate(self._get_list(key)):
            place = f"{key}[{index}]"
            if not isinstance(value, dict):
                self.fail(place, "an object", _name_type(value))
            found.append(type(self)(value, self._what, f"{self._path}{place}."))
        return found

    def get_list_of_strings(self, key: str) -> list[str]:
        """Return the strings that a list has."""
        return [self._check_string(f"{key}[{n}]", value) for n, value in enumerate(self._get_list(key))]

    def get_list_of_sizes(self, key: str) -> list[int]:
        """Return the numbers that a list has; see `get_size`."""
        return [self._check_size(f"{key}[{n}]", value) for n, value in enumerate(self._get_list(key))]

    def find_strings(self, key: str) -> dict[str, str]:
        """Return an object of strings; an empty one where the key is missing."""
        fields = self.find_fields(key)
        return {} if fields is None else {name: fields.get_string(name) for name in fields._value}  # noqa: SLF001 - of this class
