"""Global options and the repository that they select."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import click

import cfsctl
from cfsctl.cli.progress import Progress
from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError
from cfsctl.library.locations import SYSTEM_REPOSITORY, HomeMissingError, find_user_repository
from cfsctl.progress import Message

if TYPE_CHECKING:
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.library.repository import Repository


class NoRepositoryAllowedError(CfsError):
    """``--no-repo`` with a command that needs a repository."""


class Computation(NamedTuple):
    """How an image ID is computed where no repository is opened."""

    algorithm: Algorithm
    format_version: FormatVersion

    def describe(self) -> str:
        """Return both as words."""
        return f"{self.algorithm.hash_name} and image format {self.format_version.value}"


class Session(NamedTuple):
    """What stands before the sub-command.

    Attributes:
        repo: Path given with ``--repo``, or None.
        user: ``--user`` was given.
        system: ``--system`` was given.
        hash_name: ``sha256`` or ``sha512``, or None if the repository decides.
        format_version: Image format for this invocation, or None.
        insecure: Open the repository as insecure.
        require_verity: Refuse an insecure repository.
        no_upgrade: Never write meta.json into an old repository.
        no_repo: Do without a repository.
        as_json: Print results as JSON.
        progress: Where messages and progress go.
        verbose: Print more about what is done.
        lock_timeout_s: Longest time to wait for the lock of a repository; None waits forever.
        fsync: When what is written reaches the disk: ``per-object``, ``barrier`` or ``none``.
    """

    repo: str | None
    user: bool = False
    system: bool = False
    hash_name: str | None = None
    format_version: FormatVersion | None = None
    insecure: bool = False
    require_verity: bool = False
    no_upgrade: bool = False
    no_repo: bool = False
    as_json: bool = False
    progress: Progress = Progress()
    verbose: bool = False
    lock_timeout_s: float | None = None
    fsync: str = "barrier"

    @property
    def algorithm(self) -> Algorithm | None:
        """The hash named on the command line."""
        return Algorithm.from_hash_name(self.hash_name) if self.hash_name else None

    @property
    def names_repository(self) -> bool:
        """Whether the command line says where the repository is."""
        return self.repo is not None or self.user or self.system

    def repository_path(self) -> str:
        """Return where the repository is: as named, else the system's for root, else the user's."""
        if self.repo is not None:
            return self.repo
        if self.system or (not self.user and os.getuid() == 0):
            return SYSTEM_REPOSITORY
        return find_user_repository(os.environ)

    def place_of_repository(self) -> str:
        """Return where the repository is or would be; the working directory where nothing says so."""
        try:
            return self.repository_path()
        except HomeMissingError:
            return "."

    def open(self) -> Repository:
        """Open the repository as the global options say; use it as a context manager."""
        if self.no_repo:
            raise NoRepositoryAllowedError(
                "--no-repo is only supported for compute-id and create-dumpfile",
                hint="leave --no-repo out, or name a repository with --repo",
            )
        path = self.repository_path()
        try:
            repository = self._open_at(path, self.algorithm)
        except cfsctl.NotARepositoryError as error:
            if not self.names_repository:
                error.hint = (
                    "no repository was named, so the default one was looked for: name one with --repo PATH"
                    f" or CFSCTL_REPO, or create this one with `cfsctl init {path}`"
                )
            raise
        if self.verbose:
            self.progress(Message(f"{path}: {_describe(repository)}"))
        return repository

    def open_other(self, path: str) -> Repository:
        """Open a second repository, of whichever hash; use it as a context manager."""
        return self._open_at(path, None)

    def _open_at(self, path: str, algorithm: Algorithm | None) -> Repository:
        return cfsctl.Repository.open(
            path,
            algorithm=algorithm,
            upgrade=not self.no_upgrade,
            insecure=self.insecure,
            require_verity=self.require_verity,
            erofs_version=self.format_version,
            lock_timeout_s=self.lock_timeout_s,
            durability=cfsctl.Durability(self.fsync),
            progress=self.progress,
        )

    def computation(self) -> Computation:
        """Return hash and image format for a command that computes without needing a repository.

        A repository that the command line names decides about both. Otherwise the hash of the default
        repository is used if there is one, then ``--hash``, then SHA-512; and format 1 unless
        ``--erofs-version`` says otherwise. Where the command line names what is not a repository, that is
        said on standard error.
        """
        from cfsctl.erofs.format import FormatVersion
        from cfsctl.library.setup import read_configuration

        version = FormatVersion.V1 if self.format_version is None else self.format_version
        fallback = Computation(self.algorithm or Algorithm.SHA512, version)
        if self.no_repo:
            return fallback
        expected = self.algorithm if self.names_repository else None
        try:
            found = read_configuration(self.repository_path(), expected, may_infer=not self.no_upgrade)
        except (cfsctl.NotARepositoryError, HomeMissingError) as error:
            if self.names_repository:
                self.progress(Message(f"{error}; continuing with {fallback.describe()}"))
            return fallback
        if not self.names_repository:
            return Computation(found.algorithm, fallback.format_version)
        if self.format_version is None:
            version = found.erofs_versions[0]
        return Computation(found.algorithm, version)


def _describe(repository: Repository) -> str:
    formats = ", ".join(str(version.value) for version in repository.configuration.erofs_versions)
    verity = "enforces fs-verity" if repository.is_secure else "does without fs-verity"
    return f"{repository.algorithm.hash_name}, images of format {formats}, {verity}"


pass_session = click.make_pass_decorator(Session)
