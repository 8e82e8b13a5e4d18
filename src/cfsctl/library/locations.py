"""Where repositories are that were not named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM_REPOSITORY: Final = "/sysroot/composefs"
"""The system's repository."""

_USER_PATH: Final = ".var/lib/composefs"


class HomeMissingError(CfsError):
    """No HOME in the environment, which the user's repository is found by."""

    exit_code = ExitCode.NO_REPOSITORY


def find_user_repository(environment: Mapping[str, str]) -> str:
    """Return where the user's repository is.

    Raises:
        HomeMissingError: The environment does not say where the user's home is.
    """
    home = environment.get("HOME")
    if not home:
        raise HomeMissingError(
            "$HOME must be set when in user mode", hint="name the repository with --repo or CFSCTL_REPO"
        )
    return os.path.join(home, _USER_PATH)
