"""Names, limits and the error of static deltas.

A delta turns a commit, or nothing, into another one. It is a superblock, which holds the new commit and says
what is in the parts, and numbered parts, each a payload with a program that makes objects of it.

    deltas/TO[0:2]/TO[2:]/             directory of a delta from nothing
    deltas/FROM[0:2]/FROM[2:]-TO/      directory of a delta between commits
    …/superblock, …/0, …/1, …          its files
    delta-indexes/TO[0:2]/TO[2:].index which deltas lead to a commit

TO and FROM are base64 of the checksum without padding, ``/`` written ``_``.

Format: libostree's ``OSTREE_STATIC_DELTA_SUPERBLOCK_FORMAT`` and its relatives.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl.digest import Checksum
from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from cfsctl.digest import Checksum as _Checksum

MAX_SUPERBLOCK_BYTES: Final = 128 << 20
"""Bytes of a superblock that is fetched, or whose signatures are verified."""

MAX_SUPERBLOCK_HELD_BYTES: Final = 32 << 20
"""Bytes of each member of a superblock that is held in memory; inline parts are not."""

MAX_DELTA_OBJECTS: Final = 500_000
"""Objects that the parts of a delta make: more is better fetched one by one."""

MAX_SUPERBLOCK_FILE_BYTES: Final = 4 << 30
"""Bytes of a superblock with inline parts, which are not held in memory."""

MAX_INDEX_BYTES: Final = 16 << 20
"""Bytes of a list of the deltas that lead to one commit; each takes some 200."""

MAX_SUPERBLOCK_VALUES: Final = 1_000_000
"""Values in the list of parts or of fallback objects; a part has five."""

MAX_PART_PLAIN_BYTES: Final = 16 << 30
"""Bytes of an uncompressed part, which goes to a file. libostree aims at 32 MB."""

MAX_TABLE_BYTES: Final = 16 << 20
"""Bytes of each of a part's tables (modes, extended attributes, program), which are held in memory."""

PART_SLACK_BYTES: Final = 16 << 20
"""What a part may have beyond what follows from the sizes that the superblock announces."""

_NAME: Final = re.compile(r"(?:([0-9a-f]{64})-)?([0-9a-f]{64})")


class DeltaError(FormatError):
    """Bytes that are not a static delta, or a delta that does not make what it says."""

    def about(self, name: str) -> DeltaError:
        """Return the same error with the name of the thing in front of the message."""
        return DeltaError(f"{name}: {self}", offset=self.offset, field=self.field, hint=self.hint)


def fail(field: str, expected: str, found: object, *, offset: int | None = None) -> NoReturn:
    """Raise the error for a field that is not as it should be."""
    raise DeltaError(f"{field}: expected {expected}, found {found}", field=field, offset=offset)


def encode_id(checksum: _Checksum) -> str:
    """Return a checksum as the names of deltas have it: 43 characters."""
    return base64.b64encode(checksum, b"+_").decode("ascii").rstrip("=")


def delta_directory(from_checksum: _Checksum | None, to_checksum: _Checksum) -> str:
    """Return the directory of a delta below the repository, without a slash at its end."""
    name = encode_id(to_checksum)
    if from_checksum is not None:
        name = f"{encode_id(from_checksum)}-{name}"
    return f"deltas/{name[:2]}/{name[2:]}"


def index_path(to_checksum: _Checksum) -> str:
    """Return the path of the list of deltas that lead to a commit."""
    name = encode_id(to_checksum)
    return f"delta-indexes/{name[:2]}/{name[2:]}.index"


def parse_delta_name(text: str) -> tuple[_Checksum | None, _Checksum] | None:
    """Return the two commits of ``TO`` or ``FROM-TO``, as summaries have it; None for any other text."""
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    start = Checksum(bytes.fromhex(match[1])) if match[1] else None
    return start, Checksum(bytes.fromhex(match[2]))


def describe_delta(from_checksum: _Checksum | None, to_checksum: _Checksum) -> str:
    """Return what messages call a delta."""
    start = "nothing" if from_checksum is None else from_checksum.hex()
    return f"delta from {start} to {to_checksum.hex()}"
