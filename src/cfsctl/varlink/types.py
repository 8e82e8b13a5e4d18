"""Types of the interface definition language, which check values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Scope = Mapping[str, "Type"]
    """The named types of an interface."""

_INT_BITS: Final = 64


class ParameterError(FormatError):
    """A value that is not of its type; `field` is the path of the parameter."""


def _refuse(path: str, expected: str, value: object) -> None:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    found = names.get(type(value), "a number")
    raise ParameterError(f"{path}: expected {expected}, found {found}", field=path)


class Type:
    """A type."""

    def check(self, value: object, path: str, scope: Scope) -> None:
        """Check that a value is of this type.

        Args:
            value: The value, of which only what the type names is looked at.
            path: The parameter, for the error.
            scope: The named types.

        Raises:
            ParameterError: It is not.
        """
        raise NotImplementedError

    def iter_names(self) -> Iterable[str]:
        """Yield the named types that this one needs."""
        return ()


@dataclass(frozen=True, slots=True)
class Primitive(Type):
    """``bool``, ``int``, ``float``, ``string`` or ``object``."""

    name: str

    def check(self, value: object, path: str, scope: Scope) -> None:  # noqa: ARG002 - needs no names
        """Check that a value is of this type."""
        if not _PRIMITIVES[self.name](value):
            _refuse(path, f"a value of type {self.name}", value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_int(value: object) -> bool:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and -(1 << _INT_BITS - 1) <= value < 1 << _INT_BITS  # type: ignore[operator]  # seen to be int


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_anything(value: object) -> bool:
    return value is not None


_PRIMITIVES: Final = {
    "bool": _is_bool,
    "int": _is_int,
    "float": _is_number,
    "string": _is_string,
    "object": _is_anything,
}

PRIMITIVES: Final = frozenset(_PRIMITIVES)


@dataclass(frozen=True, slots=True)
class Enum(Type):
    """One of several words."""

    words: tuple[str, ...]

    def check(self, value: object, path: str, scope: Scope) -> None:  # noqa: ARG002 - needs no names
        """Check that a value is one of the words."""
        if value not in self.words:
            _refuse(path, " or ".join(self.words), value)


@dataclass(frozen=True, slots=True)
class Struct(Type):
    """An object; optional members may be missing or null, and members without a name here are ignored."""

    members: Mapping[str, Type] = field(default_factory=dict)

    def check(self, value: object, path: str, scope: Scope) -> None:
        """Check that a value is an object with all members of their types."""
        if not isinstance(value, dict):
            _refuse(path, "an object", value)
            return
        for name, kind in self.members.items():
            kind.check(value.get(name), f"{path}.{name}" if path else name, scope)

    def iter_names(self) -> Iterable[str]:
        """Yield the named types that the members need."""
        for kind in self.members.values():
            yield from kind.iter_names()


@dataclass(frozen=True, slots=True)
class Array(Type):
    """A list."""

    item: Type

    def check(self, value: object, path: str, scope: Scope) -> None:
        """Check that a value is a list whose items are of their type."""
        if not isinstance(value, list):
            _refuse(path, "a list", value)
            return
        for index, item in enumerate(value):
            self.item.check(item, f"{path}[{index}]", scope)

    def iter_names(self) -> Iterable[str]:
        """Yield the named types that the items need."""
        return self.item.iter_names()


@dataclass(frozen=True, slots=True)
class Map(Type):
    """An object with any names."""

    item: Type

    def check(self, value: object, path: str, scope: Scope) -> None:
        """Check that a value is an object whose values are of their type."""
        if not isinstance(value, dict):
            _refuse(path, "an object", value)
            return
        for name, item in value.items():
            self.item.check(item, f"{path}[{name}]", scope)

    def iter_names(self) -> Iterable[str]:
        """Yield the named types that the values need."""
        return self.item.iter_names()


@dataclass(frozen=True, slots=True)
class Optional(Type):
    """A value or null."""

    inner: Type

    def check(self, value: object, path: str, scope: Scope) -> None:
        """Check that a value is null, or of the inner type."""
        if value is not None:
            self.inner.check(value, path, scope)

    def iter_names(self) -> Iterable[str]:
        """Yield the named types that the inner type needs."""
        return self.inner.iter_names()


@dataclass(frozen=True, slots=True)
class Named(Type):
    """A type that the interface defines elsewhere."""

    name: str

    def check(self, value: object, path: str, scope: Scope) -> None:
        """Check that a value is of that type."""
        scope[self.name].check(value, path, scope)

    def iter_names(self) -> Iterable[str]:
        """Yield the name."""
        return (self.name,)
