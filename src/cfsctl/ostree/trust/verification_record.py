"""The record of the signatures by which a stored commit was trusted, as an object that its stream names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, cast

from cfsctl.ostree.trust.verdict import SignatureError, ValidSignature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.digest import ObjectID
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.repository import Repository

MAX_RECORD_BYTES: Final = 1 << 20


def store_record(repository: Repository, verified: Iterable[ValidSignature]) -> ObjectID:
    """Store which signatures were found good, as an object that the commit's stream has to name then."""
    text = json.dumps([one._asdict() for one in verified], sort_keys=True, separators=(",", ":"))
    return repository.objects.ensure_bytes(text.encode()).object_id


def read_record(repository: Repository, stream: CommitStream) -> list[ValidSignature]:
    """Return the signatures that were found good when a commit was stored; none if none were looked at.

    Raises:
        SignatureError: The record is not such a list.
        IntegrityError: It is missing, or damaged.
    """
    if stream.record is None:
        return []
    what = f"record of signatures of {stream.checksum.hex()}"
    status = repository.objects.stat(stream.record)
    if status is not None and status.st_size > MAX_RECORD_BYTES:
        raise SignatureError(f"{what}: expected at most {MAX_RECORD_BYTES} bytes, found {status.st_size}")
    try:
        entries = json.loads(repository.objects.read(stream.record))
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"{what}: expected JSON, found {error}") from error
    if not isinstance(entries, list):
        raise SignatureError(f"{what}: expected a list, found another value")
    return [_parse_entry(what, entry) for entry in entries]


def _parse_entry(what: str, entry: object) -> ValidSignature:
    """Return one signature of a record.

    Raises:
        SignatureError: It is invalid.
    """
    if isinstance(entry, dict) and entry.keys() <= set(ValidSignature._fields):
        engine, key = entry.get("engine"), entry.get("key")
        time_s, user = entry.get("time_s"), entry.get("user")
        texts = [engine, key] if user is None else [engine, key, user]
        is_time = time_s is None or (isinstance(time_s, int) and not isinstance(time_s, bool))
        if is_time and all(isinstance(text, str) and _is_unicode(text) for text in texts):
            return ValidSignature(**cast("dict[str, str]", entry))  # type: ignore[arg-type]
    raise SignatureError(f"{what}: expected engine, key, time and user, found something else")


def _is_unicode(text: str) -> bool:
    """Return whether a text can be written in UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
