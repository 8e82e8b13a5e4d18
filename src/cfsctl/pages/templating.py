"""Templates, and how they are filled."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined

from cfsctl.pages import figures
from cfsctl.pages.blocks import NARROW, WIDE, iter_blocks, label_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK: Final = 256
"""Pieces of a page that are put together before they are handed on."""


@cache
def _read(template: str) -> str:
    return (files("cfsctl.pages") / "templates" / template).read_text("utf8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {one: getattr(figures, one) for one in figures.__all__}
    environment.globals |= {
        "blocks": iter_blocks,
        "label_of": label_of,
        "pictures": (WIDE, NARROW),
        "share": figures.share,
        "zip": zip,
    }
    return environment


def fill(template: str, **values: object) -> Iterator[bytes]:
    """Yield a page in pieces.

    Args:
        template: The name of the template.
        values: What it says.
    """
    style = _read("style.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    stream = _environment().get_template(template).stream(style=style, style_digest=digest, **values)
    stream.enable_buffering(_CHUNK)
    for piece in stream:
        yield piece.encode()
