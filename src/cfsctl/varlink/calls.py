"""What a method gets to work with, and what it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

from cfsctl.json_fields import JsonFields
from cfsctl.varlink.types import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cfsctl.varlink.handles import Handles
    from cfsctl.varlink.options import ServiceOptions
    from cfsctl.varlink.producers import Producers

    Method = Callable[["Request"], "Reply | None"]


class Reply(NamedTuple):
    """The last, or only, reply to a call.

    Attributes:
        results: By name, or None if the method returns nothing.
        fds: Descriptors to pass, which are closed then.
    """

    results: Mapping[str, object] | None
    fds: Sequence[int] = ()


class Stream(Protocol):
    """Sends replies before the last one."""

    @property
    def is_wanted(self) -> bool:
        """Whether the client takes more than one."""

    def send(self, results: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        """Send one, and wait as long as the client does not read."""

    def offer(self, results: Mapping[str, object]) -> None:
        """Send one if the client is ready for it: what it says is soon out of date."""


class Parameters(JsonFields):
    """The parameters of a call; what is wrong with one is an error of the call."""

    __slots__ = ()

    def fail(self, key: str, expected: str, found: object) -> NoReturn:
        """Raise the error for a parameter.

        Raises:
            ParameterError: Always.
        """
        path = self._path + key
        raise ParameterError(f"{path}: expected {expected}, found {found}", field=path)

    def _check_string(self, key: str, value: object) -> str:
        text = super()._check_string(key, value)
        if "\0" in text:  # which no path and no name can have
            self.fail(key, "text", "a NUL in it")
        return text


class Request(NamedTuple):
    """A call whose parameters have been checked.

    Attributes:
        parameters: Its parameters.
        fds: Descriptors that came with it, borrowed.
        stream: For replies before the last one.
        handles: The repositories of this connection.
        options: How repositories are opened.
        can_pass_fds: Whether descriptors can be returned.
        producers: Processes that go on after the call.
    """

    parameters: Parameters
    fds: Sequence[int]
    stream: Stream
    handles: Handles
    options: ServiceOptions
    can_pass_fds: bool
    producers: Producers

    @property
    def handle(self) -> int:
        """The handle that the call is about."""
        return self.parameters.get_size("handle")
