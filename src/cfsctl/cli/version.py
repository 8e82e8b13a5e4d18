"""Which program this is, and what it is made of."""

from __future__ import annotations

import sys
from typing import Final

from cfsctl import __version__
from cfsctl.cli.output import is_terminal, print_document, print_line

_LABEL_WIDTH: Final = 16

FIRST_LINE: Final = f"cfsctl {__version__}"
"""All that is printed where a script may read it, as by the original."""

IMPLEMENTATION: Final = "Python; compatible with cfsctl of composefs-rs"


def print_version(*, is_verbose: bool, as_json: bool) -> None:
    """Print the version: one line for scripts, one more on a terminal, and everything if that is wanted."""
    if as_json:
        print_document({"version": __version__, "implementation": "python", **_find_parts()})
        return
    print_line(FIRST_LINE)
    if is_verbose or is_terminal():
        _print_row("implementation", IMPLEMENTATION)
    if is_verbose:
        for name, text in _find_parts().items():
            _print_row(name, text or "not installed")


def _print_row(name: str, text: str) -> None:
    print_line(f"{name + ':':<{_LABEL_WIDTH}}{text}")


def _find_parts() -> dict[str, str | None]:
    """Return what the program is made of, and what the kernel can do, by name."""
    from cfsctl.fsverity.lanes import describe_lanes
    from cfsctl.library.doctor import find_version, iter_kernel_findings

    lanes = describe_lanes()
    return {
        "python": f"{sys.implementation.name} {'.'.join(map(str, sys.version_info[:3]))}",
        "libcurl": find_version("pycurl"),
        "isal": find_version("isal"),
        "lanes": None if lanes is None else "; ".join(f"{name} {way}" for name, way in lanes.items()),
        **{one.name: one.found for one in iter_kernel_findings()},
    }
