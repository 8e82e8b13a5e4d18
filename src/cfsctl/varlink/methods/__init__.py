"""What the methods of each interface do. They call the public library, and nothing below it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from cfsctl.varlink.interfaces import OCI, REPOSITORY, SERVICE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.varlink.calls import Method

_MODULES: Final = {SERVICE: "service", REPOSITORY: "repository", OCI: "oci"}


def fill_in(name: str, parameters: Mapping[str, object]) -> Mapping[str, object]:
    """Return the parameters of a call with what clients of composefs-rs may leave out.

    Args:
        name: Full name of the method.
        parameters: Its parameters, which have not been checked.
    """
    inner = parameters.get("params")
    if name != f"{OCI}.GetLayer" or not isinstance(inner, dict):
        return parameters
    return {**parameters, "params": {"consumer_has_cap_dac_override": False, **inner}}


def find_methods(interface: str) -> Mapping[str, Method]:
    """Return the methods of an interface by name."""
    methods: Mapping[str, Method] = import_module(f"{__name__}.{_MODULES[interface]}").METHODS
    return methods
