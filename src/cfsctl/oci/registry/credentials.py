"""Credentials for registries: ``auth.json``, Docker's ``config.json``, and credential helpers.

    {"auths": {"quay.io": {"auth": base64 of USER:PASSWORD}, "quay.io/name": …},
     "credHelpers": {"gcr.io": "NAME of docker-credential-NAME"}, "credsStore": "NAME for all"}

The entry for the longest part of an image's name counts. A helper is a program that is asked on its standard
input; it is found by its name in PATH, never by a path.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import selectors
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode, describe
from cfsctl.http.auth import Credentials
from cfsctl.json_fields import JsonError, JsonFields, parse_object
from cfsctl.oci.registry.files import RegistryConfigError, read_config_file
from cfsctl.oci.registry.names import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
_DOCKER_HUB_NAMES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_HELPER_TIMEOUT_S: Final = 60
_MAX_HELPER_BYTES: Final = 1 << 20
_NOT_FOUND: Final = "credentials not found"
_IDENTITY_USER: Final = "<token>"


class CredentialHelperError(CfsError):
    """A credential helper that failed."""

    exit_code = ExitCode.ERROR


def find_credentials(auth_files: Iterable[str], repository: str, helper_path: str) -> Credentials | None:
    """Return the credentials for an image, or None if there are none.

    Args:
        auth_files: Files that may have some, the first that does counts; they need not be there.
        repository: Host and path of the image.
        helper_path: Where helpers are looked for, as in PATH.

    Raises:
        RegistryConfigError: A file is not valid.
        CredentialHelperError: A helper failed.
        OSError: A file cannot be read.
    """
    for path in auth_files:
        data = read_config_file(path)
        if not data:
            continue
        try:
            found = _find_in_file(parse_object(data, path), repository, helper_path)
        except JsonError as error:
            raise RegistryConfigError(str(error), field=error.field) from error
        if found is not None:
            return found
    return None


def _find_in_file(fields: JsonFields, repository: str, helper_path: str) -> Credentials | None:
    host = repository.partition("/")[0]
    helpers = fields.find_strings("credHelpers")
    for key in (host, *([_DOCKER_HUB_KEY] if host == DOCKER_HUB else [])):
        if key in helpers:
            return ask_helper(helpers[key], key, helper_path)
    auths = fields.find_fields("auths")
    entry = None if auths is None else _find_entry(auths, repository)
    found = None if entry is None else _parse_entry(entry)
    store = fields.find_string("credsStore")
    if found is None and store:
        return ask_helper(store, _DOCKER_HUB_KEY if host == DOCKER_HUB else host, helper_path)
    return found


def _find_entry(auths: JsonFields, repository: str) -> JsonFields | None:
    by_name: dict[str, str] = {}
    for key in auths.list_keys():
        by_name.setdefault(_normalize(key), key)
    for name in _iter_names(repository):
        if name in by_name:
            return auths.get_fields(by_name[name])
    return None


def _iter_names(repository: str) -> Iterator[str]:
    """Yield a name and what it is below, down to the host."""
    while repository:
        yield repository
        repository = repository.rpartition("/")[0]


def _normalize(key: str) -> str:
    """Return the host, or host and path, that a key of ``auths`` stands for."""
    is_url = key.startswith(("http://", "https://"))
    name = key.partition("://")[2] if is_url else key
    host, _, _ = name.partition("/")
    if host in _DOCKER_HUB_NAMES:
        return name.replace(host, DOCKER_HUB, 1) if not is_url and host == DOCKER_HUB else DOCKER_HUB
    # Docker writes URLs of servers, whose paths say nothing.
    return host if is_url else name.rstrip("/")


def _parse_entry(entry: JsonFields) -> Credentials | None:
    token = entry.find_string("identitytoken") or ""
    text = entry.find_string("auth") or ""
    if not text:
        return Credentials("", "", token) if token else None
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        entry.fail("auth", "base64 of USER:PASSWORD", "something else")
    user, colon, password = decoded.partition(":")
    if not colon or not user:
        entry.fail("auth", "base64 of USER:PASSWORD", "no colon or no user")
    # Docker's old clients have left zeros at the end.
    return Credentials(user, password.rstrip("\0"), token)


def ask_helper(name: str, server: str, helper_path: str) -> Credentials | None:
    """Return what a credential helper knows of a server, or None.

    Raises:
        CredentialHelperError: It is not installed, or fails.
    """
    if not _HELPER_NAME.fullmatch(name):
        raise CredentialHelperError(f"credential helper {name!r}: expected a name without slashes")
    command = f"docker-credential-{name}"
    program = shutil.which(command, path=helper_path)
    if program is None:
        raise CredentialHelperError(
            f"{command}: not found in PATH", hint="install it, or remove it from the file with credentials"
        )
    try:
        with subprocess.Popen(
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PATH": helper_path},
        ) as process:
            try:
                output, messages = _talk(process, f"{server}\n".encode(), command)
            finally:
                process.kill()  # harmless if it has ended
    except OSError as error:
        raise CredentialHelperError(f"{command}: {describe(error)}") from error
    if process.returncode:
        text = (output.strip() or messages.strip()).decode(errors="replace")
        if _NOT_FOUND in text:
            return None
        status = process.returncode
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise CredentialHelperError(f"{command} get {server}: {': '.join(filter(None, (how, text[:200])))}")
    return _parse_answer(output, command)


def _talk(process: subprocess.Popen[bytes], question: bytes, command: str) -> tuple[bytes, bytes]:
    """Ask a helper; return what it has written to standard output and to standard error when it has ended.

    Raises:
        CredentialHelperError: It takes too long, or writes too much.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(question)  # which fits into a pipe
    deadline = time.monotonic() + _HELPER_TIMEOUT_S
    texts = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    output, messages = texts.values()
    with selectors.DefaultSelector() as selector:
        for fd in texts:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                raise CredentialHelperError(f"{command}: no answer within {_HELPER_TIMEOUT_S} seconds")
            for key, _ in ready:
                data = os.read(key.fd, _MAX_HELPER_BYTES)
                texts[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
            limit = _MAX_HELPER_BYTES
            if max(len(output), len(messages)) > limit:
                raise CredentialHelperError(f"{command}: expected at most {limit} bytes, found more")
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise CredentialHelperError(f"{command}: does not end within {_HELPER_TIMEOUT_S} seconds") from None
    return bytes(output), bytes(messages)


def _parse_answer(output: bytes, command: str) -> Credentials | None:
    try:
        fields = parse_object(output, f"answer of {command}")
        user, secret = fields.find_string("Username") or "", fields.find_string("Secret") or ""
    except JsonError as error:
        raise CredentialHelperError(str(error)) from error
    if user == _IDENTITY_USER:
        return Credentials("", "", secret)
    return Credentials(user, secret) if user or secret else None
