"""Configured remotes: adding, listing and removing them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cfsctl.errors import CfsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cfsctl.library.paths import StrPath
    from cfsctl.ostree.trust.remotes import Remote


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRemote:
    """A remote that is to be configured.

    Attributes:
        name: Its name.
        url: Where it is: a URL, or ``mirrorlist=URL``.
        gpg_keyrings: Files of OpenPGP keys, binary or armored, of which one must have signed each commit.
        sign_keys: Keys of engines, ``TYPE=inline:KEY`` or ``TYPE=file:PATH``, of which one must have.
        verifies_gpg: Whether a GPG signature is required; None for as libostree does, if there are no
            `sign_keys`.
        verifies_summary: Whether the summary must be signed as well.
        collection_id: Collection that commits must be bound to, or None.
        options: Further options as they stand in the file.
    """

    name: str
    url: str
    gpg_keyrings: Sequence[StrPath] = ()
    sign_keys: Sequence[str] = ()
    verifies_gpg: bool | None = None
    verifies_summary: bool = False
    collection_id: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def list_remotes(directory: StrPath | None = None) -> dict[str, Mapping[str, str]]:
    """Return the options of all configured remotes by name, as they stand in their files.

    Args:
        directory: Where remotes are configured; None is ``/etc/ostree/remotes.d``.

    Raises:
        CfsError: A file cannot be read.
    """
    from cfsctl.ostree.trust.remote_files import list_remote_options

    return list_remote_options(_directory(directory))


def add_remote(new: NewRemote, directory: StrPath | None = None, *, replace: bool = False) -> Remote:
    """Configure a remote, for this program and for libostree.

    Args:
        new: The remote.
        directory: Where remotes are configured; None is ``/etc/ostree/remotes.d``.
        replace: Replace a remote of this name.

    Raises:
        CfsError: There is one of this name, or it could not be used as it is; nothing has changed.
        OSError: The files cannot be written.
    """
    from cfsctl.ostree.trust.remote_files import add_remote as write_remote
    from cfsctl.ostree.trust.remotes import load_keyrings

    keyring = load_keyrings(os.fspath(path) for path in new.gpg_keyrings) if new.gpg_keyrings else b""
    return write_remote(_directory(directory), new.name, _options(new), keyring, replace=replace)


def remove_remote(name: str, directory: StrPath | None = None) -> list[str]:
    """Remove a configured remote and its keys; return the files that were changed or removed.

    Args:
        name: Its name.
        directory: Where remotes are configured; None is ``/etc/ostree/remotes.d``.

    Raises:
        CfsError: There is no such remote.
        OSError: A file cannot be changed.
    """
    from cfsctl.ostree.trust.remote_files import remove_remote as remove

    return remove(_directory(directory), name)


def describe_remote(remote: Remote) -> dict[str, object]:
    """Return what is required of what comes from a remote, for people and programs.

    Returns:
        ``commits``, ``summaries``: kinds of signatures that are required; ``gpg_keys``: fingerprints of the
        keys that are accepted; ``sign_keys``: the others, as text.
    """
    from cfsctl.ostree.trust.openpgp import list_fingerprints

    policy = remote.policy
    return {
        "commits": _kinds(policy.commits.engines, is_gpg=policy.commits.gpg),
        "summaries": _kinds(policy.summaries.engines, is_gpg=policy.summaries.gpg),
        "gpg_keys": sorted(list_fingerprints(policy.keyring)),
        "sign_keys": [f"{key.engine} {key.name}" for key in policy.keys],
    }


def _kinds(engines: Sequence[str], *, is_gpg: bool) -> list[str]:
    return [*(["gpg"] if is_gpg else []), *engines]


def _directory(directory: StrPath | None) -> str:
    from cfsctl.ostree.trust.remotes import DEFAULT_DIRECTORY

    return os.fspath(directory) if directory is not None else DEFAULT_DIRECTORY


def _options(new: NewRemote) -> dict[str, str]:
    verifies_gpg = new.verifies_gpg
    if verifies_gpg is None:
        verifies_gpg = bool(new.gpg_keyrings) or not new.sign_keys
    options = {"url": new.url, "gpg-verify": _word(verifies_gpg)}
    engines: list[str] = []
    for text in new.sign_keys:
        engine, _, key = text.partition("=")
        kind, colon, value = key.partition(":")
        if not colon or kind not in {"inline", "file"}:
            raise CfsError(f"{text!r}: expected TYPE=inline:KEY or TYPE=file:PATH")
        option = f"verification-{engine}-{'key' if kind == 'inline' else 'file'}"
        if option in options:
            raise CfsError(
                f"{engine}: expected one key on the command line, found two",
                hint="write them to a file, a line each, and name it with file:PATH",
            )
        options[option] = os.path.abspath(value) if kind == "file" else value
        engines += [] if engine in engines else [engine]
    if engines:
        options["sign-verify"] = ";".join(engines)
    if new.verifies_summary:
        options["gpg-verify-summary"] = _word(verifies_gpg)
        if engines:
            options["sign-verify-summary"] = ";".join(engines)
    if new.collection_id is not None:
        options["collection-id"] = new.collection_id
    return options | dict(new.options)


def _word(value: bool) -> str:  # noqa: FBT001 - it is what is put into words
    return "true" if value else "false"
