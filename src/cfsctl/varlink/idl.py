"""Parser for interface definitions (https://varlink.org/Interface-Definition)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl.errors import FormatError
from cfsctl.varlink.types import (
    PRIMITIVES,
    Array,
    Enum,
    Map,
    Named,
    Optional,
    ParameterError,
    Primitive,
    Struct,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.varlink.types import Type

_TOKEN: Final = re.compile(
    r"(?P<blank>[ \t\r\n]+|#[^\n]*)|(?P<word>[A-Za-z][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_-]+)*)"
    r"|(?P<sign>->|\[\]|\[string\]|[():,?])"
)
_INTERFACE: Final = re.compile(r"[A-Za-z](?:-*[A-Za-z0-9])*(?:\.[A-Za-z0-9](?:-*[A-Za-z0-9])*)+")
_MEMBER: Final = re.compile(r"[A-Z][A-Za-z0-9]*")
_FIELD: Final = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9])*")
_MAX_DEPTH: Final = 64
_MAX_CHARACTERS: Final = 1 << 20


class InterfaceError(FormatError):
    """Text that is not an interface definition; `offset` is the character at fault."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method.

    Attributes:
        parameters: What it takes.
        results: What it returns.
    """

    parameters: Struct
    results: Struct


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface.

    Attributes:
        name: Its full name.
        description: The definition, as it was parsed.
        methods: By name.
        errors: Parameters by name of the error.
        types: Named types.
    """

    name: str
    description: str
    methods: Mapping[str, Method]
    errors: Mapping[str, Struct]
    types: Mapping[str, Type]

    def check_call(self, method: str, parameters: Mapping[str, object]) -> None:
        """Check that parameters are those of a method.

        Raises:
            ParameterError: They are not.
        """
        self.methods[method].parameters.check(dict(parameters), "", self.types)

    def check_reply(self, method: str, results: Mapping[str, object] | None) -> None:
        """Check that results are those of a method.

        Raises:
            ParameterError: They are not.
        """
        self._check_all(self.methods[method].results, results or {})

    def check_error(self, error: str, parameters: Mapping[str, object]) -> None:
        """Check that parameters are those of an error.

        Raises:
            ParameterError: They are not, or there is no such error.
        """
        if error not in self.errors:
            raise ParameterError(f"{self.name}: no error {error}", field=error)
        self._check_all(self.errors[error], parameters)

    def _check_all(self, struct: Struct, values: Mapping[str, object]) -> None:
        unknown = values.keys() - struct.members.keys()
        if unknown:
            raise ParameterError(f"{self.name}: no member {min(unknown)}", field=min(unknown))
        struct.check(dict(values), "", self.types)


def parse_interface(text: str) -> Interface:
    """Return the interface that a definition describes.

    Raises:
        InterfaceError: It is not valid.
    """
    return _Parser(text).run()


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > _MAX_CHARACTERS:
            raise InterfaceError(f"interface: expected at most {_MAX_CHARACTERS} characters")
        self._text = text
        self._tokens = self._split()
        self._next = 0
        self._depth = 0

    def _split(self) -> list[tuple[str, int]]:
        tokens = []
        place = 0
        while place < len(self._text):
            match = _TOKEN.match(self._text, place)
            if match is None:
                raise InterfaceError(
                    f"interface: unexpected {self._text[place]!r} at character {place}", offset=place
                )
            if match.lastgroup != "blank":
                tokens.append((match[0], place))
            place = match.end()
        return tokens

    def run(self) -> Interface:
        self._expect("interface")
        name = self._take_name(_INTERFACE, "the name of an interface")
        methods: dict[str, Method] = {}
        errors: dict[str, Struct] = {}
        types: dict[str, Type] = {}
        while self._next < len(self._tokens):
            keyword = self._take()
            member = self._take_name(_MEMBER, "a name in CamelCase")
            if member in methods or member in errors or member in types:
                self._fail(f"one definition of {member}", -1)
            if keyword == "method":
                parameters = self._take_struct()
                self._expect("->")
                methods[member] = Method(parameters, self._take_struct())
            elif keyword == "error":
                errors[member] = self._take_struct()
            elif keyword == "type":
                types[member] = self._take_type()
            else:
                self._fail("method, error or type", -2)
        interface = Interface(name, self._text, methods, errors, types)
        _check_names(interface)
        return interface

    def _fail(self, expected: str, place: int = 0) -> None:
        index = self._next + place
        found, offset = self._tokens[index] if index < len(self._tokens) else ("its end", len(self._text))
        raise InterfaceError(
            f"interface: expected {expected}, found {found} at character {offset}", offset=offset
        )

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        if self._next >= len(self._tokens):
            self._fail("more")
        token = self._peek()
        self._next += 1
        return token

    def _expect(self, token: str) -> None:
        if self._peek() != token:
            self._fail(token)
        self._next += 1

    def _take_name(self, pattern: re.Pattern[str], what: str) -> str:
        if not pattern.fullmatch(self._peek()):
            self._fail(what)
        return self._take()

    def _take_struct(self) -> Struct:
        found = self._take_parentheses()
        if isinstance(found, Enum):
            self._fail("members with types", -1)
        assert isinstance(found, Struct)
        return found

    def _take_parentheses(self) -> Struct | Enum:
        """Return a struct, or an enum: its members have no types."""
        self._expect("(")
        names: list[str] = []
        members: dict[str, Type] = {}
        while self._peek() != ")":
            if names:
                self._expect(",")
            name = self._take_name(_FIELD, "the name of a member")
            if name in names:
                self._fail(f"one member {name}", -1)
            names.append(name)
            if self._peek() == ":":
                self._next += 1
                members[name] = self._take_type()
            if members and len(members) != len(names):
                self._fail("a type for each member, or for none")
        self._expect(")")
        return Enum(tuple(names)) if names and not members else Struct(members)

    def _take_type(self) -> Type:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._fail(f"at most {_MAX_DEPTH} types within each other")
        try:
            return self._take_inner_type()
        finally:
            self._depth -= 1

    def _take_inner_type(self) -> Type:
        token = self._peek()
        if token == "(":  # noqa: S105 - not a password
            return self._take_parentheses()
        self._take()
        if token == "?":  # noqa: S105 - the same
            if self._peek() == "?":
                self._fail("a type that is not optional itself")
            return Optional(self._take_type())
        if token == "[]":  # noqa: S105 - the same
            return Array(self._take_type())
        if token == "[string]":  # noqa: S105 - the same
            return Map(self._take_type())
        if token in PRIMITIVES:
            return Primitive(token)
        if not _MEMBER.fullmatch(token):
            self._fail("a type", -1)
        return Named(token)


def _check_names(interface: Interface) -> None:
    """Check that all named types exist, and that none contains itself: a value of it would have no end."""
    structs = [*interface.errors.values()]
    for method in interface.methods.values():
        structs += (method.parameters, method.results)
    for kind in (*structs, *interface.types.values()):
        for name in kind.iter_names():
            if name not in interface.types:
                raise InterfaceError(f"interface {interface.name}: there is no type {name}")
    for name, kind in interface.types.items():
        if isinstance(kind, Named | Optional) and name in _reach(interface, kind):
            raise InterfaceError(f"interface {interface.name}: type {name} is an alias of itself")


def _reach(interface: Interface, kind: Type) -> set[str]:
    """Return the names that a type is another name of."""
    seen: set[str] = set()
    while True:
        if isinstance(kind, Optional):
            kind = kind.inner
        elif isinstance(kind, Named) and kind.name not in seen:
            seen.add(kind.name)
            kind = interface.types[kind.name]
        else:
            return seen
