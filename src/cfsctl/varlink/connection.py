"""One connection: its calls are answered in order, one after the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, describe
from cfsctl.logs import get_logger
from cfsctl.varlink.calls import Parameters, Reply, Request
from cfsctl.varlink.channel import close_all
from cfsctl.varlink.errors import CallError, invalid_parameter, method_not_found
from cfsctl.varlink.handles import Handles, InvalidHandleError
from cfsctl.varlink.interfaces import NAMES, SERVICE, load_interface
from cfsctl.varlink.messages import InvalidCallError, MessageError, decode_call, encode_error, encode_reply
from cfsctl.varlink.methods import fill_in, find_methods
from cfsctl.varlink.producers import Producers
from cfsctl.varlink.signals import CallEndedError
from cfsctl.varlink.types import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cfsctl.varlink.channel import Channel, ReceivedMessage
    from cfsctl.varlink.idl import Interface
    from cfsctl.varlink.messages import Call
    from cfsctl.varlink.options import ServiceOptions
    from cfsctl.varlink.registry import HandleStore
    from cfsctl.varlink.signals import CallSignals

_LOG = get_logger(__name__)

_PAUSE_S: Final = 0.1
"""Between two replies that are only offered."""


class Connection:
    """Answers the calls of one connection."""

    def __init__(
        self, channel: Channel, handles: HandleStore, options: ServiceOptions, signals: CallSignals
    ) -> None:
        """Answer nothing yet.

        Args:
            channel: The connection, borrowed.
            handles: Knows the handles of all connections.
            options: How repositories are opened.
            signals: End calls.
        """
        self._channel = channel
        self._options = options
        self._signals = signals
        self._handles = Handles(handles, options)
        self._producers = Producers(channel.close)

    def run(self) -> None:
        """Answer calls until the client ends the connection, breaks the protocol, or the service ends."""
        self._answer_all()
        # What a client has passed on to somebody else may still be read.
        self._handles.close_all()
        try:
            with self._signals.interruptible(with_client=False):
                self._producers.wait()
        except CallEndedError:
            self._producers.kill()

    def _answer_all(self) -> None:
        while not self._signals.is_ending:
            try:
                with self._signals.interruptible(with_client=False):
                    message = self._channel.receive()
            except (MessageError, OSError) as error:
                _LOG.info("connection closed: %s", error)
                return
            except CallEndedError:
                return
            if message is None or not self._answer(message):
                return

    def _answer(self, message: ReceivedMessage) -> bool:
        """Answer one call; return False if the connection is of no further use."""
        try:
            call = decode_call(message.data)
            with self._signals.interruptible(with_client=not call.is_oneway):
                self._perform(call, message.fds)
        except InvalidCallError as error:
            return self._send_error(invalid_parameter(error.field or "method"))
        except MessageError as error:
            _LOG.info("connection closed: %s", error)
            return False
        except CallEndedError:
            return not self._signals.is_ending  # calls without a reply may still wait to be read
        except OSError:
            return False
        finally:
            close_all(message.fds)
        return True

    def _perform(self, call: Call, fds: Sequence[int]) -> None:
        """Perform a call, and send its reply.

        Raises:
            OSError: The reply could not be sent.
        """
        interface_name, _, method = call.method.rpartition(".")
        try:
            reply = self._run_method(call, interface_name, method, fds)
        except CallError as error:
            if not call.is_oneway:
                self._channel.send(encode_error(error.name, error.parameters))
            return
        try:
            if not call.is_oneway:
                load_interface(interface_name).check_reply(method, reply.results)
                self._channel.send(encode_reply(reply.results), reply.fds)
        finally:
            close_all(reply.fds)

    def _send_error(self, error: CallError) -> bool:
        try:
            self._channel.send(encode_error(error.name, error.parameters))
        except OSError:
            return False
        return True

    def _run_method(self, call: Call, interface_name: str, method: str, fds: Sequence[int]) -> Reply:
        """Return the reply to a call.

        Raises:
            CallError: It is answered with an error.
        """
        call = call._replace(parameters=fill_in(call.method, call.parameters))
        interface = self._check(call, interface_name, method)
        request = Request(
            Parameters(call.parameters, "call"),
            fds,
            _Stream(self._channel, interface, method, call),
            self._handles,
            self._options,
            self._channel.can_pass_fds,
            self._producers,
        )
        try:
            return find_methods(interface_name)[method](request) or Reply(None)
        except CallError:
            raise
        except InvalidHandleError:
            raise CallError(interface_name, "InvalidHandle", handle=request.handle) from None
        except ParameterError as error:
            raise invalid_parameter(error.field or "parameters") from error
        except ClientGoneError:
            raise CallEndedError from None
        except (CfsError, OSError) as error:
            # Without the hint, which is for users of the command line.
            raise CallError(interface_name, "InternalError", message=describe(error)) from error
        except Exception as error:
            # A fault of this program must neither end the connection nor stay unseen.
            _LOG.exception("%s", call.method)
            message = f"internal error: {type(error).__name__}: {error}"
            raise CallError(interface_name, "InternalError", message=message) from error

    @staticmethod
    def _check(call: Call, interface_name: str, method: str) -> Interface:
        if interface_name not in NAMES:
            raise method_not_found(call.method)
        interface = load_interface(interface_name)
        if method not in interface.methods:
            raise method_not_found(call.method)
        if call.is_upgrade:
            raise CallError(SERVICE, "MethodNotImplemented", method=call.method)
        try:
            interface.check_call(method, call.parameters)
        except ParameterError as error:
            raise invalid_parameter(error.field or "parameters") from error
        return interface


class ClientGoneError(Exception):
    """Nobody reads replies any more."""


class _Stream:
    """Sends replies before the last one; see `cfsctl.varlink.calls.Stream`."""

    def __init__(self, channel: Channel, interface: Interface, method: str, call: Call) -> None:
        self._channel = channel
        self._interface = interface
        self._method = method
        self._next_s = 0.0
        self.is_wanted = call.wants_more and not call.is_oneway

    def send(self, results: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        if not self.is_wanted:
            return
        self._interface.check_reply(self._method, results)
        try:
            self._channel.send(encode_reply(results, continues=True), fds)
        except OSError as error:
            raise ClientGoneError from error

    def offer(self, results: Mapping[str, object]) -> None:
        now = time.monotonic()
        if now < self._next_s or not self.is_wanted or not self._channel.is_ready():
            return
        self._next_s = now + _PAUSE_S
        self.send(results)
