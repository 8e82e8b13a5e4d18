"""Errors that calls are answered with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.varlink.interfaces import SERVICE

if TYPE_CHECKING:
    from collections.abc import Mapping


class CallError(Exception):
    """An error reply.

    Attributes:
        interface: The interface that defines the error.
        error: Its name there.
        parameters: Its parameters.
    """

    def __init__(self, interface: str, error: str, /, **parameters: object) -> None:
        """Store what is to be sent."""
        super().__init__(f"{interface}.{error}: {parameters}")
        self.interface = interface
        self.error = error
        self.parameters: Mapping[str, object] = parameters

    @property
    def name(self) -> str:
        """Full name of the error."""
        return f"{self.interface}.{self.error}"


def invalid_parameter(name: str) -> CallError:
    """Return the error for a parameter that is missing, or not of its type."""
    return CallError(SERVICE, "InvalidParameter", parameter=name)


def method_not_found(name: str) -> CallError:
    """Return the error for a method that does not exist, nor perhaps its interface: so systemd has it."""
    return CallError(SERVICE, "MethodNotFound", method=name)
