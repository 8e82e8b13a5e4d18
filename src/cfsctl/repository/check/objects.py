"""Check the objects of a repository: each one's content against its name."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from cfsctl.errors import ExitCode, RepositoryError, describe
from cfsctl.fsverity.kernel import VerityMissingError, VerityUnsupportedError, measure
from cfsctl.fsverity.merkle import READ_SIZE, FileDigester, SmallFiles
from cfsctl.linux.files import open_listed, open_regular
from cfsctl.linux.flags import DIRECTORY_FLAGS
from cfsctl.linux.syscalls import openat2
from cfsctl.repository.check.report import Tally

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm, ObjectID

_LOWER_HEX = re.compile(r"[0-9a-f]+\Z")
_NO_HEX = re.compile(r"[^0-9a-f]")


class CheckFailedError(RepositoryError):
    """A check that could not be made, so that nothing is known about the repository."""

    exit_code = ExitCode.CORRUPTION


class CheckDeniedError(CheckFailedError):
    """A check that this user may not make, which does not mean damage."""

    exit_code = ExitCode.ERROR


def make_check_failure(message: str, error: Exception) -> CheckFailedError:
    """Return what a check fails with."""
    if isinstance(error, PermissionError):
        return CheckDeniedError(message, hint="run it as a user who may read all of the repository")
    return CheckFailedError(message)


def describe_errno(error: OSError) -> str:
    """Return an error of the system in the words of the original."""
    number = error.errno or 0
    return f"{os.strerror(number)} (os error {number})"


def _list_names(directory: int) -> list[tuple[str, bool]]:
    """Return the names in a directory, sorted, and whether each is that of a regular file."""
    with os.scandir(directory) as entries:
        return sorted((entry.name, entry.is_file(follow_symlinks=False)) for entry in entries)


class ObjectChecker:
    """Checks objects, one fan-out directory at a time."""

    def __init__(self, dirfd: int, algorithm: Algorithm, *, is_secure: bool, is_deep: bool) -> None:
        """Prepare for objects of one kind.

        Args:
            dirfd: The repository's directory, borrowed.
            algorithm: Hash algorithm of the IDs.
            is_secure: Whether every object must have fs-verity.
            is_deep: Compute digests even of objects protected by fs-verity.
        """
        self._root = dirfd
        self._algorithm = algorithm
        self._is_secure = is_secure
        self._is_deep = is_deep
        self._digester = FileDigester(algorithm)
        self._small = SmallFiles(algorithm)
        self._waiting: list[str] = []
        self._may_have_verity = True
        self._name_length = 2 * (algorithm.digest_size - 1)

    def check(self, fan_out: str) -> Tally:
        """Check all objects whose IDs start with one byte.

        Raises:
            CheckFailedError: The directory cannot be read.
        """
        tally = Tally()
        try:
            directory = self._open(fan_out)
        except FileNotFoundError:
            return tally
        except OSError as error:
            message = f"checking objects: opening objects/{fan_out} directory: {error.strerror}"
            raise make_check_failure(message, error) from error
        problems: dict[str, str] = {}
        try:
            for name, is_file in _list_names(directory):
                tally.count("objects")
                problem = self._check_one(directory, fan_out, name, is_file=is_file)
                if problem is not None:
                    problems[name] = problem
                if self._small.is_full:
                    self._check_waiting(fan_out, problems)
            if self._waiting:
                self._check_waiting(fan_out, problems)
        finally:
            os.close(directory)
        for name in sorted(problems):
            tally.find(problems[name], corrupts="objects")
            tally.damaged.add(f"{fan_out}/{name}")
        return tally

    def _check_waiting(self, fan_out: str, problems: dict[str, str]) -> None:
        """Compare the digests of small objects that were read with their names."""
        for name, measured in zip(self._waiting, self._small.finish(), strict=True):
            if measured.hex() != fan_out + name:
                found = f"measured {measured.hex()}"
                problems[name] = f"object-digest-mismatch: objects/{fan_out}/{name}: {found}"
        self._waiting.clear()

    def _open(self, fan_out: str) -> int:
        objects = os.open("objects", DIRECTORY_FLAGS, dir_fd=self._root)
        try:
            return os.open(fan_out, DIRECTORY_FLAGS, dir_fd=objects)
        finally:
            os.close(objects)

    def _check_one(self, directory: int, fan_out: str, name: str, *, is_file: bool) -> str | None:
        """Return what is wrong with one object, or None; small ones may wait for `_check_waiting`."""
        path = f"objects/{fan_out}/{name}"
        if len(name) != self._name_length or not _LOWER_HEX.match(name):
            return f"object-invalid-name: {path}: {self._explain_name(name)}"
        try:
            fd = open_listed(directory, name) if is_file else open_regular(directory, name)
        except IsADirectoryError:
            return f"object-verity-failed: {path}: Computing verity digest in userspace"
        except OSError as error:
            return f"object-open-failed: {path}: {_explain_open(directory, name, error)}"
        try:
            return self._check_content(fd, fan_out, name)
        finally:
            os.close(fd)

    def _explain_name(self, name: str) -> str:
        if len(name) != self._name_length:
            return "Invalid string length"
        match = _NO_HEX.search(name)
        assert match is not None
        return f"Invalid character {match[0]!r} at position {match.start()}"

    def _check_content(self, fd: int, fan_out: str, name: str) -> str | None:
        path = f"objects/{fan_out}/{name}"
        try:
            measured = self._measure(fd)
        except (VerityMissingError, VerityUnsupportedError):
            return f"object-verity-missing: {path}"
        except OSError as error:
            return f"object-verity-failed: {path}: {describe(error)}"
        if measured is None or (self._is_deep and measured.hex() == fan_out + name):
            try:
                size = os.fstat(fd).st_size
                if size <= READ_SIZE and self._small.take(fd, size) <= size:
                    self._waiting.append(name)
                    return None
                measured, _ = self._digester.compute(fd)
            except OSError as error:
                reason = describe_errno(error)
                return f"object-verity-failed: {path}: Computing verity digest in userspace: {reason}"
        if measured.hex() != fan_out + name:
            return f"object-digest-mismatch: {path}: measured {measured.hex()}"
        return None

    def _measure(self, fd: int) -> ObjectID | None:
        """Return the fs-verity digest, or None if the file has none and none is required."""
        if not self._may_have_verity:
            return None
        try:
            return measure(fd, self._algorithm)
        except VerityUnsupportedError:
            if self._is_secure:
                raise
            self._may_have_verity = False
        except VerityMissingError:
            if self._is_secure:
                raise
        return None


def _explain_open(directory: int, name: str, error: OSError) -> str:
    """Return why an object could not be opened; what is wrong with a link is where it leads."""
    if error.errno == errno.ELOOP:
        try:
            os.close(openat2(directory, name, os.O_PATH))
        except FileNotFoundError as inner:
            return describe_errno(inner)
        except OSError as inner:
            if inner.errno == errno.ELOOP:
                return describe_errno(inner)
        return "expected a regular file, found a symbolic link"
    if error.errno == errno.EINVAL:
        return str(error.strerror)
    return describe_errno(error)
