"""Checks documents against the JSON Schemas of the documentation.

Knows what those schemas use and refuses anything else, so that no rule is passed over in silence.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[2] / "docs" / "reference" / "schemas"

_NOTES = {"$schema", "$defs", "title", "description"}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}


_ABOUT: dict[str, type] = {
    "required": dict,
    "properties": dict,
    "additionalProperties": dict,
    "items": list,
    "minimum": int,
}


def load(name: str) -> dict[str, Any]:
    schema = json.loads((DIRECTORY / f"{name}.json").read_text())
    assert isinstance(schema, dict)
    return schema


def check(document: object, name: str) -> None:
    """Fail unless the document is as the schema of this name says."""
    schema = load(name)
    _Checker(schema).check(document, schema, "$")


class _Checker:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root

    def check(self, value: Any, schema: dict[str, Any], place: str) -> None:  # noqa: ANN401 - any JSON
        for keyword, rule in schema.items():
            kind = _ABOUT.get(keyword)
            if kind is not None and not isinstance(value, kind):
                continue  # Says nothing about other values; what type there may be is `type`'s business.
            if keyword not in _NOTES:
                getattr(self, f"_check_{keyword.lstrip('$')}")(value, rule, schema, place)

    def _check_ref(self, value: Any, rule: str, _schema: dict[str, Any], place: str) -> None:  # noqa: ANN401
        self.check(value, self._root["$defs"][rule.removeprefix("#/$defs/")], place)

    def _check_type(self, value: Any, rule: str | list[str], _schema: dict[str, Any], place: str) -> None:  # noqa: ANN401
        kinds = [rule] if isinstance(rule, str) else rule
        assert any(_is(value, kind) for kind in kinds), f"{place}: {value!r} is no {rule}"

    def _check_enum(self, value: Any, rule: list[Any], _schema: dict[str, Any], place: str) -> None:  # noqa: ANN401
        assert value in rule, f"{place}: {value!r} is none of {rule}"

    def _check_pattern(self, value: Any, rule: str, _schema: dict[str, Any], place: str) -> None:  # noqa: ANN401
        assert not isinstance(value, str) or re.search(rule, value), f"{place}: {value!r} is no {rule}"

    def _check_minimum(self, value: Any, rule: int, _schema: dict[str, Any], place: str) -> None:  # noqa: ANN401
        assert value >= rule, f"{place}: {value!r} is less than {rule}"

    def _check_required(self, value: Any, rule: list[str], _schema: dict[str, Any], place: str) -> None:  # noqa: ANN401
        assert set(rule) <= set(value), f"{place}: {set(rule) - set(value)} missing"

    def _check_properties(self, value: Any, rule: dict[str, Any], _s: dict[str, Any], place: str) -> None:  # noqa: ANN401
        for name, schema in rule.items():
            if name in value:
                self.check(value[name], schema, f"{place}.{name}")

    def _check_additionalProperties(  # noqa: N802 - the keyword's name
        self,
        value: Any,  # noqa: ANN401
        rule: bool | dict[str, Any],  # noqa: FBT001 - the keyword's value
        schema: dict[str, Any],
        place: str,
    ) -> None:
        for name in set(value) - set(schema.get("properties", {})):
            assert rule is not False, f"{place}: {name} is not described"
            if isinstance(rule, dict):
                self.check(value[name], rule, f"{place}.{name}")

    def _check_items(self, value: Any, rule: dict[str, Any], _schema: dict[str, Any], place: str) -> None:  # noqa: ANN401
        for index, item in enumerate(value or ()):  # null, where that may be in place of an array
            self.check(item, rule, f"{place}[{index}]")


def _is(value: object, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, _TYPES[kind])
