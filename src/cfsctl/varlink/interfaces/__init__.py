"""The interfaces that the service has, as their definitions describe them."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from cfsctl.varlink.idl import Interface, parse_interface

SERVICE: Final = "org.varlink.service"
REPOSITORY: Final = "org.composefs.Repository"
OCI: Final = "org.composefs.Oci"

NAMES: Final = (REPOSITORY, OCI, SERVICE)
"""All of them, in the order in which they are listed."""


@cache
def load_interface(name: str) -> Interface:
    """Return one of these interfaces."""
    text = resources.files(__name__).joinpath(f"{name}.varlink").read_text("utf-8")
    return parse_interface(text)
