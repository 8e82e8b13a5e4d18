"""Templates are such that nothing from outside can become markup."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from cfsctl.pages.templating import _environment

TEMPLATES = {
    entry.name: entry.read_text("utf8")
    for entry in (files("cfsctl.pages") / "templates").iterdir()
    if entry.name.endswith(".html")
}


def test_there_are_templates() -> None:
    assert TEMPLATES.keys() == {"base.html", "parts.html", "store.html", "diff.html"}


def test_everything_is_escaped() -> None:
    assert _environment().autoescape is True
    assert [re.findall(r"\|\s*safe|autoescape|Markup", text) for text in TEMPLATES.values()].count([]) == 3
    assert TEMPLATES["base.html"].count("|safe") == 1
    assert "<style>{{ style|safe }}</style>" in TEMPLATES["base.html"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_values_stand_in_text_or_in_quotes(name: str) -> None:
    text = re.sub(r"{#.*?#}|{%.*?%}", "", TEMPLATES[name], flags=re.DOTALL)
    text = re.sub(r"{{.*?}}", "\x01", text, flags=re.DOTALL).replace('class="soft"', "")
    for tag in re.findall(r"<[a-z][^>]*>", text):
        unquoted = re.sub(r'"[^"]*"', "", tag)
        # An expression between attributes is one of our own words, such as ` open`.
        assert "=\x01" not in unquoted, tag
    assert not re.search(r"""(?:href|src|style|on\w+|action|formaction)=["'][^"']*\x01""", text)
    assert not re.search(r"<(?:script|iframe|object|embed|form|link|img|base)\b", text)
    assert not re.search(r"""\s(?:style|on\w+)=""", text)


def test_the_style_is_in_ascii_and_loads_nothing() -> None:
    style = (files("cfsctl.pages") / "templates" / "style.css").read_text("utf8")
    assert style.isascii()
    assert "</" not in style
    assert "@import" not in style
    assert set(re.findall(r"url\(([^)]*)\)", style)) == {
        "#garbage-wide",
        "#garbage-narrow",
        "#metadata-wide",
        "#metadata-narrow",
    }


def _luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _schemes() -> list[dict[str, str]]:
    style = (files("cfsctl.pages") / "templates" / "style.css").read_text("utf8")
    found = [
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root {(.*?)}", style, re.DOTALL)
    ]
    assert len(found) == 3
    return found


@pytest.mark.parametrize("scheme", _schemes(), ids=["light", "dark", "print"])
def test_contrast(scheme: dict[str, str]) -> None:
    for text in ("ink", "soft", "accent", "plus", "minus"):
        for ground in ("paper", "panel"):
            assert _contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
    for ground in ("t0", "t1", "t2", "t3", "t4", "t5", "grey"):
        assert _contrast(scheme["ink"], scheme[ground]) >= 7, ground
    # What is no text has to differ as much from what is beside it.
    assert _contrast(scheme["own"], scheme["paper"]) >= 3
    assert _contrast(scheme["own"], scheme["shared"]) >= 3
