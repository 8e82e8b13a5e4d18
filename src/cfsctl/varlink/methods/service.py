"""org.varlink.service: what every varlink service says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cfsctl
from cfsctl.varlink.calls import Reply
from cfsctl.varlink.errors import CallError
from cfsctl.varlink.interfaces import NAMES, SERVICE, load_interface

if TYPE_CHECKING:
    from cfsctl.varlink.calls import Method, Request

_VENDOR: Final = "org.composefs"
_URL: Final = "https://github.com/composefs/composefs-rs"


def _get_info(_request: Request) -> Reply:
    return Reply(
        {
            "vendor": _VENDOR,
            "product": "cfsctl",
            "version": cfsctl.__version__,
            "url": _URL,
            "interfaces": list(NAMES),
        }
    )


def _get_interface_description(request: Request) -> Reply:
    name = request.parameters.get_string("interface")
    if name not in NAMES:
        raise CallError(SERVICE, "InterfaceNotFound", interface=name)
    return Reply({"description": load_interface(name).description})


METHODS: Final[dict[str, Method]] = {
    "GetInfo": _get_info,
    "GetInterfaceDescription": _get_interface_description,
}
