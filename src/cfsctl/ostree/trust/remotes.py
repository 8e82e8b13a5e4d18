"""Configured remotes in libostree's format: URL, connection options, and required signatures.

    remotes.d/*.conf               [remote "NAME"] groups, as in a repository's config
    NAME.trustedkeys.gpg           keys of a remote, next to these files

``gpg-verify`` defaults to true. If a remote has its own keys, only these are trusted for it; otherwise, those
of the system are. Lists of revoked keys always apply.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode, describe
from cfsctl.linux.files import open_regular, read_all
from cfsctl.ostree.key_file import BLANKS
from cfsctl.ostree.key_file import parse_key_file as parse_config
from cfsctl.ostree.trust.gpg import MAX_KEYRING_BYTES, merge_keyrings
from cfsctl.ostree.trust.keys import ENGINES, MAX_KEY_FILE_BYTES, SignKey, parse_key, parse_key_file
from cfsctl.ostree.trust.policy import Requirement, TrustPolicy
from cfsctl.ostree.trust.verdict import UnusableKeyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DEFAULT_DIRECTORY: Final = "/etc/ostree/remotes.d"

SYSTEM_KEYRINGS: Final = "/usr/share/ostree/trusted.gpg.d"
SYSTEM_KEY_DIRECTORIES: Final = ("/etc/ostree", "/usr/share/ostree")

MAX_CONFIG_BYTES: Final = 1 << 20

_GROUP: Final = re.compile(r'remote "([^"]+)"')
_NOT_KEYRINGS: Final = frozenset({"trustdb.gpg", "secring.gpg"})
_WORDS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class RemoteConfigError(CfsError):
    """A configuration of a remote that cannot be used."""

    exit_code = ExitCode.POLICY


class RemoteNotConfiguredError(CfsError):
    """A name that no configuration of a remote has."""

    exit_code = ExitCode.NOT_FOUND


@dataclass(frozen=True, slots=True)
class Remote:
    """A configured remote.

    Attributes:
        name: Its name.
        options: Its options as they are in the file.
        policy: What it has to prove.
    """

    name: str
    options: Mapping[str, str]
    policy: TrustPolicy

    @property
    def url(self) -> str:
        """Return where it is.

        Raises:
            RemoteConfigError: It does not say.
        """
        url = self.options.get("url")
        if not url:
            hint = "metalink is not read: url=mirrorlist=URL is" if "metalink" in self.options else None
            raise RemoteConfigError(f"remote '{self.name}': expected a url, found none", hint=hint)
        return url


def load_remote(name: str, directory: str = DEFAULT_DIRECTORY) -> Remote:
    """Return a remote.

    Args:
        name: Its name.
        directory: A directory of ``*.conf`` files and keyrings, or an OSTree repository.

    Raises:
        RemoteNotConfiguredError: No file there has it.
        RemoteConfigError: What the file says cannot be used.
        UnusableKeyError, SignatureError: A key cannot be used, or there is none where one is needed.
    """
    for path in _config_files(directory):
        options = read_config(path).get(name)
        if options is not None:
            return make_remote(name, options, directory)
    from cfsctl.http.urls import redact_url  # only for a message

    # It may be a URL in which something was omitted.
    raise RemoteNotConfiguredError(
        f"remote '{redact_url(name)}' is not configured in {directory}", hint=_explain(name, directory)
    )


def _explain(name: str, directory: str) -> str:
    """Return what may have been meant by a name that no remote has."""
    if os.path.isdir(name):
        return f"it is a directory: use `cfsctl ostree pull-local {name} REF`"
    host, slash, _ = name.partition("/")
    if ("." in host or ":" in host or host == "localhost") and (slash or ":" in host):
        return f"if it is a server, write its URL: https://{name} or http://{name}"
    from cfsctl.repository.names.names import suggest  # only for those who mistype

    known = sorted(other for path in _config_files(directory) for other in read_config(path))
    usage = "a URL such as https://HOST/PATH, or the name of a remote, stands before the refs"
    if not known:
        return usage
    return suggest(name, known) or f"{usage}; remotes: {', '.join(known[:_MAX_SHOWN])}"


_MAX_SHOWN: Final = 5
"""Remotes that a hint lists."""


def _config_files(directory: str) -> list[str]:
    config = os.path.join(directory, "config")
    if os.path.isdir(os.path.join(directory, "objects")):
        return [config]
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [os.path.join(directory, name) for name in names if name.endswith(".conf")]


def read_config(path: str) -> dict[str, dict[str, str]]:
    """Return the options of the remotes of a file, by name.

    Raises:
        RemoteConfigError: It cannot be read, or is not text.
    """
    return parse_remotes(read_text(path))


def read_text(path: str) -> str:
    """Return the text of a configuration file.

    Raises:
        RemoteConfigError: It cannot be read, or is not text.
    """
    try:
        text = read_file(path, MAX_CONFIG_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RemoteConfigError(f"{path}: {describe(error)}") from error
    if "\0" in text:
        raise RemoteConfigError(f"{path}: expected text, found a NUL character")
    return text


def parse_remotes(text: str) -> dict[str, dict[str, str]]:
    """Return the options of the remotes that a configuration file has, by name."""
    groups = parse_config(text).items()
    return {match[1]: options for group, options in groups if (match := _GROUP.fullmatch(group))}


def read_file(path: str, limit_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: It cannot be read, or is larger than this.
    """
    fd = open_regular(-100, os.path.realpath(path))
    try:
        return read_all(fd, limit_bytes)
    finally:
        os.close(fd)


def make_remote(
    name: str, options: dict[str, str], directory: str, *, keyring: bytes | None = None
) -> Remote:
    """Return a remote with the keys that it is verified by.

    Args:
        name: Its name.
        options: Its options as they are in the file.
        directory: Where the file is, and keys may be.
        keyring: Its own OpenPGP keys, binary; None for those that are in files.

    Raises:
        RemoteConfigError: An option cannot be used.
        UnusableKeyError, SignatureError: A key cannot be used, or there is none where one is needed.
    """
    where = f"remote '{name}'"
    for key, meaning in (
        ("unconfigured-state", "is not configured"),
        ("custom-backend", "needs another program"),
    ):
        if key in options:
            raise RemoteConfigError(f"{where} {meaning}: {options[key]}")
    keys = _load_sign_keys(options, where)
    policy = TrustPolicy(
        commits=Requirement(
            _flag(options, "gpg-verify", where, default=True), _engines(options, "sign-verify", keys)
        ),
        summaries=Requirement(
            _flag(options, "gpg-verify-summary", where, default=False),
            _engines(options, "sign-verify-summary", keys),
        ),
        keyring=(_load_keyring(name, options, directory) if keyring is None else keyring)
        if _uses_gpg(options, where)
        else b"",
        keys=keys,
        collection_id=options.get("collection-id") or None,
    )
    policy.check_keys(where)
    return Remote(name, options, policy)


def _flag(options: Mapping[str, str], key: str, where: str, *, default: bool) -> bool:
    text = options.get(key)
    if text is None:
        return default
    value = _WORDS.get(text.strip(BLANKS).lower())
    if value is None:
        raise RemoteConfigError(f"{where}: {key}: expected true or false, found '{text}'")
    return value


def _uses_gpg(options: Mapping[str, str], where: str) -> bool:
    return _flag(options, "gpg-verify", where, default=True) or _flag(
        options, "gpg-verify-summary", where, default=False
    )


def _engines(options: Mapping[str, str], key: str, keys: Iterable[SignKey]) -> tuple[str, ...]:
    """Return the engines that an option names; ``true`` is those that have keys, and at least one name."""
    text = options.get(key, "").strip(BLANKS)
    word = _WORDS.get(text.lower())
    if not text or word is False:
        return ()
    if word:
        return tuple(engine for engine in ENGINES if any(k.engine == engine for k in keys)) or ENGINES
    names = tuple(filter(None, (name.strip(BLANKS) for name in text.split(";"))))
    unknown = [name for name in names if name not in ENGINES]
    if unknown:
        raise RemoteConfigError(f"{key}: expected {' or '.join(ENGINES)}, found '{unknown[0]}'")
    return names


# --- keys -----------------------------------------------------------------------------------------


def _load_keyring(name: str, options: Mapping[str, str], directory: str) -> bytes:
    """Return the OpenPGP keys of a remote."""
    own = os.path.join(directory, f"{name}.trustedkeys.gpg")
    paths = [own] if os.path.exists(own) else []
    paths += [
        path
        for entry in re.split(r"[;,]", options.get("gpgkeypath", ""))
        if entry.strip(BLANKS)
        for path in _list_files(entry.strip(BLANKS))
    ]
    if not paths and "gpgkeypath" not in options:
        paths = [path for path in _list_files(SYSTEM_KEYRINGS, must_exist=False) if path.endswith(".gpg")]
    return load_keyrings(path for path in paths if os.path.basename(path) not in _NOT_KEYRINGS)


def load_keyrings(paths: Iterable[str]) -> bytes:
    """Return the keys of several files together, each with all that any of them has about it.

    Raises:
        UnusableKeyError: A file cannot be read, or has none.
    """
    return merge_keyrings(_read_keyrings(paths))


def _read_keyrings(paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    room = MAX_KEYRING_BYTES
    for path in paths:
        data = _read_keys(path, room)
        room -= len(data)
        yield path, data


def _read_keys(path: str, limit_bytes: int) -> bytes:
    try:
        return read_file(path, limit_bytes)
    except OSError as error:
        raise UnusableKeyError(f"{path}: {error.strerror}") from error


def _list_files(path: str, *, must_exist: bool = True) -> list[str]:
    """Return a file, or the files of a directory."""
    if os.path.isdir(path):
        return sorted(entry.path for entry in os.scandir(path) if entry.is_file())
    return [path] if must_exist or os.path.exists(path) else []


def _load_sign_keys(options: Mapping[str, str], where: str) -> list[SignKey]:
    """Return the keys of the sign engines for a remote, without revoked ones."""
    keys = []
    for engine in ENGINES:
        own = []
        if text := options.get(f"verification-{engine}-key"):
            own.append(parse_key(engine, text, f"{where}: verification-{engine}-key"))
        if path := options.get(f"verification-{engine}-file"):
            own += read_sign_keys(engine, path)
        keys += own or _system_keys(engine, "trusted")
    return without_revoked(keys)


def without_revoked(keys: Iterable[SignKey]) -> list[SignKey]:
    """Return the keys that no list of the system calls revoked."""
    revoked = {key.identity for engine in ENGINES for key in _system_keys(engine, "revoked")}
    return [key for key in keys if key.identity not in revoked]


def read_sign_keys(engine: str, path: str) -> list[SignKey]:
    """Return the keys of a file.

    Raises:
        UnusableKeyError: It cannot be read, or has none.
    """
    return parse_key_file(engine, _read_keys(path, MAX_KEY_FILE_BYTES), path)


def _system_keys(engine: str, kind: str) -> list[SignKey]:
    keys = []
    for directory in SYSTEM_KEY_DIRECTORIES:
        for name in (f"{kind}.{engine}", f"{kind}.{engine}.d"):
            for path in _list_files(os.path.join(directory, name), must_exist=False):
                keys += read_sign_keys(engine, path)
    return keys
