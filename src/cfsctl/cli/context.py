"""Global options and the repository they lead to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.repository import Repository

T = TypeVar("T")

SYSTEM_PATH = "/sysroot/composefs"
USER_PATH = ".var/lib/composefs"


class NoRepositoryAllowedError(CfsError):
    """``--no-repo`` with a command that needs a repository."""

    exit_code = ExitCode.USAGE


class HomeMissingError(CfsError):
    """No HOME in the environment, which the user's repository is found by."""

    exit_code = ExitCode.NO_REPOSITORY


@dataclass(slots=True)
class Session:
    """What stands before the sub-command.

    Attributes:
        repo: Path given with ``--repo``, or None.
        user: ``--user`` was given.
        system: ``--system`` was given.
        hash_name: ``sha256`` or ``sha512``, or None where the repository decides.
        erofs_version: Format for this invocation, or None.
        insecure: Open the repository as insecure.
        require_verity: Refuse an insecure repository.
        no_upgrade: Never write meta.json into an old repository.
        no_repo: Do without a repository.
    """

    repo: str | None
    user: bool
    system: bool
    hash_name: str | None
    erofs_version: int | None
    insecure: bool
    require_verity: bool
    no_upgrade: bool
    no_repo: bool

    @property
    def algorithm(self) -> Algorithm | None:
        """The hash named on the command line."""
        return Algorithm.from_hash_name(self.hash_name) if self.hash_name else None

    @property
    def format_version(self) -> FormatVersion | None:
        """The image format named on the command line."""
        if self.erofs_version is None:
            return None
        from cfsctl.erofs.format import FormatVersion  # noqa: PLC0415

        return FormatVersion(self.erofs_version)

    def repository_path(self) -> str:
        """Return where the repository is: as named, else the system's for root, else the user's."""
        if self.repo is not None:
            return self.repo
        if self.system or (not self.user and os.getuid() == 0):
            return SYSTEM_PATH
        home = os.environ.get("HOME")
        if not home:
            raise HomeMissingError(
                "$HOME must be set when in user mode", hint="name the repository with --repo"
            )
        return os.path.join(home, USER_PATH)

    def open_repository(self) -> Repository:
        """Open the repository as the global options say; use it as a context manager."""
        if self.no_repo:
            raise NoRepositoryAllowedError(
                "--no-repo is only supported for compute-id and create-dumpfile",
                hint="leave --no-repo out, or name a repository with --repo",
            )
        from cfsctl.repository import Repository  # noqa: PLC0415

        return Repository.open(
            self.repository_path(),
            algorithm=self.algorithm,
            upgrade=not self.no_upgrade,
            insecure=self.insecure,
            require_verity=self.require_verity,
            erofs_version=self.format_version,
        )


pass_session = click.make_pass_decorator(Session)
